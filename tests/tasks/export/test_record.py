import os
from pathlib import Path

import pytest

from tasks.export.record import (
    RECORD,
    Entry,
    ahead,
    put_file,
    read_record,
    read_sidecar,
    remove_left_overs,
    sidecar_text,
    text_digest,
    write_record,
)
from tasks.wording.sources import split_prompts


@pytest.mark.parametrize(
    "same",
    ["a harbour\nboats\n", "a harbour\r\nboats", " a harbour \nboats\n\n\n", "\na harbour\nboats"],
)
def test_how_an_editor_saves_a_text_is_no_edit(same: str) -> None:
    assert text_digest(same) == text_digest("a harbour\nboats")


@pytest.mark.parametrize("other", ["a harbour boats", "a harbour\n\nboats", "A harbour\nboats", ""])
def test_other_words_lines_and_paragraphs_are_an_edit(other: str) -> None:
    assert text_digest(other) != text_digest("a harbour\nboats")


@pytest.mark.parametrize("multiline", ["lines", "paragraphs"])
def test_prompts_come_back_as_they_were_written(multiline: str) -> None:
    prompts = ["a harbour, dawn", "boats"]
    assert split_prompts(sidecar_text(prompts, multiline), multiline) == prompts


def test_the_empty_prompt_is_an_empty_text() -> None:
    assert sidecar_text([""], "lines").strip() == ""


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = {"bücher.png": Entry("ab", ("1", "2"), "3"), "b.png": Entry("cd")}
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    write_record(tmp_path, {"a.png": Entry("ab", ("1",)), "b.png": Entry("cd", ("2",))})
    path = tmp_path / RECORD
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\nnonsense\n[1]\n{{}}\n\xff\n{second[:10]}\n")
    assert read_record(tmp_path) == {"a.png": Entry("ab", ("1",))}
    assert read_record(tmp_path / "nowhere") == {}


def test_old_and_new_texts_are_ours_while_files_are_written() -> None:
    record = {"a.png": Entry("ab", ("old",), None), "gone.png": Entry("cd", ("x",), "y")}
    noted = {**record, "a.png": Entry("ab", ("new",), "new"), "b.png": Entry("ef", ("1",), None)}
    assert ahead(record, noted) == {
        "a.png": Entry("ab", ("new", "old"), None),
        "b.png": Entry("ef", ("1",), None),
        "gone.png": Entry("cd", ("x",), "y"),
    }


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    put_file(tmp_path, "a.txt", b"one")
    put_file(tmp_path, "a.txt", b"two", durable=True)
    assert (tmp_path / "a.txt").read_bytes() == b"two"
    with pytest.raises(OSError):
        put_file(tmp_path, ".", b"three")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_what_a_kill_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    names = (".tilewright-1.tmp", ".tilewright-2.tmp", "mine.tmp")
    for name in names:
        (tmp_path / name).write_text("half")
    for name in ("mine.tmp", ".tilewright-1.tmp"):
        os.utime(tmp_path / name, (1, 1))
    remove_left_overs(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tilewright-2.tmp", "mine.tmp"]


def test_a_sidecar_that_is_no_text_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_sidecar(tmp_path, "a.png")
    assert read_sidecar(tmp_path, "b.png") is None
