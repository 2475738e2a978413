from collections import Counter

import pytest

from tasks.wording.draw import choose_line

LINES = ["a harbour", "two boats", "fog at sea", "gulls", "an anchor"]
SAMPLES = [number.to_bytes(16, "big") for number in range(2000)]


def draw(lines: list[str], seed: int = 7, variation: int = 0) -> list[str]:
    return [choose_line(seed, sample, variation, lines) for sample in SAMPLES]


def test_draws_never_drift() -> None:
    """Golden values: a change gives every sample another prompt."""
    assert draw(LINES)[:6] == [
        "an anchor",
        "two boats",
        "gulls",
        "fog at sea",
        "gulls",
        "a harbour",
    ]


def test_draws_are_even_and_depend_on_everything() -> None:
    counts = Counter(draw(LINES))
    assert set(counts) == set(LINES)
    assert min(counts.values()) > 320
    for other in (draw(LINES, seed=8), draw(LINES, variation=1)):
        same = sum(a == b for a, b in zip(draw(LINES), other, strict=True))
        assert 300 < same < 500, "a fifth by chance"


def test_the_order_of_lines_does_not_matter() -> None:
    assert draw(LINES) == draw(LINES[::-1])


def test_a_new_line_takes_only_what_it_wins() -> None:
    before, after = draw(LINES), draw([*LINES, "a lighthouse"])
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(changed) == {"a lighthouse"}
    assert 250 < len(changed) < 420


def test_a_removed_line_moves_only_its_own_samples() -> None:
    before, after = draw(LINES), draw(LINES[1:])
    for old, new in zip(before, after, strict=True):
        assert old == new or old == LINES[0]


def test_no_lines_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty text"):
        choose_line(7, SAMPLES[0], 0, [])
