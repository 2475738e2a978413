"""From what OneTrainer's files say to the settings of a run.toml, and what was left out."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasks.config import presets
from tasks.onetrainer.cadence_rows import CADENCES
from tasks.onetrainer.caption_rows import CAPTIONS
from tasks.onetrainer.concept_rows import CONCEPT
from tasks.onetrainer.data_rows import DATA, resolution_text
from tasks.onetrainer.embedding_rows import EMBEDDINGS
from tasks.onetrainer.image_rows import CROPS, IMAGE
from tasks.onetrainer.later_rows import LATER
from tasks.onetrainer.method_rows import METHOD
from tasks.onetrainer.model_rows import MODEL, family_of, is_lora, method_of
from tasks.onetrainer.objective_rows import OBJECTIVE
from tasks.onetrainer.optimizer_rows import OPTIMIZER
from tasks.onetrainer.part_rows import PARTS
from tasks.onetrainer.paths import Paths
from tasks.onetrainer.reading import DEFAULT_FILES, Source
from tasks.onetrainer.rows import UNKNOWN, Left, Put, Row, Table, View, answers
from tasks.onetrainer.samples import Found, convert_samples
from tasks.onetrainer.train_rows import TRAIN
from tasks.onetrainer.versions import (
    CONCEPT_VERSION,
    CONFIG_VERSION,
    current_concept,
    current_config,
    version_problem,
)

CONFIG_TABLES: tuple[Table, ...] = (
    *(MODEL, DATA, METHOD, EMBEDDINGS, TRAIN, OBJECTIVE, CADENCES, OPTIMIZER, PARTS, LATER),
)
CONCEPT_TABLES: tuple[Table, ...] = (CONCEPT, IMAGE, CROPS, CAPTIONS)
CONFIG_ROWS: Table = {key: row for table in CONFIG_TABLES for key, row in table.items()}
CONCEPT_ROWS: Table = {key: row for table in CONCEPT_TABLES for key, row in table.items()}

HIDDEN = "(not shown)"
SECRET = re.compile(r"(_token|secret|password|api_?key|credential)s?($|\.|_)", re.IGNORECASE)
"""Unknown keys that look like this may hold what must not be repeated."""
# What a list of concepts, which names no model, is written for: OneTrainer's own defaults.
LONE_PRESET = "sd15-lora"
LONE_BASE = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of run.toml."""

    value: Any
    note: str = ""
    always: bool = False
    origin: str = ""
    """The key of OneTrainer's that it came from."""
    is_default: bool = False
    """Whether OneTrainer's default says it, not the file."""


@dataclass(frozen=True, slots=True)
class Untaken:
    """One setting of OneTrainer's without a place in run.toml."""

    key: str
    value: Any
    left: Left
    is_default: bool = False
    """Whether the file does not say it, but OneTrainer's default means it."""


@dataclass(frozen=True)
class Converted:
    """The result of an import, before it is written."""

    preset: str | None
    settings: dict[str, Setting]
    """By our dotted key, positions as numbers: `concepts.0.path`."""
    left: list[Untaken]
    num_mapped: int
    """Settings in the files that were taken over."""


def convert(source: Source, paths: Paths, name: str) -> Converted:
    """Applies the tables.

    Args:
        source: what was read.
        paths: where relative paths start, before and after.
        name: of the dataset.
    """
    result = _Collected({}, [], set())
    run: View | None = None
    preset: str | None = LONE_PRESET
    if source.config is None:
        result.put(Put("model.base", LONE_BASE, "a list of concepts names none; put yours here"))
    else:
        run = _config_view(source, paths)
        preset = _preset(run)
        result.add_table(run, CONFIG_ROWS)
        family = family_of(run)
        cell = family.latent_factor if family else 8
        result.add_samples(convert_samples(source.samples, paths, cell))
        _add_version(result, "", version_problem(source.config, CONFIG_VERSION))
    result.put(Put("data.name", name, always=True))
    _add_concepts(result, source, paths, run)
    _add_untold(result, source)
    settings = _spread(result.settings, len(source.concepts))
    return Converted(preset, settings, result.left, len(result.mapped))


@dataclass
class _Collected:
    """What the rows have answered so far."""

    settings: dict[str, Setting]
    left: list[Untaken]
    mapped: set[str]

    def put(self, put: Put, prefix: str = "", origin: str = "", *, says: bool = True) -> None:
        """Adds a setting; a later one of the same key wins."""
        key = put.key if put.key.startswith("concepts.") else prefix + put.key
        self.settings[key] = Setting(put.value, put.note, put.always, origin, not says)

    def add_row(self, key: str, row: Row, view: View, prefix: str) -> None:
        """What one row says of a file's value, or of OneTrainer's default where it has none."""
        value, says = view[key], view.says(key)
        given = answers(row, value, view)
        left = [one for one in given if isinstance(one, Left)]
        puts = [one for one in given if isinstance(one, Put)]
        for put in puts:
            self.put(put, prefix, prefix + key, says=says)
        shown = HIDDEN if row.secret else value
        self.left += [Untaken(prefix + key, shown, one, not says) for one in left]
        if says and puts and not left:
            self.mapped.add(prefix + key)

    def add_table(self, view: View, rows: Table, prefix: str = "") -> None:
        """All settings of a table, and what the file has beside them."""
        for key, row in rows.items():
            self.add_row(key, row, view, prefix)
        for key, value in view.given.items():
            if key not in rows and not key.endswith("__version"):
                shown = HIDDEN if SECRET.search(key) else value
                self.left.append(Untaken(prefix + key, shown, UNKNOWN))

    def add_samples(self, found: Iterable[Found]) -> None:
        """The prompts of sample images."""
        for key, value, answer in found:
            if isinstance(answer, Put):
                self.put(answer, origin=key)
                self.mapped.add(key)
            else:
                self.left.append(Untaken(key, value, answer))


def _config_view(source: Source, paths: Paths) -> View:
    view = View(flat(current_config(source.config or {}), CONFIG_ROWS), CONFIG_ROWS, paths)
    types = [current_concept(concept).get("type") for concept in source.concepts]
    facts = {"multiple": _multiple(view), "has_held_out": "VALIDATION" in types}
    return replace(view, facts=facts)


def _multiple(run: View | None) -> int:
    """What sizes must be a multiple of for the family; 64 suits those that are not there yet."""
    if run is None:
        return 8  # of LONE_PRESET
    family = family_of(run)
    return family.size_multiple if family else 64


def _preset(run: View) -> str | None:
    """The preset that a configuration's family and method have."""
    family, method = family_of(run), method_of(run)
    if family is None or method is None:
        return None
    name = f"{family.name}-{'lora' if is_lora(run) else method}"
    return name if name in presets.names() else None


def _add_concepts(result: _Collected, source: Source, paths: Paths, run: View | None) -> None:
    facts = {"multiple": _multiple(run), "resolution": _resolution(run)}
    views: list[View] = []
    for number, concept in enumerate(source.concepts):
        view = View(flat(current_concept(concept), CONCEPT_ROWS), CONCEPT_ROWS, paths, run)
        problem = version_problem(concept, CONCEPT_VERSION)
        _add_version(result, f"concepts.{number}.", problem)
        views.append(view)
    for number, (view, name) in enumerate(zip(views, _names(views), strict=True)):
        own = replace(view, facts={**facts, "folder": slug(name) or f"concept-{number}"})
        prefix = f"concepts.{number}."
        result.add_table(own, CONCEPT_ROWS, prefix)
        if name != view["name"]:
            note = f"was {view['name'] or 'empty'}; names must differ"
            result.settings[f"{prefix}name"] = Setting(name, note, origin=f"{prefix}name")


def _resolution(run: View | None) -> str:
    """The training resolution, of which the scales of tiles are multiples."""
    try:
        return resolution_text(run["resolution"], run.facts["multiple"])[0] if run else "512"
    except ValueError:
        return "512"


def _names(views: list[View]) -> Iterator[str]:
    """The concepts' names; where two of them are the same, the later one gets a number.

    An empty name stands for the folder's, as long as no other concept has that name.
    """
    seen: set[str] = set()
    for view in views:
        wanted = str(view["name"])
        base = wanted or re.split(r"[/\\]", str(view["path"]).rstrip("/\\"))[-1] or "concept"
        name, number = base, 2
        while name in seen:
            name, number = f"{base} {number}", number + 1
        seen.add(name)
        yield wanted if name == base else name


def _add_version(result: _Collected, prefix: str, problem: str | None) -> None:
    if problem is not None:
        result.left.append(Untaken(f"{prefix}__version", None, Left("unknown", problem)))


def _add_untold(result: _Collected, source: Source) -> None:
    """Files that could not be read, and a place for the concepts where there are none."""
    said = source.config or {}
    for key, why in source.untold.items():
        name = said.get(key, DEFAULT_FILES[key])
        # Samples are optional, and every saved file names the usual place of them.
        if key == "concept_file_name" or name != DEFAULT_FILES[key]:
            result.left.append(Untaken(key, name, Left("unknown", why), key not in said))
    if not source.concepts:
        note = "no concepts were found: name your folder of images"
        result.put(Put("concepts.0.path", "photos", note))


def _spread(settings: Mapping[str, Setting], num_concepts: int) -> dict[str, Setting]:
    """Settings of all concepts (`concepts.*.`) as settings of each."""
    spread: dict[str, Setting] = {}
    for key, setting in settings.items():
        start, star, end = key.partition("*")
        for number in range(max(1, num_concepts)) if star else [0]:
            spread[f"{start}{number}{end}" if star else key] = setting
    return spread


def flat(data: Mapping[str, Any], rows: Table, prefix: str = "") -> dict[str, Any]:
    """Nested tables under dotted keys; a table that is a value of its own stays whole."""
    result: dict[str, Any] = {}
    for key, value in data.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and any(one.startswith(f"{dotted}.") for one in rows):
            result.update(flat(value, rows, f"{dotted}."))
        else:
            result[dotted] = value
    return result


def slug(text: str) -> str:
    """Letters, digits, '.', '_' and '-' only, starting with a letter or digit; may be empty."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
