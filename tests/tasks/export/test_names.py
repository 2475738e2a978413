import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tasks.export.names import MOST_BYTES, sidecar_name, tile_name

VIEW = bytes.fromhex("1f3a9c2e" + "00" * 12)
RECT = (0, 448, 512, 512)
STEMS = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=300)


def name_of(path: str, view: bytes = VIEW) -> str:
    return tile_name(path, view, "detail", 2.0, RECT)


def test_a_name_says_what_the_tile_is() -> None:
    assert name_of("photos/harbour.jpg") == "harbour_1f3a9c2e_detail-x2_0-448-512x512.png"
    name = tile_name("s3://bucket/a/harbour.v2.tif", VIEW, "context", 1.0, RECT)
    assert name == "harbour.v2_1f3a9c2e_context-x1_0-448-512x512.png"
    assert tile_name("a.jpg", VIEW, "detail", 1.5, RECT).startswith("a_1f3a9c2e_detail-x1.5_")
    assert sidecar_name(name) == "harbour.v2_1f3a9c2e_context-x1_0-448-512x512.txt"


@given(STEMS)
def test_any_stem_gives_a_name_that_every_file_system_takes(stem: str) -> None:
    name = name_of(f"photos/{stem}.jpg")
    assert len(name.encode()) <= MOST_BYTES < 255
    assert not re.search(r'[\x00-\x1f\x7f<>:"/\\|?*]', name)
    assert not name.startswith((".", " "))
    assert name.endswith("_1f3a9c2e_detail-x2_0-448-512x512.png")


@given(STEMS)
def test_one_stem_in_two_spellings_gives_one_name(stem: str) -> None:
    spellings = [unicodedata.normalize(form, stem) for form in ("NFC", "NFD")]
    assert len({name_of(f"photos/{spelling}.jpg") for spelling in spellings}) == 1


def test_a_long_name_is_cut_between_characters() -> None:
    name = name_of(f"photos/{'ü' * 200}.jpg")
    assert set(name.partition("_")[0]) == {"ü"}
    assert MOST_BYTES - 1 <= len(name.encode()) <= MOST_BYTES


def test_sources_with_one_stem_differ() -> None:
    assert name_of("a/x.jpg", bytes(16)) != name_of("b/x.png", b"\1" + bytes(15))
