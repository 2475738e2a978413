from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.methods import FullMethod
from tasks.config.problems import ConfigError

Write = Callable[..., Path]


def test_the_smallest_config_gets_preset_values_defaults_and_absolute_paths(
    write: Write, project: Path
) -> None:
    config = load_config(write(), env={})
    assert config.train.schedule.kind == "cosine"  # of the preset
    assert config.train.clip_grad_norm == 1.0  # of the models
    assert config.concepts[0].name == "photos"
    assert config.concepts[0].path == str(project / "photos")
    assert config.model.base == str(project / "model")
    assert config.model.output == str(project / "lora.safetensors")
    assert config.store.url == str(project / "store")
    assert config.workspace == str(project / "runs")


def test_layers_merge_tables_and_replace_lists(write: Write) -> None:
    write("[train]\nepochs = 3\nsample = { prompts = ['a', 'b'], seed = 1 }\n", name="base.toml")
    middle = "extends = 'base.toml'\n[train]\nbatch_size = 7\nsample = { prompts = ['c'] }\n"
    write(name="middle.toml", text=middle)
    top = write(text="extends = './middle.toml'\n[train]\nbatch_size = 2\n")
    train = load_config(top, env={}).train
    assert (train.epochs, train.batch_size) == (3, 2)
    assert (train.sample.prompts, train.sample.seed) == (("c",), 1)


def test_paths_are_relative_to_the_file_that_says_them(write: Write, project: Path) -> None:
    write("[store]\nurl = 'cache'\n", name="shared/base.toml")
    (project / "shared" / "photos").mkdir()
    top = write(
        text="extends = 'shared/base.toml'\n[model]\nbase = 'model'\noutput = 'a.safetensors'"
    )
    config = load_config(top, env={})
    assert config.store.url == str(project / "shared" / "cache")
    assert config.concepts[0].path == str(project / "shared" / "photos")
    assert config.model.base == str(project / "model")
    assert config.model.output == str(project / "a.safetensors")


def test_a_star_stands_for_every_position_of_a_list(write: Write, project: Path) -> None:
    (project / "more").mkdir()
    file = write("[[concepts]]\npath = 'more'\n")
    config = load_config(file, ["concepts.*.repeats=3", "concepts.1.repeats=2"], env={})
    assert [concept.repeats for concept in config.concepts] == [3, 2]
    with pytest.raises(ConfigError, match="is no list"):
        load_config(file, ["train.*.epochs=3"], env={})


def test_urls_and_hub_names_are_no_paths(write: Write) -> None:
    file = write(
        "[store]\nurl = 's3://bucket/prefix'\n",
        text="""
        extends = "sd15-lora"
        model.base = "runwayml/stable-diffusion"
        concepts = [{ path = "s3://bucket/photos" }]
    """,
    )
    config = load_config(file, env={}, checks=False)
    assert config.store.url == "s3://bucket/prefix"
    assert config.model.base == "runwayml/stable-diffusion"
    assert (config.concepts[0].path, config.concepts[0].name) == ("s3://bucket/photos", "photos")


def test_another_method_replaces_the_table_of_the_preset(write: Write) -> None:
    full = "[model]\nbase = 'model'\noutput_format = 'diffusers'\noutput = 'out'\n"
    text = f"extends = 'sd15-lora'\n{full}[[concepts]]\npath = 'photos'\n"
    file = write("[train]\nmethod = { kind = 'full' }\n", text=text)
    assert load_config(file, env={}).train.method == FullMethod()


@pytest.mark.parametrize("key", ["train.method.kind=full", "train.method={kind='full'}"])
def test_another_method_can_be_set(write: Write, key: str) -> None:
    options = [key, "model.output_format=diffusers", "model.output=out"]
    assert load_config(write(), options, {}).train.method.kind == "full"


def test_another_schedule_keeps_the_settings_that_both_have(write: Write) -> None:
    config = load_config(write(), ["train.schedule.kind=linear"], {})
    assert (config.train.schedule.kind, config.train.schedule.warmup_steps) == ("linear", 100)


def test_the_environment_comes_after_the_file_and_set_comes_last(write: Write) -> None:
    env = {"TILEWRIGHT__TRAIN__EPOCHS": "4", "TILEWRIGHT__TRAIN__SEED": "5", "OTHER": "1"}
    env["TILEWRIGHT__STORE__URL"] = "s3://other/store"
    config = load_config(write("[train]\nepochs = 3\n"), ["train.seed=6"], env)
    assert (config.train.epochs, config.train.seed) == (4, 6)
    assert config.store.url == "s3://other/store"


def test_set_takes_toml_values_list_positions_and_bare_text(write: Write) -> None:
    options = [
        "concepts.0.repeats=2",
        "concepts.0.image.detail_crops.scales=[2, 3]",
        "concepts.0.image.detail_crops.scales.1=4",
        "data.name=my-set",
        "data.resolution=512,768",
        "train.sample={steps=3}",
    ]
    config = load_config(write(), options, {})
    assert config.concepts[0].repeats == 2
    assert config.concepts[0].image.detail_crops.scales == (2.0, 4.0)
    assert (config.data.name, config.data.resolution) == ("my-set", "512,768")
    assert (config.train.sample.steps, config.train.sample.guidance) == (3, 7.0)


def test_a_number_for_a_text_setting_is_text_when_set(write: Write) -> None:
    assert load_config(write(), ["data.resolution=768"], {}).data.resolution == "768"


def test_paths_that_are_set_start_here(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_config(file, ["store.url=cache"], {}).store.url == str(elsewhere / "cache")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("train.epochs", "must look like key=value"),
        ("concepts.3.repeats=2", "positions: 0 to 0"),
        ("train.epochs.x=2", "no settings inside"),
        ("train.sample.prompts=[1,", "is no TOML value"),
    ],
)
def test_an_override_that_fits_nowhere_is_refused(write: Write, option: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_config(write(), [option], {})


def test_layers_that_go_round_are_refused(write: Write) -> None:
    write(name="b.toml", text="extends = 'a.toml'\n")
    file = write(name="a.toml", text="extends = 'b.toml'\n")
    with pytest.raises(ConfigError, match=r"a\.toml -> .*b\.toml -> .*a\.toml"):
        load_config(file, env={})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("extends = 'sd15-lorra'", 'did you mean "sd15-lora"'),
        ("extends = 'bass.toml'", "did you mean base.toml"),
        ("extends = 3", "must be the name of a preset"),
        ("extends = ", "is not valid TOML"),
    ],
)
def test_a_layer_that_cannot_be_read_is_named(write: Write, text: str, told: str) -> None:
    write(name="base.toml")
    with pytest.raises(ConfigError, match=told):
        load_config(write(text=text), env={})


def test_a_missing_file_names_its_neighbour(write: Write, project: Path) -> None:
    write()
    with pytest.raises(ConfigError, match=r"did you mean .*run\.toml"):
        load_config(project / "runn.toml", env={})
