"""Being refused a file as root: tests often run as root, for whom permissions are no obstacle."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_CAPSET_VERSION = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


def as_anybody(function: Callable[[], T]) -> T:
    """Calls a function that is refused what file permissions refuse, even if root runs the tests.

    Powers belong to a thread in Linux, and the threads that it starts inherit them.
    """
    with ThreadPoolExecutor(1, initializer=_drop_powers) as pool:
        return pool.submit(function).result()


def _drop_powers() -> None:
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPSET_VERSION, 0)
    # Effective, permitted and inheritable powers, their low bits first.
    powers = (ctypes.c_uint32 * 6)()
    if libc.capget(header, powers):
        raise OSError(ctypes.get_errno(), "capget")
    for place in range(3):
        powers[place] &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH) & 0xFFFFFFFF
    if libc.capset(header, powers):
        raise OSError(ctypes.get_errno(), "capset")
