"""What an edited table of captions changes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.captions.chosen import Target, whole_view
from tasks.captions.csv_file import Row, read_rows, write_rows
from tasks.captions.imported import Changes, caption_cell, cell_prompts, changes

VIEWS = [bytes([n] * 16) for n in range(4)]
Texts = tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    target: Target
    prompts: Texts
    origin: str
    without_edit: Texts


def standing(
    view: bytes, *prompts: str, origin: str = "generated", without: Texts = (), concept: str = "a"
) -> Standing:
    target = Target(concept, "x.jpg", view, view, whole_view(8, 8), "", True, "")
    return Standing(target, prompts, origin, without or prompts)


def row(one: Standing, caption: str | None = None) -> Row:
    """The row of a tile in an export of it as it is, with another caption written into it."""
    return Row(
        view_id=one.target.view_id,
        concept=one.target.concept,
        caption=caption_cell(one.prompts) if caption is None else caption,
        origin=one.origin,
        place=f"line {one.target.view_id[0] + 2}",
    )


def after(now: Sequence[Standing], done: Changes) -> list[Standing]:
    """The tiles once changes have been made."""
    made = []
    for one in now:
        texts = done.texts.get(one.target.view_id, list(one.prompts))
        if one.target.view_id not in done.texts:
            made.append(one)
        elif texts is None:
            made.append(replace(one, prompts=one.without_edit, origin="generated"))
        else:
            made.append(replace(one, prompts=tuple(texts) or ("",), origin="edited"))
    return made


def told(done: Changes) -> list[str]:
    return [" ".join(str(problem).split()) for problem in done.problems]


def test_an_unchanged_table_changes_nothing() -> None:
    now = [
        standing(VIEWS[0], "a boat"),
        standing(VIEWS[1], "one", "two", "one"),
        standing(VIEWS[2], "", origin="none"),
        standing(VIEWS[3], origin="to come"),
    ]
    assert changes(now, map(row, now)) == Changes({}, 4, ())
    saved = [row(now[0], " a boat \r\n"), row(now[1], "one\r\n\r\ntwo\r\none")]
    assert changes(now, saved) == Changes({}, 2, ())


def test_accents_may_be_composed_otherwise() -> None:
    now = [standing(VIEWS[0], "caf\u00e9")]
    assert changes(now, [row(now[0], "cafe\u0301")]).texts == {}
    assert changes(now, [row(now[0], "cafe\u0301 noir")]).texts == {VIEWS[0]: ["caf\u00e9 noir"]}


@pytest.mark.parametrize(
    ("cell", "prompts"),
    [("a ship", ["a ship"]), ("one\n\n two \r\nthree", ["one", "two", "three"]), (" ", [])],
)
@pytest.mark.parametrize("origin", ["generated", "inherited", "edited", "to come"])
def test_another_caption_is_an_edit(cell: str, prompts: list[str], origin: str) -> None:
    now = [standing(VIEWS[0], "a boat", origin=origin, without=("a photo",))]
    assert changes(now, [row(now[0], cell)]) == Changes({VIEWS[0]: prompts}, 0, ())


def test_what_there_would_be_without_an_edit_takes_it_back() -> None:
    now = [standing(VIEWS[0], "mine", origin="edited", without=("a boat", "two"))]
    assert changes(now, [row(now[0], "a boat\ntwo")]) == Changes({VIEWS[0]: None}, 0, ())
    bare = [standing(VIEWS[0], "mine", origin="edited", without=("",))]
    assert changes(bare, [row(bare[0], "")]) == Changes({VIEWS[0]: None}, 0, ())


def test_only_an_edit_can_be_taken_back() -> None:
    now = [standing(VIEWS[0], "a boat", origin="generated", without=("a photo",))]
    assert changes(now, [row(now[0], "a photo")]).texts == {VIEWS[0]: ["a photo"]}


def test_unknown_tiles_are_problems() -> None:
    now = [standing(VIEWS[0], "a boat")]
    done = changes(now, [row(now[0], "a ship"), row(standing(VIEWS[1], "x"))])
    (line,) = told(done)
    assert line.startswith(f"line 3, view_id = {VIEWS[1].hex()} there is no such tile")


def test_one_tile_has_one_caption() -> None:
    now = [standing(VIEWS[0], "a boat")]
    assert changes(now, [row(now[0], "x"), row(now[0], "x")]).texts == {VIEWS[0]: ["x"]}
    assert changes(now, [row(now[0], "x"), row(now[0])]).texts == {VIEWS[0]: ["x"]}
    (line,) = told(changes(now, [row(now[0], "x"), row(now[0], "y")]))
    assert line.startswith("line 2 and line 2 = 0000")
    assert "different captions" in line


def shared() -> list[Standing]:
    """A tile that two concepts caption in their own ways."""
    return [standing(VIEWS[0], text, concept=text) for text in ("a", "b")]


def test_of_two_concepts_one_row_is_enough() -> None:
    now = shared()
    assert changes(now, map(row, now)) == Changes({}, 1, ())
    table = [row(now[0], "mine"), row(now[1])]
    assert changes(now, table).texts == {VIEWS[0]: ["mine"]}
    assert changes(now, [row(now[0], "b"), row(now[1])]).texts == {VIEWS[0]: ["b"]}
    assert len(changes(now, [row(now[0], "x"), row(now[1], "y")]).problems) == 1
    edited = after(now, changes(now, table))
    assert {one.prompts for one in edited} == {("mine",)}
    # The row that nobody touched does not take the edit of the other one back.
    assert changes(edited, table) == Changes({}, 1, ())
    again = [replace(table[0], caption="another"), table[1]]
    assert changes(edited, again).texts == {VIEWS[0]: ["another"]}
    assert changes(edited, map(row, now)).texts == {VIEWS[0]: None}


def test_an_edit_of_two_concepts_is_taken_back_by_one_row() -> None:
    now = [
        standing(VIEWS[0], "mine", origin="edited", without=(text,), concept=text)
        for text in ("a", "b")
    ]
    for cells in (("a", None), ("a", "b"), (None, "b")):
        table = [row(one, cell) for one, cell in zip(now, cells, strict=True)]
        assert changes(now, table).texts == {VIEWS[0]: None}
    assert len(changes(now, [row(now[0], "a"), row(now[1], "x")]).problems) == 1


def test_a_table_needs_no_columns_for_reference() -> None:
    now = [*shared(), standing(VIEWS[1], "mine", origin="edited", without=("c",))]
    bare = [Row(view_id=VIEWS[0], caption="b"), Row(view_id=VIEWS[1], caption="c")]
    assert changes(now, bare) == Changes({VIEWS[1]: None}, 1, ())


words = st.text("ab =-'\"\n\r,;\u0301e", max_size=6)


@given(st.lists(st.lists(words, max_size=3), min_size=1, max_size=4), st.data())
def test_a_second_import_changes_nothing(texts: list[list[str]], data: st.DataObject) -> None:
    origins = st.sampled_from(["generated", "edited", "inherited"])
    now = [
        standing(view, *map(str.strip, one), origin=data.draw(origins), without=("a",))
        for view, one in zip(VIEWS, texts, strict=False)
    ]
    table, wrong = read_rows(write_rows([row(one, data.draw(st.none() | words)) for one in now]))
    assert wrong == []
    done = changes(now, table)
    assert done.problems == ()
    made = after(now, done)
    for one, given_ in zip(made, table, strict=True):
        assert cell_prompts(caption_cell(one.prompts)) == cell_prompts(given_.caption)
    assert changes(made, table) == Changes({}, len(now), ())
