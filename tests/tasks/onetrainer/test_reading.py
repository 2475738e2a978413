import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.config.loading import load_config
from tasks.config.problems import ConfigError
from tasks.onetrainer.convert import CONCEPT_ROWS, CONFIG_ROWS
from tasks.onetrainer.importing import import_file
from tests.tasks.onetrainer.onetrainer_files import SD15_LORA, OneTrainer, concept


def refusal(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        import_file(file, file.parent)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not JSON: Expecting property name"),
        ("", "is not JSON"),
        ("[]", "is an empty list"),
        ("[1, 2]", "is no file of OneTrainer's"),
        ('{"width": 3}', "is no file of OneTrainer's"),
        ('[{"prompt": "a boat", "seed": 1}]', "is a list of samples"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_none_of_onetrainers(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    assert why in refusal(file)
    assert str(file) in refusal(file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "concepts.json").write_text("[]")
    assert "did you mean" in refusal(tmp_path / "concept.json")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xe9"}')
    assert "is not UTF-8 text" in refusal(tmp_path / "latin.json")
    (tmp_path / "half.json").write_text('[{"path": "\\ud800"}]')
    assert "is not UTF-8 text" in refusal(tmp_path / "half.json")


def test_a_root_that_is_not_there(onetrainer: OneTrainer) -> None:
    file = onetrainer.preset(SD15_LORA)
    with pytest.raises(ConfigError, match="--root"):
        import_file(file, onetrainer.folder, onetrainer.folder / "nowhere")


def test_a_byte_order_mark_is_no_matter(onetrainer: OneTrainer) -> None:
    file = onetrainer.folder / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(SD15_LORA).encode())
    assert onetrainer.run_toml(file).config.train.batch_size == 4


@pytest.mark.parametrize("name", ["#flux LoRA.json", "SD1.5/#sd 1.5 LoRA.json", "a/b/mine.json"])
def test_relative_paths_start_at_onetrainers_folder(onetrainer: OneTrainer, name: str) -> None:
    file = onetrainer.preset(SD15_LORA, [concept(path="data/boats")], name=name)
    result = onetrainer.run_toml(file)
    assert result.toml["concepts"][0]["path"] == "data/boats"
    assert result.config.concepts[0].path == str(onetrainer.folder / "data/boats")


def test_relative_paths_start_at_the_file_or_at_root(onetrainer: OneTrainer) -> None:
    file = onetrainer.write("elsewhere/mine.json", [concept(path="boats")])
    here = onetrainer.run_toml(file).config
    assert here.concepts[0].path == str(onetrainer.folder / "elsewhere/boats")
    (onetrainer.folder / "root").mkdir()
    there = onetrainer.run_toml(file, onetrainer.folder / "root").config
    assert there.concepts[0].path == str(onetrainer.folder / "root/boats")


def test_absolute_paths_stay(onetrainer: OneTrainer) -> None:
    (onetrainer.folder / "photos").mkdir()
    path = str(onetrainer.folder / "photos")
    result = onetrainer.imported(SD15_LORA, [concept(path=path)])
    assert result.toml["concepts"][0]["path"] == path
    assert result.comment("path") == ""


def test_a_path_of_windows_is_kept_and_told(onetrainer: OneTrainer) -> None:
    path = "C:\\Users\\me\\photos"
    result = onetrainer.imported(SD15_LORA, [concept(path=path)])
    assert result.toml["concepts"][0]["path"] == path
    assert result.comment("path").startswith("a path of Windows")
    relative = onetrainer.imported(SD15_LORA, [concept(path="data\\boats")])
    assert relative.toml["concepts"][0]["path"] == "data/boats"


def test_a_folder_that_is_not_there_is_told(onetrainer: OneTrainer) -> None:
    assert onetrainer.concept(path="photos").comment("path") == "not found on this machine"
    assert "Hugging Face dataset" in onetrainer.concept(path="owner/photos").comment("path")


def test_a_model_is_a_path_where_there_is_one_and_else_a_hub_name(
    onetrainer: OneTrainer,
) -> None:
    assert onetrainer.imported(SD15_LORA).toml["model"]["base"] == SD15_LORA["base_model_name"]
    (onetrainer.folder / "models/mine").mkdir(parents=True)
    local = {**SD15_LORA, "base_model_name": "models/mine"}
    result = onetrainer.imported(local)
    assert result.config.model.base == str(onetrainer.folder / "models/mine")


def test_concepts_that_are_not_found_leave_a_place_for_a_folder(onetrainer: OneTrainer) -> None:
    result = onetrainer.run_toml(onetrainer.preset(SD15_LORA))
    assert result.config.concepts[0].path == str(onetrainer.folder / "photos")
    assert "no concepts were found" in result.comment("path")
    assert "--root names the folder" in result.left["concept_file_name"]
    broken = onetrainer.preset({**SD15_LORA, "concept_file_name": "broken.json"})
    (onetrainer.folder / "broken.json").write_text("{")
    assert "is not JSON" in onetrainer.run_toml(broken).left["concept_file_name"]


def test_concepts_inside_a_saved_configuration(onetrainer: OneTrainer) -> None:
    packed = {**SD15_LORA, "concepts": [concept(name="inside")], "__version": 11}
    result = onetrainer.run_toml(onetrainer.write("workspace/run/config/now.json", packed))
    assert [one.name for one in result.config.concepts] == ["inside"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["LORA", "NEVER", "STEP", "512, 768", "832x1216", "ADAMW", "C:/a", "..", "~"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, name = key.split(".")
        place = data
        for table in tables:
            place = place.setdefault(table, {})
        place[name] = value
    return data


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    said=st.dictionaries(st.sampled_from(sorted(CONFIG_ROWS)), JSON, max_size=8),
    concepts=st.lists(
        st.dictionaries(st.sampled_from(sorted(CONCEPT_ROWS)), JSON, max_size=8), max_size=3
    ),
)
def test_whatever_a_file_says_the_result_loads_and_nothing_is_lost(
    onetrainer: OneTrainer, said: dict[str, Any], concepts: list[dict[str, Any]]
) -> None:
    config = nested({"model_type": "STABLE_DIFFUSION_15", "training_method": "LORA", **said})
    config["concepts"] = [{"path": "photos", **nested(one)} for one in concepts]
    file = onetrainer.write("training_presets/any.json", config)
    result = onetrainer.run_toml(file)
    assert load_config(result.file, env={}, checks=False)
    assert len(result.config.concepts) == max(1, len(concepts))
    assert "\r" not in result.text
