"""Texts: what the prompts of each source are made of, and the key that this gives."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa

from storage.digest import Key, canonical_json, digest
from tasks.config.concepts import Concept, Multiline
from tasks.contents import file_contents
from tasks.files.listing import FileStat, stat_file
from tasks.files.reading import read_bytes
from tasks.stage import Context
from tasks.wording.metadata import Metadata, parse_metadata, same_path

METADATA_NAME = "metadata.jsonl"
UNREADABLE = "unreadable"
"""Stands for the content of a file that could not be read, so that the next run tries again."""


@dataclass(frozen=True, slots=True)
class Text:
    """What the prompts of one source are made of."""

    key: Key
    path: str | None = None
    """The file that they are read from; None: there is none, or it has been read already."""
    content_id: Key | None = None
    """What that file must hold; None when it could not be read."""
    texts: list[str] | None = None
    """The prompts of the source's lines in a JSONL file."""
    broken: str | None = None
    """Why there can be none."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that is known of the files which prompts come from."""

    content_ids: dict[str, Key] = field(default_factory=dict)
    """By path; files that could not be read are not in it."""
    metadata: dict[str, Metadata] = field(default_factory=dict)
    """What the JSONL files say, by path."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Why a file that a whole concept needs cannot be used, by path."""


def read_sources(context: Context, scan: pa.Table) -> Sources:
    """Hashes the sidecars and text files that are not known yet, and reads the JSONL files."""
    concepts = [concept for concept in context.config.concepts if concept.enabled]
    files, unusable, metadata = _sidecars(scan, concepts), {}, {}
    for concept in concepts:
        path = shared_file(concept)
        if path is None or path in files or path in metadata or path in unusable:
            continue
        try:
            if concept.prompt_source == "jsonl":
                metadata[path] = _read_metadata(path)
            else:
                files[path] = stat_file(path)
        except (ValueError, OSError) as error:
            told = error.strerror if isinstance(error, OSError) and error.strerror else error
            unusable[path] = f"{PurePosixPath(path).name}: {told}"
    found = file_contents(context, "text", files.values())
    ids = {path: row["content_id"] for path, row in found.items() if row["content_id"] is not None}
    return Sources(ids, metadata, unusable)


def shared_file(concept: Concept) -> str | None:
    """The file that all sources of a concept have their prompts from, or None."""
    match concept.prompt_source:
        case "text_file":
            return concept.prompt_path
        case "jsonl":
            path = concept.prompt_path or f"{concept.path.rstrip('/')}/{METADATA_NAME}"
            return path.removeprefix("file://")
        case "sidecar" | "filename":
            return None


def text_of(concept: Concept, path: str, source_id: Key, sidecar: str, known: Sources) -> Text:
    """What the prompts of one source are made of.

    Args:
        concept: its concept.
        path: its file.
        source_id: the hash of its bytes.
        sidecar: the text file beside it, or "".
        known: what `read_sources` found.
    """
    shared = shared_file(concept)
    if shared in known.unusable:
        return Text(_key(concept, source_id, UNREADABLE), broken=known.unusable[shared])
    if concept.prompt_source == "filename":
        return Text(_key(concept, source_id, PurePosixPath(path).stem))
    if concept.prompt_source == "jsonl":
        texts = known.metadata[str(shared)].texts.get(same_path(path), [])
        return Text(_key(concept, source_id, canonical_json(texts)), texts=texts)
    file = shared or sidecar
    if not file:
        return Text(_key(concept, source_id, b""))
    content_id = known.content_ids.get(file)
    # The lines of a text file are the same for all sources: one item.
    owner = b"" if shared else source_id
    key = _key(concept, owner, content_id or UNREADABLE, concept.multiline)
    return Text(key, path=file, content_id=content_id)


def broken_lines(known: Sources) -> Iterator[tuple[str, Text]]:
    """(place, text) of every line of a JSONL file that cannot be read; nothing is made of it."""
    for path, metadata in known.metadata.items():
        for number, reason in metadata.broken:
            key = digest("prompts", "line", path, number, reason)
            yield f"{path} line {number}", Text(key, broken=reason)


def _key(concept: Concept, owner: Key, content: Key | str, multiline: Multiline = "lines") -> Key:
    """How prompts are told apart counts only where a file of them is split."""
    return digest("prompts", owner, concept.prompt_source, multiline, content)


def _read_metadata(path: str) -> Metadata:
    # As the scan names the images beside it, whatever the spelling of the URL.
    folder = stat_file(path).path.rpartition("/")[0]
    return parse_metadata(read_bytes(path), folder)


def _sidecars(scan: pa.Table, concepts: Iterable[Concept]) -> dict[str, FileStat]:
    """The text files beside the sources of the concepts that read them, by path."""
    readers = {concept.name for concept in concepts if concept.prompt_source == "sidecar"}
    names = [f"sidecar_{name}" for name in FileStat._fields]
    columns = scan.select(["concept", *names]).to_pydict().values()
    return {
        stat[0]: FileStat(*stat)
        for concept, *stat in zip(*columns, strict=True)
        if concept in readers and stat[0]
    }
