"""The sheet of a real project: its tiles, its photos, and what is no longer there."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.store import open_store
from tasks.imaging.decode import decode
from tasks.imaging.views import view_pixels
from tasks.pipeline.caption_sheet import collect_sheet, sheet_path, write_sheet
from tasks.pipeline.captions import Captioned, captioned
from tests.caption_server import CaptionServer, Fault
from tests.captioning import TILES, Captioning, make_captioning
from tests.model_fixtures import TinyModels
from tests.tasks.report.page import read_page

FAULTS = (Fault.answer("I'm sorry, I cannot help."), Fault.answer(" "), Fault.status(400, "no"))
ONE = ("caption_parallel=1", "caption_max_retries=0", "caption_min_success=0")


@pytest.fixture(scope="module")
def captioning(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Captioning:
    """Two photos, whose tiles but three are captioned."""
    folder = tmp_path_factory.mktemp("sheet") / "project"
    with CaptionServer(script=FAULTS) as server:
        made = make_captioning(folder, tiny_models["sd15"], server, num_photos=2).having(*ONE)
        made.caption()
    return made


def found(captioning: Captioning, *settings: str) -> list[Captioned]:
    return captioned(captioning.config(*settings))


def test_numbers_cards_and_pictures(captioning: Captioning) -> None:
    there = found(captioning)
    sheet = collect_sheet(captioning.config(), there)
    assert (sheet.name, sheet.total, len(sheet.cards)) == ("test", 2 * TILES, 2 * TILES)
    assert sheet.origins == {"generated": 2 * TILES - 3, "inherited": 2, "to come": 1}
    assert sheet.unusable == {"refusal": 1, "empty": 1}
    assert sum(sheet.failures.values()) == 1
    assert sheet.folder == f"{captioning.project.photos}/"
    for one, card in zip(there, sheet.cards, strict=True):
        assert (card.prompts, card.origin) == (one.prompts, one.origin)
        assert f"{sheet.folder}{card.path}" == one.target.path
        assert card.context.startswith("a photo, number ")
        assert card.picture is not None
        picture = np.asarray(Image.open(io.BytesIO(card.picture)), np.int16)
        pixels = view_pixels(decode(Path(one.target.path).read_bytes()), one.target.view)
        assert np.abs(picture - pixels).mean() < 12
    assert len(sheet.thumbnails) == 2
    refused = [card for card in sheet.cards if card.unusable == "refusal"]
    assert [card.answer for card in refused] == ["I'm sorry, I cannot help."]
    failed = [card for card in sheet.cards if card.failure]
    assert len(failed) == 1 and failed[0].origin == "to come"


def test_a_part_is_where_the_tile_is(captioning: Captioning) -> None:
    there = found(captioning)
    for one, card in zip(there, collect_sheet(captioning.config(), there).cards, strict=True):
        assert card.part is not None
        left, top, width, height = card.part
        wide, high = one.target.view.resized
        rect = (left * wide, top * high, width * wide, height * high)
        assert rect == pytest.approx(one.target.view.rect)
        assert card.where.startswith("detail ×2 at ")


def test_tiles_that_nobody_captions_are_left_out(captioning: Captioning) -> None:
    sheet = collect_sheet(captioning.config(), found(captioning, "caption_probability=0.3"))
    assert 0 < sheet.total < 2 * TILES
    none = collect_sheet(captioning.config(), found(captioning, "enable_captioning=false"))
    assert (none.total, none.cards, none.folder) == (0, (), "")


def test_few_cards_are_spread_over_the_photos(captioning: Captioning) -> None:
    sheet = collect_sheet(captioning.config(), found(captioning), max_cards=4)
    assert sheet.total == 2 * TILES
    assert [card.path for card in sheet.cards] == ["photo0.jpg"] * 2 + ["photo1.jpg"] * 2


def test_a_photo_that_changed_has_no_picture(captioning: Captioning, tmp_path: Path) -> None:
    own = captioning.of_its_own(tmp_path / "project")
    there = captioned(own.config())
    (own.project.photos / "photo0.jpg").unlink()
    (own.project.photos / "photo1.jpg").write_bytes(b"something else")
    sheet = collect_sheet(own.config(), there)
    assert all(card.picture is None for card in sheet.cards)
    assert sheet.total == 2 * TILES


def test_whole_photos_without_a_prompt(captioning: Captioning, tmp_path: Path) -> None:
    own = captioning.of_its_own(tmp_path / "project")
    (own.project.photos / "photo0.txt").unlink()
    there = found(own, "enable_captioning=false", "caption_full_images=true")
    sheet = collect_sheet(own.config(), there)
    (card,) = sheet.cards
    assert (card.where, card.part, card.origin) == ("whole photo", None, "to come")
    assert card.picture is not None
    assert Image.open(io.BytesIO(card.picture)).size == (160, 112)
    assert (card.path, sheet.folder) == ("photo0.jpg", f"{own.project.photos}/")


def test_the_page_is_written_beside_the_versions(captioning: Captioning, tmp_path: Path) -> None:
    config = captioning.config()
    uri = write_sheet(config, collect_sheet(config, found(captioning)))
    path = Path(uri)
    assert path == captioning.project.folder / "store/datasets/test/captions.html"
    page = read_page(path.read_text())
    assert len(page.all("article")) == 2 * TILES
    again = write_sheet(config, collect_sheet(config, found(captioning), max_cards=1))
    assert again == uri
    assert "1 of 24 are shown" in read_page(path.read_text()).text()


def test_a_store_in_s3(captioning: Captioning, s3_url: str) -> None:
    there = found(captioning)
    config = captioning.config(f"store.url={s3_url!r}")
    uri = write_sheet(config, collect_sheet(config, there))
    assert uri == f"{s3_url}/datasets/test/captions.html"
    assert b"</html>" in open_store(s3_url).read_bytes(sheet_path(config))
