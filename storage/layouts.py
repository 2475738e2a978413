"""From the bytes of items to tensors, without copying."""

import json
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
    offset: int
    nbytes: int


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
        fields = tuple(
            Field(name, dtype, tuple(shape), offset, item_bytes(dtype, tuple(shape)))
            for name, dtype, shape, offset in json.loads(text)
        )
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptError(f"not an item layout: {text!r}") from error
    nbytes = max((field.offset + field.nbytes for field in fields), default=0)
    return Layout(fields, nbytes, -(-nbytes // _STRIDE) * _STRIDE)


def split_items(buffer: np.ndarray, layout: Layout) -> "dict[str, Tensor]":
    """View the rows (items, stride) of a byte buffer as one tensor (items, ...) per field."""
    import torch

    rows, count = torch.from_numpy(buffer), len(buffer)
    found = {}
    for field in layout.fields:
        dtype = getattr(torch, DTYPES[field.dtype][0])
        if field.nbytes and count:
            flat = rows[:, field.offset : field.offset + field.nbytes].view(dtype)
            found[field.name] = flat.view(count, *field.shape)
        else:
            found[field.name] = torch.empty((count, *field.shape), dtype=dtype)
    return found
