"""Config files, layer over layer: `extends`, merging, paths relative to the file that says them."""

import os.path
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config import presets, schema
from tasks.config.problems import ConfigError, Problem, as_toml, nearest
from tasks.config.schema import Place

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PATH_SETTINGS = frozenset(
    {
        "store.url",
        "workspace",
        "model.base",
        "model.config_folder",
        "train.method.initial",
        "model.output",
        "concepts.0.path",
        "concepts.0.prompt_path",
        "concepts.0.text.tag_dropout_special_tags_path",
        "concepts.0.image.detail_crops.save_directory",
    }
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One config file as read."""

    source: str
    """The file or preset, as messages name it."""
    data: dict[str, Any]

    def holds(self, place: Place) -> bool:
        """Whether this layer says something at a place."""
        value: Any = self.data
        for key in place:
            value = schema.child(value, key)
        return value is not None


def read_layers(path: Path, *, below: Path | None = None) -> list[Layer]:
    """The file and everything that it extends, the deepest first.

    Args:
        path: the file.
        below: where the relative paths of presets start; default: the folder of the file. Those of
            a preset that is read on its own stay relative.
    """
    layers: list[Layer] = []
    chain: list[str] = []
    relative = presets.is_preset(path) and below is None
    file: Path | None = path
    while file is not None:
        source = presets.label(file)
        if str(file) in chain:
            names = " -> ".join(presets.label(Path(one)) for one in [*chain, str(file)])
            raise ConfigError([Problem("extends", f"layers go round in a circle: {names}")])
        chain.append(str(file))
        data = read_toml(file)
        parent = data.pop("extends", None)
        # A preset knows no folder of yours: its relative paths mean the folder of the file you ran.
        folder = (below or path.parent) if presets.is_preset(file) else file.parent
        layers.append(Layer(source, data if relative else anchored((), data, folder)))
        file = None if parent is None else _parent(parent, file)
    return layers[::-1]


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; a ConfigError says what is wrong with it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = nearest(path.name, (p.name for p in path.parent.glob("*.toml")))
        hint = f"; did you mean {path.with_name(near)}?" if near else ""
        message = f"there is no such file{hint}"
    except IsADirectoryError:
        message = "is a folder; name a .toml file"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"is not valid TOML: {error}"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    raise ConfigError([Problem("", message, source=presets.label(path))])


def _parent(name: Any, file: Path) -> Path:
    """The file that `extends` means: a path when it looks like one, else a preset."""
    source = presets.label(file)
    if not isinstance(name, str):
        message = "must be the name of a preset or the path of a .toml file"
        raise ConfigError([Problem("extends", message, as_toml(name), source)])
    if "/" in name or name.endswith(".toml"):
        parent = (file.parent / Path(name).expanduser()).resolve()
        if not parent.is_file():
            near = nearest(parent.name, (p.name for p in parent.parent.glob("*.toml")))
            hint = f"; did you mean {near}?" if near else ""
            message = f"there is no file {parent}{hint}"
            raise ConfigError([Problem("extends", message, as_toml(name), source)])
        return parent
    try:
        return presets.file_of(name)
    except ValueError as error:
        raise ConfigError([Problem("extends", str(error), as_toml(name), source)]) from error


def merged(below: Mapping[str, Any], above: Mapping[str, Any], place: Place = ()) -> dict[str, Any]:
    """`above` over `below`: tables merge, anything else (lists too) is replaced.

    A table of another `kind` replaces the one below where kinds have options of their own.
    """
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        here = (*place, key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _other(old, value, here):
            result[key] = merged(old, value, here)
        else:
            result[key] = value
    return result


def _other(old: Mapping[str, Any], new: Mapping[str, Any], place: Place) -> bool:
    """Whether `new` chooses another kind than `old`, of a setting whose kinds differ in options."""
    if "kind" not in new or new["kind"] == old.get("kind"):
        return False
    return schema.is_union(schema.type_at(place, {}))


def anchored(place: Place, value: Any, folder: Path) -> Any:
    """A copy in which every relative path setting has become absolute, starting from `folder`."""
    if isinstance(value, Mapping):
        return {key: anchored((*place, key), inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [anchored((*place, 0), inner, folder) for inner in value]
    pattern = ".".join("0" if str(key).isdecimal() else str(key) for key in place)
    if pattern not in PATH_SETTINGS or not isinstance(value, str) or not value:
        return value
    if SCHEME.match(value) or (pattern == "model.base" and not _is_path(value, folder)):
        return value
    return absolute(value, folder)


def absolute(path: str, folder: Path) -> str:
    """An absolute path without dots; `~` is the home folder. Links are kept as they are."""
    return os.path.normpath(folder / Path(path).expanduser())


def _is_path(base: str, folder: Path) -> bool:
    """Tells `models/my-sd15` from a hub name `owner/model`: it exists or looks like a path."""
    path = folder / Path(base).expanduser()
    return (
        path.exists()
        or base.startswith((".", "/", "~"))
        or base.endswith((".safetensors", ".ckpt"))
        or base.count("/") != 1
        or path.parent.exists()
    )
