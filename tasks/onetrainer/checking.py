"""The settings of an import against our own models: what they refuse is left out and told."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from tasks.config import layers, presets
from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.config.problems import from_pydantic
from tasks.config.schema import Place, all_keys
from tasks.onetrainer.convert import Converted, Setting, Untaken
from tasks.onetrainer.rows import Left

MAX_ROUNDS = 20


@dataclass(frozen=True)
class Base:
    """What a setting means where run.toml does not say it."""

    config: Mapping[str, Any]
    concept: Mapping[str, Any]

    def value(self, key: str) -> Any:
        """The value under one of our dotted keys."""
        names = key.split(".")
        table: Any = self.concept if names[0] == "concepts" else self.config
        for name in names[2:] if names[0] == "concepts" else names:
            table = table.get(name) if isinstance(table, Mapping) else None
        return table


def checked(converted: Converted) -> Converted:
    """Without the settings that our models refuse; those are among what was left out."""
    settings, left = dict(converted.settings), list(converted.left)
    for _ in range(MAX_ROUNDS):
        bad = _refused(settings, converted.preset)
        for place, message in bad.items():
            key = ".".join(map(str, place))
            for one in [one for one in settings if one == key or key.startswith(f"{one}.")]:
                setting = settings.pop(one)
                left.append(Untaken(setting.origin, setting.value, _because(message)))
        if not bad:
            break
    taken = {setting.origin for setting in settings.values()}
    lost = sum(1 for one in left[len(converted.left) :] if one.key not in taken)
    return replace(converted, settings=settings, left=left, num_mapped=converted.num_mapped - lost)


def short(converted: Converted) -> dict[str, Setting]:
    """The settings that say more than preset and defaults do, in the order of our models."""
    base = base_of(converted)
    order: dict[str, int] = {}
    for key in all_keys():
        order.setdefault(key, len(order))

    def rank(key: str) -> tuple[int, int, int]:
        names = key.split(".")
        place = order[".".join("0" if name.isdecimal() else name for name in names)]
        return (
            (order["concepts"], int(names[1]), place) if names[0] == "concepts" else (place, 0, 0)
        )

    kept = {
        key: _told_default(setting)
        for key, setting in converted.settings.items()
        if setting.always or setting.note or not _equal(setting.value, base.value(key))
    }
    return {key: kept[key] for key in sorted(kept, key=rank)}


def base_of(converted: Converted) -> Base:
    """What the preset and our defaults say for the method and the optimizer of an import."""
    above: dict[str, Any] = {"model": {"family": "", "base": ""}, "concepts": [], "train": {}}
    for table in ("method", "optimizer"):
        if (kind := converted.settings.get(f"train.{table}.kind")) is not None:
            above["train"][table] = {"kind": kind.value}
    data = layers.merged(_preset(converted.preset), above)
    config = Config.model_validate(data).model_dump(mode="json")
    if converted.preset:
        config["model"]["family"] = _preset(converted.preset)["model"]["family"]
    return Base(config, Concept(path="").model_dump(mode="json"))


def nested(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The settings as the tables that a TOML file would hold."""
    data: dict[str, Any] = {}
    for key, setting in settings.items():
        names = key.split(".")
        table: Any = data
        if names[0] == "concepts":
            concepts = data.setdefault("concepts", [])
            number = int(names[1])
            concepts += [{} for _ in range(number + 1 - len(concepts))]
            table, names = concepts[number], names[2:]
        for name in names[:-1]:
            table = table.setdefault(name, {})
        table[names[-1]] = setting.value
    return data


def _refused(settings: Mapping[str, Setting], preset: str | None) -> dict[Place, str]:
    """Place and message of every value that our models refuse."""
    data = layers.merged(_preset(preset), nested(settings))
    try:
        Config.model_validate(data)
    except ValidationError as error:
        found = from_pydantic(error, data, lambda _: "")
        return {place: problem.message for place, problem in found.items()}
    return {}


def _preset(name: str | None) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for layer in layers.read_layers(presets.file_of(name)) if name else ():
        data = layers.merged(data, layer.data)
    return data


def _because(message: str) -> Left:
    return Left("different", f"the value {message}")


def _told_default(setting: Setting) -> Setting:
    """Says that a line comes from OneTrainer's defaults, not from the file."""
    if setting.note or not setting.is_default:
        return setting
    return replace(setting, note="OneTrainer's default")


def _equal(value: Any, base: Any) -> bool:
    """Whether two values mean the same; true and 1 do not."""
    return bool(value == base) and isinstance(value, bool) == isinstance(base, bool)
