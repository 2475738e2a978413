from tasks.report.inputs import number_sources
from tasks.report.prompts import MAX_SETS, MAX_TEXT, NOT_SHOWN, Prompts, collect_prompts
from tests.tasks.report import example


def collected(num_sources: int, own: int = 0, max_text: int = MAX_TEXT) -> tuple[Prompts, int]:
    """Prompts of sources of which every tile has a text of its own; `own` of them were edited."""
    views, rows, scan = example.invented(num_sources, scales=(4.0,), context=False)
    for number, row in enumerate(rows):
        if row["kind"] != "full":
            row["prompts"] = [f"drawn {number:05}"]
            row["prompt_origin"] = "edited" if number < own else "inherited"
    tables = example.tables(views, rows, scan)
    return collect_prompts(tables.rows, number_sources(tables), max_text), len(rows)


def test_a_source_shows_its_own_prompts_first_then_edited_ones() -> None:
    found, num_rows = collected(1, own=4)
    assert num_rows > MAX_SETS
    assert len(found.sets) == MAX_SETS
    shown = [found.sets[number] for number in found.uses["set"].to_pylist()]
    assert shown[0] == ["prompt 0"]
    assert shown[1:4] == [["drawn 00001"], ["drawn 00002"], ["drawn 00003"]]
    assert found.hidden.tolist() == [num_rows - MAX_SETS]
    assert (found.of_row == NOT_SHOWN).sum() == num_rows - MAX_SETS
    assert found.main.tolist() == [found.uses["set"][0].as_py()]


def test_a_page_has_the_own_prompts_of_all_sources_before_others() -> None:
    found, _ = collected(5, max_text=5 * len("prompt 0") + 2 * len("drawn 00000"))
    own = [f"prompt {number}" for number in range(5)]
    assert sorted(text for one in found.sets for text in one if text in own) == own
    assert len(found.sets) == 7


def test_a_source_without_rows_has_no_prompt() -> None:
    tables = example.tables([], [], [example.scanned("c", "a.jpg")])
    found = collect_prompts(tables.rows, number_sources(tables))
    assert (found.sets, found.main.tolist(), found.hidden.tolist()) == ([], [-1], [0])
