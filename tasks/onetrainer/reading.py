"""OneTrainer's JSON files: what kind of file it is, its concepts and its samples."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tasks.config.problems import ConfigError, Problem, nearest
from tasks.onetrainer.paths import Paths, guess_root, is_there

# Any two of these make a JSON object a configuration.
CONFIG_KEYS = frozenset(
    {
        *("model_type", "training_method", "base_model_name", "output_model_destination"),
        *("concept_file_name", "concepts", "learning_rate", "batch_size", "epochs"),
        *("resolution", "optimizer", "unet", "text_encoder", "learning_rate_scheduler"),
    }
)
DEFAULT_FILES = {
    "concept_file_name": "training_concepts/concepts.json",
    "sample_definition_file_name": "training_samples/samples.json",
}
"""Where OneTrainer itself looks when a configuration does not say."""


@dataclass(frozen=True)
class Source:
    """What was read: a configuration with its concepts and samples, or concepts alone."""

    file: Path
    root: Path
    """The folder that relative paths inside start from."""
    config: dict[str, Any] | None
    concepts: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    untold: dict[str, str]
    """Files that could not be used, by the key that names them: why."""


def read_source(file: Path, root: Path | None = None) -> Source:
    """Reads a file of OneTrainer's and the files that it names.

    Args:
        file: a configuration or preset, or a list of concepts.
        root: where relative paths start; default: OneTrainer's folder, if the file is in one of its
            own, else the file's folder.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    if root is not None and not root.is_dir():
        _refuse("--root", "there is no such folder; name the folder that OneTrainer is in", root)
    data = _read_json(file)
    base = (guess_root(file.absolute()) if root is None else root).absolute()
    if _is_list_of(data, "path", "image", "text"):
        return Source(file, base, None, data, [], {})
    if not _is_config(data):
        raise ConfigError([Problem("", _kind(data), source=str(file))])
    untold: dict[str, str] = {}
    paths = Paths(base, base)
    concepts = _listed(data, "concepts", "concept_file_name", paths, untold)
    samples = _listed(data, "samples", "sample_definition_file_name", paths, untold)
    return Source(file, base, data, concepts, samples, untold)


def _listed(
    data: Mapping[str, Any], key: str, file_key: str, paths: Paths, untold: dict[str, str]
) -> list[dict[str, Any]]:
    """The concepts or samples of a configuration: inside it, or in the file that it names."""
    inside = data.get(key)
    if isinstance(inside, list):
        return [one for one in inside if isinstance(one, dict)]
    name = str(data.get(file_key) or DEFAULT_FILES[file_key])
    file = paths.real(name)
    if not is_there(file):
        untold[file_key] = f"there is no {file}; --root names the folder that it starts from"
        return []
    try:
        entries = _read_json(file)
    except ConfigError as error:
        untold[file_key] = f"{file} {error.problems[0].message}"
        return []
    if not isinstance(entries, list):
        untold[file_key] = f"{file} holds no list"
        return []
    return [one for one in entries if isinstance(one, dict)]


def _read_json(file: Path) -> Any:
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
        json.dumps(data, ensure_ascii=False).encode()  # half a character would fail when written
        return data
    except FileNotFoundError:
        near = nearest(file.name, (path.name for path in file.parent.glob("*.json")))
        hint = f"; did you mean {file.with_name(near)}?" if near else ""
        message = f"there is no such file{hint}"
    except IsADirectoryError:
        message = "is a folder; name a .json file in it"
    except UnicodeError as error:
        message = f"is not UTF-8 text: {error}"
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error}"
    except RecursionError:
        message = "is not a file of OneTrainer's: it is nested too deeply"
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
    raise ConfigError([Problem("", message, source=str(file))])


def _is_config(data: Any) -> bool:
    return isinstance(data, dict) and len(CONFIG_KEYS & data.keys()) > 1


def _is_list_of(data: Any, *keys: str) -> bool:
    """Whether it is a list of tables that have at least one of these keys."""
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(one, dict) and not one.keys().isdisjoint(keys) for one in data)
    )


def _kind(data: Any) -> str:
    """Says what a file is that is neither a configuration nor a list of concepts."""
    if _is_list_of(data, "prompt"):
        return (
            "is a list of samples; name the configuration (its samples come along) "
            "or the concepts file"
        )
    if data == []:
        return "is an empty list; add a concept in OneTrainer, or name another file"
    return (
        "is no file of OneTrainer's: neither a configuration (model_type, training_method, ...) "
        "nor a list of concepts (path, image, text, ...)"
    )


def _refuse(key: str, message: str, got: Path) -> NoReturn:
    raise ConfigError([Problem(key, message, str(got))])
