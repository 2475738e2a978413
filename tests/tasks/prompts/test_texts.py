"""Which content decides the key of a source's prompts."""

from pathlib import Path

import pytest

from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.prompts.texts import Sources, broken_lines, read_sources, shared_file, text_of
from tasks.scan.stage import STAGE
from tasks.stage import Context

SOURCE = b"s" * 16
KNOWN = Sources(content_ids={"/a.txt": b"1" * 16, "/b.txt": b"1" * 16, "/c.txt": b"2" * 16})


def concept(source: str, **settings: object) -> Concept:
    return Concept.model_validate({"path": "/", "prompt_source": source, **settings})


def key(
    concept: Concept, sidecar: str = "", path: str = "/a.jpg", source_id: bytes = SOURCE
) -> bytes:
    return text_of(concept, path, source_id, sidecar, KNOWN).key


def test_a_key_is_the_content_and_not_the_name_of_a_sidecar() -> None:
    sidecar = concept("sidecar")
    assert key(sidecar, "/a.txt") == key(sidecar, "/b.txt")
    others = {
        key(sidecar, "/c.txt"),
        key(sidecar, "/a.txt", source_id=b"t" * 16),
        key(concept("sidecar", multiline="joined"), "/a.txt"),
        key(sidecar),
        key(sidecar, "/unreadable.txt"),
    }
    assert len(others | {key(sidecar, "/a.txt")}) == 6


def test_how_a_file_is_split_counts_only_where_one_is() -> None:
    for source in ("sidecar", "filename"):
        assert key(concept(source)) == key(concept(source, multiline="paragraphs"))


def test_the_lines_of_a_text_file_are_one_item_for_all_sources() -> None:
    lines = concept("text_file", prompt_path="/a.txt")
    assert key(lines) == key(lines, path="/b.jpg", source_id=b"t" * 16)


def test_where_the_jsonl_file_is() -> None:
    assert shared_file(concept("jsonl", path="/photos/")) == "/photos/metadata.jsonl"
    assert shared_file(concept("jsonl", path="s3://b/photos")) == "s3://b/photos/metadata.jsonl"
    assert shared_file(concept("jsonl", prompt_path="file:///x.jsonl")) == "/x.jsonl"
    assert shared_file(concept("sidecar", prompt_path="/x.txt")) is None


@pytest.mark.parametrize("source", ["text_file", "jsonl"])
def test_a_file_that_is_gone_is_told_for_every_source(tmp_path: Path, source: str) -> None:
    (tmp_path / "photos").mkdir()
    path = str(tmp_path / "gone.txt")
    settings = {"name": "c", "path": str(tmp_path / "photos"), "prompt_source": source}
    config = Config.model_validate(
        {
            "store": {"url": str(tmp_path / "store")},
            "model": {"family": "sd15", "base": "model"},
            "concepts": [{**settings, "prompt_path": path}],
        }
    )
    context = Context(config)
    scan = STAGE.manifest(context, STAGE.check(context, STAGE.wanted(context, {})))
    known = read_sources(context, scan)
    text = text_of(config.concepts[0], "/a.jpg", SOURCE, "", known)
    assert text.broken == "gone.txt: No such file or directory"
    assert list(broken_lines(known)) == []
