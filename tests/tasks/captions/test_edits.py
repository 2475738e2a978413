"""Edited sidecars win from the next run on, and are never lost."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.export.record import RECORD
from tests.model_fixtures import TinyModels
from tests.projects import Prepared
from tests.tasks.pipeline.exporting import (
    CROPS,
    Exporting,
    copy_exporting,
    make_exporting,
    rows_of,
)

NOTHING = {"scan": 0, "prompts": 0, "crops": 0, "text": 0, "latents": 0}
EDIT = "rigging against the evening sky"


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Exporting:
    return make_exporting(tmp_path_factory.mktemp("edits") / "project", tiny_models["sd15"])


@pytest.fixture
def exporting(exported_once: Exporting, tmp_path: Path) -> Exporting:
    return copy_exporting(exported_once, tmp_path / "project")


def prepared_as_planned(exporting: Exporting, *settings: str) -> Prepared:
    """Plans, prepares, and holds one against the other."""
    plan = exporting.plan(*settings)
    prepared = exporting.prepare(*settings)
    for name, counts in prepared.counts.items():
        told = plan["stages"].get(name, {"exact": True} | counts.as_json())
        assert told["exact"], name
        assert {key: told[key] for key in counts.as_json()} == counts.as_json(), name
    return prepared


def tile_row(prepared: Prepared, sidecar: Path) -> dict[str, Any]:
    (row,) = rows_of(prepared, sidecar)
    return row


def test_an_edit_is_one_caption_and_one_text(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[4]
    sidecar.write_text(f"{EDIT}\n")
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING | {"captions": 1, "text": 1}
    assert after.counts["captions"].reasons == {"new": 1}
    row = tile_row(after, sidecar)
    assert (row["prompts"], row["prompt_origin"]) == ([EDIT], "edited")
    assert sum(row["prompt_origin"] == "edited" for row in after.rows.to_pylist()) == 1
    assert after.created
    again = prepared_as_planned(exporting)
    assert again.computed() == NOTHING
    assert again.counts["captions"].reused == 1
    assert not again.created
    assert sidecar.read_text() == f"{EDIT}\n"


def test_an_edit_may_have_several_prompts_or_none(exporting: Exporting) -> None:
    several, none = exporting.sidecars()[:2]
    several.write_text("one\n\n two \n")
    none.write_text("\n")
    after = prepared_as_planned(exporting)
    assert tile_row(after, several)["prompts"] == ["one", "two"]
    assert tile_row(after, none)["prompts"] == [""]
    assert after.computed() == NOTHING | {"captions": 2, "text": 2}


def test_an_edit_is_split_as_its_concept_says(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_text("one\ntwo\n")
    joined = exporting.prepare("concepts.0.multiline=joined")
    assert tile_row(joined, sidecar)["prompts"] == ["one two"]


def test_an_edit_is_final(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_text(EDIT)
    template = 'concepts.0.text.prompt_template="art, {prompt}"'
    row = tile_row(exporting.prepare(template), sidecar)
    assert row["prompts"] == [EDIT]


def test_saving_a_sidecar_in_another_way_is_no_edit(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_bytes(b"\xef\xbb\xbf" + sidecar.read_bytes().strip() + b" \r\n\r\n")
    assert prepared_as_planned(exporting).counts["captions"].wanted == 0


def test_an_edit_set_back_is_withdrawn_for_good(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    original = sidecar.read_text()
    sidecar.write_text(EDIT)
    exporting.prepare()
    sidecar.write_text(original)
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING | {"captions": 1}
    assert tile_row(after, sidecar)["prompt_origin"] == "inherited"
    assert prepared_as_planned(exporting).counts["captions"].wanted == 0
    shutil.rmtree(exporting.tiles)
    assert prepared_as_planned(exporting).counts["captions"].wanted == 0
    assert sidecar.read_text() == original


def test_an_edit_may_come_go_and_come_back(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    original = sidecar.read_text()
    for text, origin, encoded in (
        (EDIT, "edited", 1),
        (original, "inherited", 0),
        (EDIT, "edited", 0),
    ):
        sidecar.write_text(text)
        after = prepared_as_planned(exporting)
        assert after.computed() == NOTHING | {"captions": 1, "text": encoded}
        assert tile_row(after, sidecar)["prompt_origin"] == origin
    shutil.rmtree(exporting.tiles)
    after = prepared_as_planned(exporting)
    assert tile_row(after, sidecar)["prompts"] == [EDIT]


def test_an_edit_may_be_set_back_to_a_caption_that_changed(exporting: Exporting) -> None:
    sidecar = exporting.sidecars("photo0")[0]
    sidecar.write_text(EDIT)
    exporting.prepare()
    (exporting.project.photos / "photo0.txt").write_text("a new caption")
    prepared_as_planned(exporting)
    assert sidecar.read_text() == EDIT
    sidecar.write_text("a new caption")
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING | {"captions": 1}
    assert tile_row(after, sidecar)["prompt_origin"] == "inherited"


def test_an_edit_outlives_the_exported_files(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_text(EDIT)
    exporting.prepare()
    shutil.rmtree(exporting.tiles)
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING
    assert tile_row(after, sidecar)["prompts"] == [EDIT]
    assert sidecar.read_text() == f"{EDIT}\n"
    assert prepared_as_planned(exporting).computed() == NOTHING
    assert exporting.project.prepare().counts["captions"].reused == 1


def test_an_edit_that_was_written_again_can_still_be_changed_and_withdrawn(
    exporting: Exporting,
) -> None:
    sidecar = exporting.sidecars()[0]
    original = sidecar.read_text()
    sidecar.write_text(EDIT)
    exporting.prepare()
    sidecar.unlink()
    exporting.prepare()
    sidecar.write_text("other words")
    after = prepared_as_planned(exporting)
    assert tile_row(after, sidecar)["prompts"] == ["other words"]
    assert after.counts["captions"].reasons == {"the sidecar was edited": 1}
    sidecar.write_text(original)
    assert tile_row(prepared_as_planned(exporting), sidecar)["prompt_origin"] == "inherited"


def test_an_edit_outlives_the_store_where_its_sidecar_is_there(exporting: Exporting) -> None:
    sidecar, written_again = exporting.sidecars()[:2]
    for path in (sidecar, written_again):
        path.write_text(EDIT)
    exporting.prepare()
    written_again.unlink()
    exporting.prepare()
    shutil.rmtree(exporting.project.folder / "store")
    after = exporting.prepare()
    assert after.counts["captions"].computed == 2
    for path in (sidecar, written_again):
        assert tile_row(after, path)["prompts"] == [EDIT]


def test_an_edit_belongs_to_the_photo_whatever_it_is_called(exporting: Exporting) -> None:
    sidecar = exporting.sidecars("photo0")[0]
    sidecar.write_text(EDIT)
    exporting.prepare()
    for suffix in (".jpg", ".txt"):
        photo = exporting.project.photos / f"photo0{suffix}"
        photo.rename(photo.with_name(f"renamed{suffix}"))
    after = prepared_as_planned(exporting)
    assert after.computed() == NOTHING
    renamed = sidecar.with_name(sidecar.name.replace("photo0", "renamed"))
    assert tile_row(after, renamed)["prompts"] == [EDIT]
    assert renamed.read_text() == f"{EDIT}\n"


def test_an_edit_goes_along_to_another_folder(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    other = Exporting(exporting.project, exporting.tiles.with_name("other"))
    other.prepare()
    sidecar.write_text(EDIT)
    exporting.prepare()
    after = prepared_as_planned(other)
    assert after.computed() == NOTHING
    assert (other.tiles / sidecar.name).read_text() == f"{EDIT}\n"
    assert tile_row(after, sidecar)["prompts"] == [EDIT]
    assert prepared_as_planned(exporting).computed() == NOTHING


def test_a_dropped_tile_keeps_its_edit_for_when_it_comes_back(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_text(EDIT)
    exporting.prepare()
    gone = prepared_as_planned(exporting, f"{CROPS}enabled=false")
    assert (gone.counts["captions"].wanted, gone.counts["captions"].removed) == (0, 1)
    back = prepared_as_planned(exporting)
    assert tile_row(back, sidecar)["prompts"] == [EDIT]


def test_an_unreadable_sidecar_is_told_and_the_last_edit_counts(exporting: Exporting) -> None:
    sidecar, other = exporting.sidecars()[:2]
    sidecar.write_text(EDIT)
    exporting.prepare()
    for path in (sidecar, other):
        path.write_bytes(b"caf\xe9")
    after = prepared_as_planned(exporting)
    assert after.counts["captions"].rejected == 2
    assert {path for path, _ in after.rejects} == {str(sidecar), str(other)}
    assert all("UTF-8" in reason for _, reason in after.rejects)
    assert tile_row(after, sidecar)["prompts"] == [EDIT]
    assert tile_row(after, other)["prompt_origin"] == "inherited"
    assert sidecar.read_bytes() == b"caf\xe9"
    sidecar.write_text("better")
    other.unlink()
    assert prepared_as_planned(exporting).rejects == []


def test_an_unknown_text_in_a_folder_without_record_is_an_edit(exporting: Exporting) -> None:
    sidecar = exporting.sidecars()[0]
    sidecar.write_text(EDIT)
    (exporting.tiles / RECORD).unlink()
    after = prepared_as_planned(exporting)
    assert after.counts["captions"].computed == 1
    assert tile_row(after, sidecar)["prompts"] == [EDIT]


def test_the_first_concept_wins_where_two_export_one_tile(exporting: Exporting) -> None:
    toml = exporting.project.run_toml
    place = str(exporting.tiles.with_name("second"))
    toml.write_text(
        toml.read_text()
        + f'\n[[concepts]]\nname = "second"\npath = "photos"\n[concepts.image.detail_crops]\n'
        f"enabled = true\nscales = [2]\nsave_to_disk = true\nsave_directory = {place!r}\n"
    )
    exporting.prepare()
    first = exporting.sidecars()[0]
    second = Path(place) / first.name
    second.write_text("in the second folder")
    after = prepared_as_planned(exporting)
    assert {tuple(row["prompts"]) for row in rows_of(after, first)} == {("in the second folder",)}
    assert first.read_text() == "in the second folder\n"
    first.write_text(EDIT)
    after = prepared_as_planned(exporting)
    assert {tuple(row["prompts"]) for row in rows_of(after, first)} == {(EDIT,)}
    assert second.read_text() == "in the second folder"
    assert prepared_as_planned(exporting).computed() == NOTHING


def test_nothing_is_looked_at_where_nothing_is_exported(exporting: Exporting) -> None:
    prepared = exporting.project.prepare()
    assert prepared.counts["captions"].wanted == 0
    assert not list((exporting.project.folder / "store/stages/captions").glob("*/index"))
