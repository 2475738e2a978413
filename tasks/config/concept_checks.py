"""Checks of `[[concepts]]`: against each other, and against the files that they name."""

from collections.abc import Iterator
from pathlib import Path

from tasks.config import layers, schema
from tasks.config.caption_checks import caption_problems
from tasks.config.concepts import Concept, TextConfig
from tasks.config.family_checks import Report
from tasks.config.models import Config
from tasks.config.problems import Problem, as_toml, nearest
from tasks.config.schema import Place


def concept_problems(config: Config, problem: Report) -> Iterator[Problem]:
    """What is wrong with the enabled concepts."""
    enabled = [(n, concept) for n, concept in enumerate(config.concepts) if concept.enabled]
    if not enabled:
        message = "there is no enabled concept; add a [[concepts]] table with the path of a folder"
        yield problem(("concepts",), message)
    elif all(concept.type == "validation" for _, concept in enabled):
        message = (
            "there are only validation concepts, so nothing would be trained: add one of type = "
            '"standard"'
        )
        yield problem(("concepts",), message)
    yield from _names(enabled, problem)
    yield from _save_directories(enabled, problem)
    for index, concept in enabled:
        place: Place = ("concepts", index)
        yield from _folder(concept, place, problem)
        yield from _prompts(concept, place, problem)
        yield from _amount(concept, place, problem)
        yield from _samples(concept, place, problem)
        yield from caption_problems(concept, place, problem)
        yield from _text(concept.text, (*place, "text"), problem)


Enabled = list[tuple[int, Concept]]


def _names(enabled: Enabled, problem: Report) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, concept in enabled:
        if concept.name in seen:
            message = f"concepts.{seen[concept.name]} has this name too; names must differ"
            named = Problem(f"concepts.{index}.name", message, as_toml(concept.name))
            source = problem(("concepts", index, "path"), "").source
            yield Problem(named.key, message, named.got, source)
        seen.setdefault(concept.name, index)


def _folder(concept: Concept, place: Place, problem: Report) -> Iterator[Problem]:
    if is_local(concept.path) and not Path(concept.path).is_dir():
        yield problem((*place, "path"), _missing(Path(concept.path), "folder"))


def _prompts(concept: Concept, place: Place, problem: Report) -> Iterator[Problem]:
    where = (*place, "prompt_path")
    source = schema.dotted((*place, "prompt_source"))
    path = concept.prompt_path
    if concept.prompt_source not in ("text_file", "jsonl"):
        return
    if path:
        if is_local(path) and not Path(path).is_file():
            yield problem(where, _missing(Path(path), "file"), source)
    elif concept.prompt_source == "text_file":
        yield problem(where, 'must name a text file, since prompt_source = "text_file"', source)
    elif is_local(concept.path) and _lacks(Path(concept.path), "metadata.jsonl"):
        message = (
            f'must name a JSONL file, since prompt_source = "jsonl" and {concept.path} holds no '
            "metadata.jsonl"
        )
        yield problem(where, message, source)


def _amount(concept: Concept, place: Place, problem: Report) -> Iterator[Problem]:
    if concept.samples_per_epoch is not None and concept.repeats != 1:
        message = (
            f"cannot be set together with repeats = {as_toml(concept.repeats)}: it says how many "
            "samples an epoch has, instead of repeats; remove one of them"
        )
        repeats = schema.dotted((*place, "repeats"))
        yield problem((*place, "samples_per_epoch"), message, repeats)


def _samples(concept: Concept, place: Place, problem: Report) -> Iterator[Problem]:
    crops = concept.image.detail_crops
    if crops.enabled and not crops.scales and not crops.include_context_tiles:
        tables: Place = (*place, "image", "detail_crops")
        message = "gives no tiles: name a scale, set include_context_tiles or enabled = false"
        yield problem((*tables, "scales"), message, schema.dotted((*tables, "enabled")))


def _save_directories(enabled: Enabled, problem: Report) -> Iterator[Problem]:
    """Each concept that writes tiles needs a local folder of its own, outside of the sources."""
    seen: dict[Path, int] = {}
    for index, concept in enabled:
        crops = concept.image.detail_crops
        if not (crops.enabled and crops.save_to_disk):
            continue
        tables: Place = ("concepts", index, "image", "detail_crops")
        where, switch = (*tables, "save_directory"), schema.dotted((*tables, "save_to_disk"))
        if not crops.save_directory:
            message = "must name a folder for the tiles, since save_to_disk = true"
            yield problem(where, message, switch)
            continue
        if not is_local(crops.save_directory):
            yield problem(where, "must be a local folder; tiles are not written to URLs", switch)
            continue
        folder = Path(crops.save_directory)
        if folder.exists() and not folder.is_dir():
            yield problem(where, "is no folder", switch)
        if folder in seen:
            message = f"concepts.{seen[folder]} writes its tiles there too; give each its own"
            yield problem(where, message, switch)
        seen.setdefault(folder, index)
        inside = [number for number, other in enabled if _takes_images_of(other, folder)]
        if inside:
            message = (
                f"lies in the folder of concepts.{inside[0]}, which would take the tiles for "
                "photos of its own; choose a folder outside of it"
            )
            yield problem(where, message, switch, f"concepts.{inside[0]}.path")


def _takes_images_of(concept: Concept, folder: Path) -> bool:
    """Whether images in a local folder would be sources of a concept."""
    if not is_local(concept.path):
        return False
    path = Path(concept.path)
    inner = folder.relative_to(path).parts if folder.is_relative_to(path) else None
    if inner is None or any(part.startswith(".") for part in inner):
        return False
    return not inner or concept.include_subdirectories


def _text(text: TextConfig, place: Place, problem: Report) -> Iterator[Problem]:
    from tasks.wording.template import NAMES, check_template

    try:
        check_template(text.prompt_template, NAMES, needed="prompt")
    except ValueError as error:
        yield problem((*place, "prompt_template"), str(error))
    if text.tag_dropout_enable and text.tag_dropout_special_tags_mode != "none":
        yield from _special_tags(text, place, problem)


def _special_tags(text: TextConfig, place: Place, problem: Report) -> Iterator[Problem]:
    """Special tags count only where drop-out has a mode for them."""
    from tasks.wording.special import compiled, read_tags

    name = "tag_dropout_special_tags"
    mode, regex = (schema.dotted((*place, f"{name}{end}")) for end in ("_mode", "_regex"))
    path, found = text.tag_dropout_special_tags_path, [*text.tag_dropout_special_tags]
    if not path and not found:
        message = (
            f"must list tags, since {name}_mode = {as_toml(text.tag_dropout_special_tags_mode)}; "
            f"or name a file of them: {name}_path"
        )
        yield problem((*place, name), message, mode, schema.dotted((*place, f"{name}_path")))
    regexes = [(name, one) for one in found]
    if path and is_local(path) and not Path(path).is_file():
        yield problem((*place, f"{name}_path"), _missing(Path(path), "file"), mode)
    elif path and is_local(path):
        try:
            tags = read_tags(path, text.tag_delimiter, regex=text.tag_dropout_special_tags_regex)
            regexes += [(f"{name}_path", tag) for tag in tags]
        except ValueError as error:
            yield problem((*place, f"{name}_path"), str(error), mode)
    for key, pattern in regexes if text.tag_dropout_special_tags_regex else ():
        try:
            compiled(pattern)
        except ValueError as error:
            message = f"{error}; correct it, or set {name}_regex = false"
            yield problem((*place, key), message, mode, regex)


def is_local(path: str) -> bool:
    """Whether a path is no URL, so that it can be looked at while settings are checked."""
    return not layers.SCHEME.match(path)


def _lacks(folder: Path, name: str) -> bool:
    """Whether a folder is there but a file in it is not."""
    return folder.is_dir() and not (folder / name).is_file()


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
