"""The forms of deployments: their fields, and the configuration that a filled form means.

Forms are flat and hold texts, numbers, switches and choices only: whatever else there is breaks in
one of Prefect's two user interfaces. A field that is left alone says nothing; the file counts then.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.fields import FieldInfo

from tasks.config import presets, schema
from tasks.config.loading import load_form
from tasks.config.models import Config, StageName
from tasks.config.overrides import Override

NO_PRESET = "none"
AS_CONFIGURED = "as configured"
SETTINGS: Mapping[str, str] = {
    "photos": "concepts.0.path",
    "store": "store.url",
    "base_model": "model.base",
    "output": "model.output",
    "dataset_name": "data.name",
    "resolution": "data.resolution",
    "detail_crops": "concepts.*.image.detail_crops.enabled",
    "captioning": "concepts.*.image.detail_crops.enable_captioning",
    "epochs": "train.epochs",
    "max_steps": "train.max_steps",
    "batch_size": "train.batch_size",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "learning_rate": "train.learning_rate",
    "optimizer": "train.optimizer.kind",
    "rank": "train.method.rank",
    "refresh": "refresh",
    "review_captions": "review_captions",
}
"""The setting that a field stands for."""
SWITCHES = ("detail_crops", "captioning")
"""Those that are on, off, or as configured."""


def field(title: str, text: str, *, choices: tuple[str, ...] = ()) -> FieldInfo:
    """How a field looks. Prefect itself calls every field by the name of its parameter."""
    shown: dict[str, Any] = {"title": title, "description": text}
    return Field(json_schema_extra=shown | ({"enum": [*choices]} if choices else {}))  # type: ignore[no-any-return]


def _setting(name: str, title: str, text: str = "", *, choices: tuple[str, ...] = ()) -> FieldInfo:
    """The field of a setting, explained as the configuration does it."""
    known = _known(SETTINGS[name])
    told = " ".join(str(known.description).split()).replace(
        "`", ""
    )  # one interface shows the ticks
    return field(title, text or told, choices=choices)


def _known(setting: str) -> FieldInfo:
    """What the configuration says about a setting."""
    *above, name = setting.replace("*", "0").split(".")
    tables = schema.tables(schema.type_at(tuple(above), {}))
    return next(table.model_fields[name] for table in tables.values() if name in table.model_fields)


_SWITCH = (AS_CONFIGURED, "on", "off")
_OPTIMIZERS = tuple(schema.tables(schema.type_at(("train", "optimizer"), {})))

_Unset = Annotated[None, Field(title=AS_CONFIGURED)]
_Whole = Annotated[int, Field(ge=1, title="whole number")]
_Number = Annotated[float, Field(gt=0, title="number")]

ConfigFile = Annotated[
    str,
    field(
        "Configuration file",
        "A TOML file as the worker sees it; or left empty, where a preset is chosen. All other "
        "fields may stay as they are: then the file or the preset counts.",
    ),
]
Preset = Annotated[
    str,
    field(
        "Preset",
        "In place of a configuration file; then also say the folder of photos and the base model.",
        choices=(NO_PRESET, *presets.names()),
    ),
]
Photos = Annotated[str, _setting("photos", "Folder of photos", "Of the first concept.")]
StorePlace = Annotated[str, _setting("store", "Store")]
BaseModel = Annotated[str, _setting("base_model", "Base model")]
Output = Annotated[str, _setting("output", "Finished model")]
DatasetName = Annotated[str, _setting("dataset_name", "Dataset")]
Resolution = Annotated[str, _setting("resolution", "Resolution")]
Tiles = Annotated[
    str,
    _setting(
        "detail_crops",
        "Detail crops",
        "Also train on tiles of the originals, in every concept.",
        choices=_SWITCH,
    ),
]
Captioning = Annotated[str, _setting("captioning", "Caption tiles", choices=_SWITCH)]
Epochs = Annotated[_Whole | _Unset, _setting("epochs", "Epochs")]
MaxSteps = Annotated[_Whole | _Unset, _setting("max_steps", "Steps at most")]
BatchSize = Annotated[_Whole | _Unset, _setting("batch_size", "Batch size")]
Accumulation = Annotated[
    _Whole | _Unset, _setting("gradient_accumulation_steps", "Gradient accumulation")
]
LearningRate = Annotated[_Number | _Unset, _setting("learning_rate", "Learning rate")]
OptimizerKind = Annotated[
    str,
    _setting(
        "optimizer", "Optimizer", "With its default options.", choices=(AS_CONFIGURED, *_OPTIMIZERS)
    ),
]
Rank = Annotated[_Whole | _Unset, _setting("rank", "Rank of the adapter")]
Refresh = Annotated[list[StageName], _setting("refresh", "Make anew")]
ReviewCaptions = Annotated[
    bool,
    _setting(
        "review_captions",
        "Review captions",
        "Pause before new captions are encoded, until a person has looked at them.",
    ),
]
Overrides = Annotated[str, field("Other settings", "Lines of a.b=c that go over everything else.")]
DatasetVersion = Annotated[
    str, field("Dataset version", "As NAME@N; left empty, the latest one of the configuration.")
]
ResumedRun = Annotated[str, field("Go on with", "The run_id of a run that crashed or was stopped.")]
NewData = Annotated[
    bool, field("Although the data changed", "Go on with a run although the dataset is another.")
]
StopAfterSteps = Annotated[
    _Whole | _Unset,
    field("Stop after steps", "Stop early, with a backup; schedules stay as they are."),
]
DryRun = Annotated[
    bool, field("Dry run", "Only say what would be done and why; see the artifact plan.")
]


def configured(form: Mapping[str, Any]) -> Config:
    """The configuration that a filled form means.

    Args:
        form: the parameters of the flow; those that are no settings are passed over.

    Raises:
        ConfigError: lists what is wrong, each with the field that it comes from.
    """
    preset = form.get("preset", NO_PRESET)
    return load_form(
        form["config_file"].strip(),
        "" if preset == NO_PRESET else preset,
        _filled(form),
        form["overrides"].splitlines(),
    )


def _filled(form: Mapping[str, Any]) -> Iterator[Override]:
    for name, setting in SETTINGS.items():
        value = form.get(name)
        if value is None or value is False or value in ("", AS_CONFIGURED, []):
            continue
        if name in SWITCHES:
            value = value == "on"
        yield f"the form's {name}", tuple(setting.split(".")), json.dumps(value, ensure_ascii=False)
