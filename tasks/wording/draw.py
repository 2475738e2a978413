"""Seeded draws of prompts that change as little as possible when their source changes."""

from collections.abc import Sequence

from storage.digest import digest


def choose_line(seed: int, view_id: bytes, variation: int, lines: Sequence[str]) -> str:
    """Draws a line for a view by rendezvous hashing: the line with the highest hash wins.

    The order and the position of lines do not matter, and a new line takes over only the views
    that it wins. A line that is there twice is no likelier than the others.

    Raises:
        ValueError: There are no lines.
    """
    if not lines:
        raise ValueError("cannot draw a line from an empty text")
    return max(lines, key=lambda line: digest("line/1", seed, view_id, variation, line))
