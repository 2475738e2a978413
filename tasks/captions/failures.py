"""Failures: what kinds of reasons there are for a caption that could not be made."""

from collections import Counter
from collections.abc import Iterable

UNUSABLE = "the answer is no caption"
"""How the reason of an answer begins that a model gave and that cannot be used."""


def kind_of(reason: str) -> str:
    """What kind of reason it is: what stands before its colon, without the number of tries."""
    return reason.partition(":")[0].partition(" after ")[0]


def breakdown(reasons: Iterable[str]) -> tuple[dict[str, int], dict[str, int]]:
    """How many answers were unusable, by why, and how many questions failed, by kind."""
    unusable: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for reason in reasons:
        kind, _, why = reason.partition(": ")
        if kind == UNUSABLE:
            unusable[why] += 1
        else:
            failed[kind_of(reason)] += 1
    return dict(unusable.most_common()), dict(failed.most_common())
