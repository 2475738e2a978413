import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.presets_command import preset_lines, preset_rows
from tasks.config import presets
from tasks.config.loading import load_config, resolved_preset
from tasks.config.problems import ConfigError
from tasks.families import FAMILIES

Write = Callable[..., Path]


def test_there_are_presets_for_a_lora_and_the_whole_model_of_every_family() -> None:
    wanted = {f"{family}-{method}" for family in FAMILIES for method in ("lora", "full")}
    assert wanted <= set(presets.names())


def test_shared_layers_are_not_listed() -> None:
    assert not any(name.startswith("_") for name in presets.names())
    assert presets.file_of("_sdxl").is_file()


@pytest.mark.parametrize("name", presets.names())
def test_a_resolved_preset_is_a_config_file(name: str, write: Write, project: Path) -> None:
    text = resolved_preset(name)
    assert text.startswith(f"# {presets.description(name)}\n")
    values = tomllib.loads(text)
    pipeline = FAMILIES[values["model"]["family"]].pipeline
    index = json.dumps({"_class_name": pipeline})
    (project / "model" / "model_index.json").write_text(index)
    own = [f"model.base={project / 'model'}"]
    if "concepts" not in values:
        own.append(f"concepts=[{{path='{project / 'photos'}'}}]")
    alone = load_config(write(text=text), own, {})
    extending = load_config(write(text=f"extends = '{name}'"), own, {})
    assert alone == extending
    if name != "demo":
        # What the name says is what it does.
        family, method = name.split("-")[:2]
        assert alone.model.family == family
        assert alone.train.method.kind == method
        assert f"{presets.description(name)} ".count(" GB") == 1


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match='did you mean "sdxl-lora"'):
        resolved_preset("sdxl-lra")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("TILEWRIGHT_PRESETS", str(folder))
    return folder


def test_a_preset_of_ones_own_extends_ours_and_is_listed_as_such(own: Path, write: Write) -> None:
    text = "# My boats, 6 GB.\nextends = 'sd15-lora'\n[train]\nepochs = 3\n"
    (own / "boats.toml").write_text(text)
    file = write(text="extends = 'boats'\n[model]\nbase = 'model'\n[[concepts]]\npath = 'photos'\n")
    config = load_config(file, [], {})
    assert (config.train.epochs, config.train.method.kind) == (3, "lora")
    assert config.concepts[0].path == str(file.parent / "photos")
    row = preset_rows()[-1]
    assert row == {
        "name": "boats",
        "description": "My boats, 6 GB.",
        "family": "sd15",
        "method": "lora",
        "memory_gb": 6,
        "own": True,
    }
    assert preset_lines([row])[0] == "yours, for sd15"


def test_a_preset_of_ones_own_never_hides_one_of_ours(own: Path, write: Write) -> None:
    (own / "sd15-lora.toml").write_text("# Mine.\n")
    with pytest.raises(ConfigError, match=r"one of Tilewright|and one of yours: rename"):
        load_config(write(), [], {})
