"""Reasons that differ only in their numbers, told as one."""

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def summarise_reasons(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Return (reason, how often), the most frequent first.

    Where reasons of the same wording have different numbers, their range is shown:
    `luma std 0.0012 < 0.004` and `luma std 0.0031 < 0.004` are `luma std 0.0012-0.0031 < 0.004`
    (with an en dash).
    """
    alike: dict[tuple[str, ...], list[list[str]]] = {}
    for reason in reasons:
        alike.setdefault(tuple(_NUMBER.split(reason)), []).append(_NUMBER.findall(reason))
    told = [(_fill(words, numbers), len(numbers)) for words, numbers in alike.items()]
    return sorted(told, key=lambda item: (-item[1], item[0]))


def _fill(words: tuple[str, ...], numbers: list[list[str]]) -> str:
    """Put the ranges of the numbers back between the words."""
    ranges = [_range(column) for column in zip(*numbers, strict=True)]
    return "".join(word + number for word, number in zip(words, [*ranges, ""], strict=True))


def _range(numbers: tuple[str, ...]) -> str:
    low, high = min(numbers, key=float), max(numbers, key=float)
    return low if float(low) == float(high) else f"{low}–{high}"
