"""Write safetensors files item by item, in bounded memory; stock readers open them.

The header comes first in the format and knows every tensor, so the data goes to an unnamed
temporary file (a kill leaves nothing) and is copied behind the header at the end. The tensors of
one item are adjacent, widest type first: one read brings an item, and each tensor is aligned for
its type wherever the item is aligned.
"""

import json
import math
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

ALIGNMENT = 8
_BUFFER = 1 << 20
_COPY = 8 << 20
_PADDING = "_pad"

# safetensors name: (numpy or torch name, bytes)
DTYPES = {
    "F64": ("float64", 8),
    "I64": ("int64", 8),
    "U64": ("uint64", 8),
    "F32": ("float32", 4),
    "I32": ("int32", 4),
    "U32": ("uint32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I16": ("int16", 2),
    "U16": ("uint16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
_CODES = {name: code for code, (name, _) in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """One tensor as it stands in a file."""

    dtype: str
    shape: tuple[int, ...]
    data: Any  # contiguous uint8 array


@dataclass(frozen=True, slots=True)
class Item:
    """Where an item's tensors lie, relative to the start of the data."""

    offset: int
    nbytes: int
    layout: str
    xxh3: int


class TensorFile:
    """A safetensors file in the making."""

    def __init__(self, folder: Path) -> None:
        self._data = tempfile.TemporaryFile(dir=folder, buffering=_BUFFER)  # noqa: SIM115
        self._entries: dict[str, dict[str, Any]] = {}
        self.nbytes = 0

    def append(self, name: str, tensors: Mapping[str, Any]) -> Item:
        """Add the tensors `NAME.FIELD` of one item.

        Args:
            name: prefix of the tensor names, unique in the file.
            tensors: numpy arrays or torch tensors (bfloat16 too) by field.

        Raises:
            ValueError: no tensors, or a type that safetensors lacks.
        """
        parts = _ordered(name, tensors)
        start, hasher, layout = self.nbytes, xxhash.xxh3_64(), []
        for field, part in parts:
            layout.append([field, part.dtype, list(part.shape), self.nbytes - start])
            self._append_tensor(f"{name}.{field}", part)
            hasher.update(part.data)
        item = Item(start, self.nbytes - start, _compact(layout), hasher.intdigest())
        if unaligned := self.nbytes % ALIGNMENT:
            # The format allows no holes: what aligns the next item is a tensor itself.
            filler = np.zeros(ALIGNMENT - unaligned, np.uint8)
            self._append_tensor(f"{name}.{_PADDING}", TensorBytes("U8", filler.shape, filler))
        return item

    def finish(self, target: Path, metadata: Mapping[str, str]) -> int:
        """Write the file, and return where its data start (offset of the first item)."""
        header = _compact({"__metadata__": dict(metadata), **self._entries}).encode()
        header += b" " * (-len(header) % ALIGNMENT)
        self._data.seek(0)
        with target.open("xb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            shutil.copyfileobj(self._data, out, _COPY)
        self.close()
        return 8 + len(header)

    def close(self) -> None:
        """Drop the temporary data."""
        self._data.close()

    def _append_tensor(self, name: str, part: TensorBytes) -> None:
        end = self.nbytes + part.data.nbytes
        self._entries[name] = {
            "dtype": part.dtype,
            "shape": list(part.shape),
            "data_offsets": [self.nbytes, end],
        }
        self._data.write(part.data)
        self.nbytes = end


def item_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Tell how many bytes a tensor takes."""
    return DTYPES[dtype][1] * math.prod(shape)


def _ordered(name: str, tensors: Mapping[str, Any]) -> list[tuple[str, TensorBytes]]:
    if not tensors or _PADDING in tensors:
        raise ValueError(f"item {name}: needs tensors, under names other than {_PADDING!r}")
    parts = [(field, _as_bytes(f"{name}.{field}", tensor)) for field, tensor in tensors.items()]
    return sorted(parts, key=lambda part: (-DTYPES[part[1].dtype][1], part[0]))


def _as_bytes(name: str, tensor: Any) -> TensorBytes:
    shape = tuple(tensor.shape)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        kind = str(tensor.dtype).removeprefix("torch.")
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        # numpy has no bfloat16: hand it bytes.
        raw = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
    else:
        array = np.ascontiguousarray(tensor)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        kind, raw = array.dtype.name, little.reshape(-1).view(np.uint8)
    if kind not in _CODES:
        raise ValueError(f"tensor {name}: type {kind} cannot be stored; use one of {list(_CODES)}")
    return TensorBytes(_CODES[kind], shape, raw)


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
