import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.export.tiles import spread


@given(st.integers(0, 500), st.integers(0, 60))
def test_a_few_of_many_are_evenly_spread(count: int, most: int) -> None:
    chosen = list(spread(count, most))
    assert chosen == sorted(set(chosen))
    assert all(0 <= number < count for number in chosen)
    assert len(chosen) == (min(count, most) if most else count)
    if most and count > most:
        steps = [b - a for a, b in zip(chosen, chosen[1:], strict=False)]
        assert not steps or max(steps) - min(steps) <= 1
        assert abs(chosen[0] - (count - 1 - chosen[-1])) <= 1


@pytest.mark.parametrize(
    ("count", "most", "chosen"), [(12, 3, [2, 6, 10]), (5, 1, [2]), (2, 5, [0, 1])]
)
def test_examples(count: int, most: int, chosen: list[int]) -> None:
    assert list(spread(count, most)) == chosen
