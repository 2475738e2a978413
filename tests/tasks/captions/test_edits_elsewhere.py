"""An edit that was made in a table, and the sidecars of the same tiles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.captions.csv_file import write_rows
from tasks.config.problems import ConfigError
from tasks.export.record import RECORD, ahead, read_record, write_record
from tasks.export.tiles import COLUMNS, plan_folder
from tasks.pipeline.caption_table import Imported, import_table, table_rows
from tasks.pipeline.captions import captioned
from tests.model_fixtures import TinyModels
from tests.projects import Prepared
from tests.tasks.pipeline.exporting import (
    Exporting,
    copy_exporting,
    make_exporting,
    rows_of,
)

NOTHING = {"scan": 0, "prompts": 0, "crops": 0, "text": 0, "latents": 0}
MINE, THEIRS = "words in the sidecar", "words in the table"


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Exporting:
    return make_exporting(tmp_path_factory.mktemp("elsewhere") / "project", tiny_models["sd15"])


@pytest.fixture
def exporting(exported_once: Exporting, tmp_path: Path) -> Exporting:
    return copy_exporting(exported_once, tmp_path / "project")


def say(exporting: Exporting, texts: Mapping[Path, str]) -> Imported:
    """Imports a table in which the tiles of these sidecars have other captions."""
    config = exporting.project.config(*exporting.settings())
    rows = table_rows(captioned(config), every=True)
    short = {sidecar.stem.split("_")[-3]: text for sidecar, text in texts.items()}
    table = []
    for row in rows:
        (text,) = [t for s, t in short.items() if row.view_id.hex().startswith(s)] or [None]
        table.append(row if text is None else type(row)(view_id=row.view_id, caption=text))
    return import_table(config, write_rows(table), "captions.csv")


def tile_row(prepared: Prepared, sidecar: Path) -> dict[str, Any]:
    (row,) = rows_of(prepared, sidecar)
    return row


def prepared_as_planned(exporting: Exporting) -> Prepared:
    plan = exporting.plan()
    prepared = exporting.prepare()
    for name, counts in prepared.counts.items():
        assert plan["stages"].get(name, counts.as_json())["computed"] == counts.computed, name
    assert prepared.exported is not None
    assert plan["export"]["sidecars"] == prepared.exported.sidecars
    return prepared


def test_a_sidecar_follows_the_table_until_it_is_edited_itself(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    original = sidecar.read_text()
    assert say(exporting, {sidecar: f"{THEIRS}\n\nmore"}).edited == 1
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING | {"text": 2}
    row = tile_row(after, sidecar)
    assert (row["prompts"], row["prompt_origin"]) == ([THEIRS, "more"], "edited")
    assert sidecar.read_text() == f"{THEIRS}\nmore\n"
    assert prepared_as_planned(exporting).computed() == NOTHING
    sidecar.write_text(MINE)
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING | {"captions": 1, "text": 1}
    sidecar.write_text(original)
    after = prepared_as_planned(exporting)
    assert tile_row(after, sidecar)["prompt_origin"] == "inherited"
    assert after.computed() == NOTHING | {"captions": 1}


@pytest.mark.parametrize("mine", [MINE, f"{MINE}\n\n and more \r\n", "\n"])
def test_an_old_edit_in_a_sidecar_gives_way(exporting: Exporting, mine: str) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_bytes(mine.encode())
    exporting.prepare()
    assert sidecar.read_bytes() == mine.encode()
    assert say(exporting, {sidecar: THEIRS}) == Imported(1, 0, len(exporting.sidecars()) - 1)
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING | {"text": 1}
    assert tile_row(after, sidecar)["prompts"] == [THEIRS]
    assert sidecar.read_text() == f"{THEIRS}\n"
    assert prepared_as_planned(exporting).computed() == NOTHING
    assert tile_row(exporting.prepare(), sidecar)["prompts"] == [THEIRS]


def test_an_edit_that_is_withdrawn_in_the_table_leaves_its_sidecar(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    original = sidecar.read_text()
    sidecar.write_text(MINE)
    exporting.prepare()
    assert say(exporting, {sidecar: original}).withdrawn == 1
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING
    assert tile_row(after, sidecar)["prompt_origin"] == "inherited"
    assert sidecar.read_text() == original
    assert prepared_as_planned(exporting).counts["captions"].wanted == 0
    sidecar.write_text(MINE)
    assert tile_row(prepared_as_planned(exporting), sidecar)["prompts"] == [MINE]


def test_an_edit_comes_back_by_the_table(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_text(MINE)
    exporting.prepare()
    for text in (THEIRS, MINE):
        assert say(exporting, {sidecar: text}).edited == 1
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING
    assert tile_row(after, sidecar)["prompts"] == [MINE]
    assert sidecar.read_text() == MINE


def test_a_sidecar_that_no_run_has_seen_is_not_undone(exporting: Exporting) -> None:
    mine, other = exporting.sidecars()[:2]
    mine.write_text(MINE)
    with pytest.raises(ConfigError, match="edited after the last run; run `tilewright prepare`"):
        say(exporting, {mine: THEIRS, other: THEIRS})
    assert say(exporting, {other: THEIRS}).edited == 1
    after = prepared_as_planned(exporting)
    assert tile_row(after, mine)["prompts"] == [MINE]
    assert tile_row(after, other)["prompts"] == [THEIRS]
    assert say(exporting, {mine: THEIRS}).edited == 1
    assert tile_row(prepared_as_planned(exporting), mine)["prompts"] == [THEIRS]


def test_an_edit_that_only_its_sidecar_has_is_not_overtaken(
    exporting: Exporting, tmp_path: Path
) -> None:
    """The store was lost; a table then gave the tile another text before any run."""
    sidecar = exporting.sidecars()[0]
    sidecar.write_text(MINE)
    exporting.prepare()
    other = (f"store.url={str(tmp_path / 'other')!r}",)
    Exporting(exporting.project, exporting.tiles.with_name("empty")).prepare(*other)
    config = exporting.project.config(*other)
    rows = table_rows(captioned(config), every=True)
    short = sidecar.stem.split("_")[-3]
    table = [
        type(row)(view_id=row.view_id, caption=THEIRS)
        for row in rows
        if row.view_id.hex().startswith(short)
    ]
    assert import_table(config, write_rows(table), "x").edited == 1
    after = exporting.prepare(*other)
    assert tile_row(after, sidecar)["prompts"] == [MINE]
    assert sidecar.read_text() == MINE


@pytest.mark.parametrize("written", [False, True])
def test_a_kill_while_a_sidecar_is_written_loses_nothing(
    exporting: Exporting, written: bool
) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_text(MINE)
    exporting.prepare()
    record = (exporting.tiles / RECORD).read_bytes()
    say(exporting, {sidecar: THEIRS})
    after = exporting.prepare()
    # As a kill leaves it: the notes were made, and the sidecar was written or not.
    (exporting.tiles / RECORD).write_bytes(record)
    sidecar.write_text(MINE)
    config = exporting.project.config(*exporting.settings())
    folder = plan_folder(config.concepts[0], after.rows.select(COLUMNS))
    assert [tile.name for tile in folder.texts] == [sidecar.with_suffix(".png").name]
    write_record(exporting.tiles, ahead(folder.record, folder.noted))
    if written:
        sidecar.write_text(f"{THEIRS}\n")
    again = prepared_as_planned(exporting)
    assert again.computed() == NOTHING
    assert tile_row(again, sidecar)["prompts"] == [THEIRS]
    assert sidecar.read_text() == f"{THEIRS}\n"
    name = sidecar.with_suffix(".png").name
    assert read_record(exporting.tiles)[name].edit == folder.noted[name].edit


def test_a_sidecar_of_two_concepts_stays_as_it_was_written(exporting: Exporting) -> None:
    toml = exporting.project.run_toml
    place = exporting.tiles.with_name("second")
    toml.write_text(
        toml.read_text()
        + f'\n[[concepts]]\nname = "second"\npath = "photos"\n[concepts.image.detail_crops]\n'
        f"enabled = true\nscales = [2]\nsave_to_disk = true\nsave_directory = {str(place)!r}\n"
    )
    exporting.prepare()
    first = exporting.sidecars()[0]
    second = place / first.name
    second.write_text(MINE)
    exporting.prepare()
    assert first.read_text() == f"{MINE}\n"
    assert say(exporting, {first: THEIRS}).edited == 1
    for _ in range(2):
        after = prepared_as_planned(exporting)
        assert {tuple(row["prompts"]) for row in rows_of(after, first)} == {(THEIRS,)}
        assert first.read_text() == f"{THEIRS}\n"
        assert second.read_text() == MINE
    second.write_text("newer words")
    after = prepared_as_planned(exporting)
    assert {tuple(row["prompts"]) for row in rows_of(after, first)} == {("newer words",)}


def test_lines_that_are_joined(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_text("one\ntwo\n")
    joined = ("concepts.0.multiline=joined",)
    exporting.prepare(*joined)
    config = exporting.project.config(*exporting.settings(*joined))
    rows = table_rows(captioned(config), every=True)
    short = sidecar.stem.split("_")[-3]
    (row,) = [row for row in rows if row.view_id.hex().startswith(short)]
    assert row.caption == "one two"
    table = [type(row)(view_id=row.view_id, caption=THEIRS)]
    assert import_table(config, write_rows(table), "x").edited == 1
    assert tile_row(exporting.prepare(*joined), sidecar)["prompts"] == [THEIRS]
    assert sidecar.read_text() == f"{THEIRS}\n"
