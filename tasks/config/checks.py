"""Checks of settings against each other and against the files that they name."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.config import layers, schema
from tasks.config.concepts import Concept
from tasks.config.family_checks import Report, family_problems
from tasks.config.models import Config
from tasks.config.problems import Problem, as_toml, nearest
from tasks.config.schema import Place

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FORMATS = {"full": ("diffusers",), "lora": ("kohya_lora", "diffusers_lora")}
LATER_FORMATS = ("single_file", "embedding")


def check(
    config: Config, data: Mapping[str, Any], origin: Callable[[Place], str]
) -> Iterator[Problem]:
    """All problems between the settings of a config whose types are right.

    Args:
        config: the config.
        data: the raw data it was made of, which knows what was said and what is a default.
        origin: names the file that says what is at a place.
    """

    def problem(place: Place, message: str, *concerns: str) -> Problem:
        value: Any = data
        for key in place:
            value = schema.child(value, key)
        got = None if value is None else as_toml(value)
        return Problem(schema.dotted(place), message, got, origin(place), concerns)

    yield from _data(config, problem)
    yield from _output(config, problem)
    yield from _parts(config, problem)
    yield from _concepts(config, problem)
    yield from family_problems(config, problem)


def _data(config: Config, problem: Report) -> Iterator[Problem]:
    if not NAME.fullmatch(config.data.name):
        message = "must be made of letters, digits, '.', '_' and '-' (it names a folder)"
        yield problem(("data", "name"), message)


def _output(config: Config, problem: Report) -> Iterator[Problem]:
    place = ("model", "output_format")
    chosen, method = config.model.output_format, config.train.method.kind
    allowed = FORMATS[method]
    names = " or ".join(as_toml(name) for name in allowed)
    if chosen in LATER_FORMATS:
        yield problem(place, f"comes with a later version; for now use {names}")
    elif chosen not in allowed:
        message = f"does not fit train.method.kind = {as_toml(method)}; use {names}"
        yield problem(place, message, "train.method", "train.method.kind")
    elif chosen == "diffusers" and Path(config.model.output).suffix == ".safetensors":
        message = 'must be a folder without suffix, since output_format = "diffusers" is a folder'
        yield problem(("model", "output"), message, "model.output_format")
    elif chosen != "diffusers" and Path(config.model.output).suffix != ".safetensors":
        yield problem(("model", "output"), "must end with .safetensors", "model.output_format")


def _parts(config: Config, problem: Report) -> Iterator[Problem]:
    if not config.parts.denoiser.train:
        message = "must be true: this version trains the denoiser only, so nothing would be trained"
        yield problem(("parts", "denoiser", "train"), message)


def _concepts(config: Config, problem: Report) -> Iterator[Problem]:
    if not any(concept.enabled for concept in config.concepts):
        message = "there is no enabled concept; add a [[concepts]] table with the path of a folder"
        yield problem(("concepts",), message)
    seen: dict[str, int] = {}
    for index, concept in enumerate(config.concepts):
        place: Place = ("concepts", index)
        if not concept.enabled:
            continue
        if concept.name in seen:
            message = f"concepts.{seen[concept.name]} has this name too; names must differ"
            named = Problem(f"concepts.{index}.name", message, as_toml(concept.name))
            yield Problem(named.key, message, named.got, problem((*place, "path"), "").source)
        seen.setdefault(concept.name, index)
        yield from _folder(concept, place, problem)
        yield from _prompts(concept, place, problem)
        yield from _samples(concept, place, problem)


def _folder(concept: Concept, place: Place, problem: Report) -> Iterator[Problem]:
    if not layers.SCHEME.match(concept.path) and not Path(concept.path).is_dir():
        yield problem((*place, "path"), _missing(Path(concept.path), "folder"))


def _prompts(concept: Concept, place: Place, problem: Report) -> Iterator[Problem]:
    if concept.prompt_source != "text_file":
        return
    where = (*place, "prompt_path")
    if not concept.prompt_path:
        message = 'must name a text file, since prompt_source = "text_file"'
        yield problem(where, message, f"{schema.dotted(place)}.prompt_source")
    elif not layers.SCHEME.match(concept.prompt_path) and not Path(concept.prompt_path).is_file():
        yield problem(where, _missing(Path(concept.prompt_path), "file"))


def _samples(concept: Concept, place: Place, problem: Report) -> Iterator[Problem]:
    crops = concept.image.detail_crops
    if not crops.enabled or crops.include_full_images or crops.include_context_tiles:
        return
    if not crops.scales:
        message = "leaves no samples: give scales, include_context_tiles or include_full_images"
        yield problem((*place, "image", "detail_crops", "scales"), message)


def _missing(path: Path, what: str) -> str:
    """Says that a path is missing, how far it exists, and which neighbour was probably meant."""
    if path.exists():
        return f"is no {what}"
    there = next(parent for parent in path.parents if parent.exists())
    lost = path.relative_to(there).parts[0]
    neighbours = [
        one.name
        for one in (there.iterdir() if there.is_dir() else ())
        if what == "file" or one.is_dir()
    ]
    near = nearest(lost, neighbours)
    hint = f"; did you mean {there / near}?" if near else ""
    return f"there is no such {what}: {there} holds no {lost}{hint}"
