"""Checks of a config against the model family that it chose, and of the model itself."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tasks.config import schema
from tasks.config.concepts import Concept
from tasks.config.method_checks import method_problems
from tasks.config.models import Config
from tasks.config.problems import Problem, as_toml, nearest
from tasks.config.schema import Place

if TYPE_CHECKING:
    from tasks.families.base import Family

Report = Callable[..., Problem]
"""(place, message, other keys that it depends on) to the problem with its value and source."""


def family_problems(config: Config, problem: Report) -> Iterator[Problem]:
    """What the chosen family does not allow; an unknown family is all there is to say."""
    from tasks.families import FAMILIES

    family = FAMILIES.get(config.model.family)
    if family is None:
        near = nearest(config.model.family, FAMILIES)
        hint = f"; did you mean {as_toml(near)}?" if near else ""
        names = ", ".join(as_toml(name) for name in FAMILIES)
        yield problem(("model", "family"), f"must be one of {names}{hint}")
        return
    yield from _parts(config, family, problem)
    yield from method_problems(config, family, problem)
    yield from _resolution(("data", "resolution"), config.data.resolution, family, problem)
    for index, concept in enumerate(config.concepts):
        if concept.enabled:
            yield from _concept(config, concept, index, family, problem)
    yield from _samples(config, family, problem)
    if family.inpaints and not config.data.latent_caching:
        message = f"must be true for {family.name}: what it is told of masks is cached with latents"
        yield problem(("data", "latent_caching"), message, "model.family")
    yield from _model(config, family, problem)


def part_names(config: Config) -> list[str]:
    """The parts that the config's family has; ValueError when there is no such family."""
    from tasks.families import get_family

    return ["denoiser", *(one.name for one in get_family(config.model.family).text_encoders)]


def _parts(config: Config, family: "Family", problem: Report) -> Iterator[Problem]:
    known = part_names(config)
    for name in sorted(config.parts.model_fields_set - set(known)):
        message = f"{family.name} has no such part; its parts: {', '.join(known)}"
        yield problem(("parts", name), message, "model.family", f"parts.{name}.train")


def _model(config: Config, family: "Family", problem: Report) -> Iterator[Problem]:
    from tasks.families.sources import NotDownloadedError, resolve_model

    try:
        resolve_model(config.model.base, family, config.model.config_folder, download=False)
    except NotDownloadedError:
        return  # a command that needs the weights downloads them, a check does not
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        key = "config_folder" if message.startswith("`model.config_folder`") else "base"
        message = message.removeprefix(f"`model.{key}`").removeprefix(":").strip()
        yield problem(("model", key), message, "model.family")


def _samples(config: Config, family: "Family", problem: Report) -> Iterator[Problem]:
    step = family.latent_factor * family.patch_cells
    for name in ("width", "height"):
        value = getattr(config.train.sample, name)
        if value and value % step:
            message = _multiple(value, step, family)
            yield problem(("train", "sample", name), message, "model.family")


def _concept(
    config: Config, concept: Concept, index: int, family: "Family", problem: Report
) -> Iterator[Problem]:
    place: Place = ("concepts", index, "image")
    text = config.data.resolution
    if concept.image.enable_resolution_override:
        text = concept.image.resolution_override
        yield from _resolution((*place, "resolution_override"), text, family, problem)
    if concept.image.detail_crops.enabled:
        yield from _tiles(concept, _edges(text), family, (*place, "detail_crops"), problem)


def _resolution(place: Place, text: str, family: "Family", problem: Report) -> Iterator[Problem]:
    from tasks.imaging.buckets import parse_resolutions

    try:
        parse_resolutions(text)
    except ValueError as error:
        yield problem(place, " ".join(str(error).split()))
        return
    for edge in _edges(text):
        if edge % family.size_multiple:
            message = _multiple(edge, family.size_multiple, family)
            yield problem(place, message, "model.family")


def _edges(text: str) -> list[int]:
    """The numbers in a resolution setting; none when it is malformed."""
    parts = text.lower().replace("x", ",").split(",")
    return [int(part) for part in parts if part.strip().isdecimal()]


def _tiles(
    concept: Concept, edges: list[int], family: "Family", place: Place, problem: Report
) -> Iterator[Problem]:
    crops = concept.image.detail_crops
    if crops.tile_resolution and crops.tile_resolution % family.size_multiple:
        message = _multiple(crops.tile_resolution, family.size_multiple, family)
        yield problem((*place, "tile_resolution"), message, "model.family")
    tile = crops.tile_resolution or min(edges, default=0)
    if crops.overlap is not None and tile and crops.overlap >= tile:
        message = f"must be less than the tile, which is {tile} pixels; an eighth is {tile // 8}"
        tile_key = schema.dotted((*place, "tile_resolution"))
        yield problem((*place, "overlap"), message, tile_key, "data.resolution")


def _multiple(value: int, step: int, family: "Family") -> str:
    """Says that a size must be a multiple, and names the allowed ones next to it."""
    below = value // step * step
    near = f"{below} or {below + step}" if below else str(step)
    return f"{value} must be a multiple of {step} for {family.name}; nearest: {near}"
