"""The forms of deployments: what they look like, and what a filled one means."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import Flow
from prefect.utilities.callables import parameter_schema

from flows import form
from flows.collect_garbage import collect_garbage
from flows.draw_samples import draw_samples
from flows.prepare_dataset import prepare_dataset
from flows.run_pipeline import run_pipeline
from flows.train_model import train_model
from tasks.config.models import Config
from tasks.config.problems import ConfigError
from tests.tasks.config.conftest import project, write  # noqa: F401

FLOWS: list[Flow[..., Any]] = [
    *(run_pipeline, prepare_dataset, train_model, draw_samples, collect_garbage),
]
SIMPLE = {"string", "integer", "number", "boolean"}


def fields(flow: Flow[..., Any]) -> dict[str, dict[str, Any]]:
    return dict(parameter_schema(flow.fn).properties)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_field_has_a_title_a_help_text_and_a_shape_that_both_interfaces_can_show(
    flow: Flow[..., Any],
) -> None:
    for name, field in fields(flow).items():
        assert field["title"] != name, name
        assert field["description"], name
        kinds = [one.get("type") for one in field.get("anyOf", [field])]
        if name == "refresh":
            assert kinds == ["array"]
        else:
            assert {*kinds} - {"null"} <= SIMPLE, name
            assert len({*kinds} - {"null"}) == 1, name
        assert "$ref" not in str(field), name
        assert "default" in field or name in ("run_or_model", "prompts", "config_or_store")


def test_choices_and_bounds_are_those_of_the_configuration() -> None:
    shown = fields(run_pipeline)
    assert {"none", "sd15-lora", "flux_dev-lora"} <= {*shown["preset"]["enum"]}
    assert shown["refresh"]["items"]["enum"][0] == "scan"
    assert {"adamw", "prodigy", form.AS_CONFIGURED} <= {*shown["optimizer"]["enum"]}
    whole, rate = (shown[name]["anyOf"] for name in ("epochs", "learning_rate"))
    assert whole[0] == {"title": "whole number", "type": "integer", "minimum": 1}
    assert rate[0] == {"title": "number", "type": "number", "exclusiveMinimum": 0}
    assert {one["title"] for one in (whole[1], rate[1])} == {form.AS_CONFIGURED}


def filled(**fields: Any) -> Config:
    return form.configured({"config_file": "", "overrides": "", **fields})


def test_fields_go_over_the_file_and_lines_over_fields(
    write: Callable[..., Path],  # noqa: F811
) -> None:
    config = filled(
        config_file=f" {write()} ",
        epochs=3,
        learning_rate=0.5,
        optimizer="prodigy",
        detail_crops="on",
        captioning=form.AS_CONFIGURED,
        refresh=["text", "latents"],
        review_captions=True,
        overrides="train.epochs=4\n\ntrain.batch_size=2\n",
    )
    assert (config.train.epochs, config.train.batch_size) == (4, 2)
    assert config.train.learning_rate == 0.5
    assert config.train.optimizer.kind == "prodigy"
    crops = config.concepts[0].image.detail_crops
    assert (crops.enabled, crops.enable_captioning) == (True, False)
    assert config.refresh == ("text", "latents")
    assert config.review_captions


def test_a_field_that_is_left_alone_says_nothing(
    write: Callable[..., Path],  # noqa: F811
) -> None:
    file = write("[train]\nepochs = 9\n", text="review_captions = true\n" + RUN_WITH_CROPS)
    config = filled(
        config_file=str(file), epochs=None, detail_crops=form.AS_CONFIGURED, review_captions=False
    )
    assert config.train.epochs == 9
    assert config.review_captions
    assert config.concepts[0].image.detail_crops.enabled
    off = filled(config_file=str(file), detail_crops="off")
    assert not off.concepts[0].image.detail_crops.enabled


PRESET = {"preset": "sd15-lora", "photos": "photos", "base_model": "model"}
RUN_WITH_CROPS = """
extends = "sd15-lora"
model.base = "model"
[[concepts]]
path = "photos"
image.detail_crops.enabled = true
"""


def test_a_preset_needs_no_file(
    project: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project)
    config = filled(preset="sd15-lora", photos="photos", base_model="model", dataset_name="boats")
    assert config.concepts[0].path == str(project / "photos")
    assert config.model.base == str(project / "model")
    assert config.store.url == str(project / "store")
    assert config.data.name == "boats"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "config_file"),
        ({"config_file": "a.toml", "preset": "sd15-lora"}, "one of the two"),
        ({"config_file": "nowhere.toml"}, "there is no such file"),
        ({"preset": "sd15-lora", "base_model": "model"}, "concepts.0.path"),
        ({**PRESET, "rank": 0}, "the form's rank"),
        (
            {**PRESET, "resolution": "wide"},
            "the form's resolution",
        ),
        ({**PRESET, "overrides": "train.epoch=1"}, "train.epochs"),
    ],
)
def test_what_is_wrong_names_its_field(
    project: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    told: str,
) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(ConfigError, match=told):
        filled(**fields)
