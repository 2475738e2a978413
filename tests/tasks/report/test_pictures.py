import base64
import io

import pytest
from PIL import Image

from tasks.imaging.thumbnail import EDGE, shrink_jpeg
from tasks.report.pictures import EDGES, fit_pictures
from tests.tasks.report import example


@pytest.fixture(scope="module")
def jpegs() -> list[bytes | None]:
    paths = sorted(example.PHOTOS.glob("*.jpg"))
    return [*(shrink_jpeg(path.read_bytes()) for path in paths), None]


def edge(text: str) -> int:
    return max(Image.open(io.BytesIO(base64.b64decode(text))).size)


def test_pictures_that_fit_are_as_they_were(jpegs: list[bytes | None]) -> None:
    found = fit_pictures(jpegs, 1_000_000)
    assert [base64.b64decode(text) for text in found] == [data or b"" for data in jpegs]


@pytest.mark.parametrize("share", [0.5, 0.3, 0.1])
def test_pictures_become_as_small_as_needed_and_no_smaller(
    jpegs: list[bytes | None], share: float
) -> None:
    whole = sum(len(data or b"") for data in jpegs)
    found = fit_pictures(jpegs, int(whole * share))
    assert sum(map(len, found)) <= whole * share
    assert [bool(text) for text in found] == [data is not None for data in jpegs]
    (size,) = {edge(text) for text in found if text}
    assert size in EDGES and size < EDGE
    larger = [one for one in EDGES if one > size]
    if larger:
        from tasks.report.pictures import _shrink

        smaller_step = [base64.b64encode(_shrink(data, larger[-1]) or b"") for data in jpegs]
        assert sum(map(len, smaller_step)) > whole * share - 2 * len(jpegs)


def test_where_nothing_fits_the_first_ones_have_pictures(jpegs: list[bytes | None]) -> None:
    smallest = fit_pictures(jpegs, 8_000)
    found = fit_pictures(jpegs, len(smallest[0]) + len(smallest[1]) + 40)
    assert 0 < sum(map(bool, found)) < sum(map(bool, smallest))
    assert [bool(text) for text in found] == sorted((bool(text) for text in found), reverse=True)
    assert fit_pictures(jpegs, 0) == [""] * len(jpegs)
    assert fit_pictures([], 0) == []
