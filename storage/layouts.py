"""From the bytes of items to tensors, without copying."""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from storage.errors import CorruptError
from storage.tensor_file import DTYPES, item_bytes

if TYPE_CHECKING:
    from torch import Tensor

_STRIDE = 64


@dataclass(frozen=True, slots=True)
class Field:
    """One tensor of an item."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # of a batch (items, ...), in elements
    offset: int  # in elements, from the start of the item


@dataclass(frozen=True, slots=True)
class Layout:
    """The tensors of an item, its bytes, and the distance of items in a buffer."""

    fields: tuple[Field, ...]
    nbytes: int
    stride: int


@lru_cache(maxsize=4096)
def parse_layout(text: str) -> Layout:
    """Parse a layout column: JSON [[field, dtype, shape, offset in the item], ...].

    Raises:
        CorruptError: it is not a layout.
    """
    try:
        facts = [(name, dtype, tuple(shape), at) for name, dtype, shape, at in json.loads(text)]
        nbytes = max((at + item_bytes(dtype, shape) for _, dtype, shape, at in facts), default=0)
        stride = -(-nbytes // _STRIDE) * _STRIDE
        fields = tuple(_field(name, dtype, shape, at, stride) for name, dtype, shape, at in facts)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptError(f"not an item layout: {text!r}") from error
    return Layout(fields, nbytes, stride)


def split_items(buffer: np.ndarray, layout: Layout) -> "dict[str, Tensor]":
    """View the rows (items, stride) of a byte buffer as one tensor (items, ...) per field."""
    import torch

    found = {}
    for field in layout.fields:
        dtype, shape = getattr(torch, field.dtype), (len(buffer), *field.shape)
        if buffer.size and math.prod(shape):
            flat = torch.frombuffer(buffer, dtype=dtype)
            found[field.name] = flat.as_strided(shape, field.strides, field.offset)
        else:
            found[field.name] = torch.empty(shape, dtype=dtype)
    return found


def _field(name: str, code: str, shape: tuple[int, ...], offset: int, stride: int) -> Field:
    dtype, width = DTYPES[code]
    if offset % width:
        raise ValueError(f"{name} is not aligned")
    inner = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return Field(name, dtype, shape, (stride // width, *inner), offset // width)
