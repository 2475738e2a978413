import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config import presets
from tasks.config.loading import load_config, resolved_preset
from tasks.config.problems import ConfigError


def test_the_presets_there_are() -> None:
    assert presets.names() == ["demo", "sd15-lora", "sdxl-lora"]


@pytest.mark.parametrize("name", presets.names())
def test_a_resolved_preset_is_a_config_file(
    name: str, write: Callable[..., Path], project: Path
) -> None:
    text = resolved_preset(name)
    assert text.startswith(f"# {presets.description(name)}\n")
    assert len(presets.description(name)) > 20
    values = tomllib.loads(text)
    if "sdxl" in name:
        index = '{"_class_name": "StableDiffusionXLPipeline"}'
        (project / "model" / "model_index.json").write_text(index)
    own = [f"model.base={project / 'model'}"]
    if "concepts" not in values:
        own.append(f"concepts=[{{path='{project / 'photos'}'}}]")
    alone = load_config(write(text=text), own, {})
    extending = load_config(write(text=f"extends = '{name}'"), own, {})
    assert alone == extending


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean sdxl-lora"):
        resolved_preset("sdxl-lra")
