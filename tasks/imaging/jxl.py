"""The size in the header of a JPEG XL file: its Pillow plugin decodes before it tells the size."""

from dataclasses import dataclass

_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_BOX_HEADS = {b"jxlc": 0, b"jxlp": 4}
"""Boxes that hold the codestream, and the bytes before it."""


def jxl_size(start: bytes) -> tuple[int, int] | None:
    """(width, height) as stored, from the first kilobytes of a file; None if they do not show it.

    Layout: ISO/IEC 18181-1 (SizeHeader) and 18181-2 (boxes).
    """
    stream = _codestream(start)
    if stream is None or len(stream) < 12:
        return None
    bits = _Bits(int.from_bytes(stream[2:12], "little"))
    small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if small else _side(bits)
    ratio = bits.take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return 8 * (bits.take(5) + 1) if small else _side(bits), height


@dataclass(slots=True)
class _Bits:
    """Bits of a number, the lowest first."""

    left: int

    def take(self, count: int) -> int:
        value = self.left & ((1 << count) - 1)
        self.left >>= count
        return value


def _side(bits: _Bits) -> int:
    return bits.take((9, 13, 18, 30)[bits.take(2)]) + 1


def _codestream(start: bytes) -> bytes | None:
    if start.startswith(b"\xff\x0a"):
        return start
    place = 0
    while place + 8 <= len(start):
        size, name = int.from_bytes(start[place : place + 4], "big"), start[place + 4 : place + 8]
        if name in _BOX_HEADS:
            head = 16 if size == 1 else 8
            return start[place + head + _BOX_HEADS[name] :]
        if size < 8:
            return None
        place += size
    return None
