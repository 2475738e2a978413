"""The digest of a table's values, whatever its chunks, dictionaries, slices or file encoding."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from storage.digest import KEY_BYTES, Key


def table_digest(table: pa.Table) -> Key:
    """Hash column names, types, nulls and values in column and row order.

    Two tables that compare equal have one digest: chunking, dictionary encoding, bytes under
    null slots, 32- or 64-bit text offsets and schema metadata do not count.

    Raises:
        TypeError: a column type without a canonical form (map, union, extension).
    """
    hasher = blake3(b"tilewright table 1")
    _count(hasher, table.num_rows)
    for name, column in zip(table.column_names, table.columns, strict=True):
        _text(hasher, name)
        _array(hasher, _joined(column))
    return hasher.digest(length=KEY_BYTES)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _array(hasher: Any, array: pa.Array) -> None:
    kind = array.type
    if pa.types.is_dictionary(kind):
        _array(hasher, array.dictionary_decode())
        return
    _validity(hasher, array)
    if _is_text_or_bytes(kind):
        _variable(hasher, array)
    elif (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        _list(hasher, array)
    elif pa.types.is_struct(kind):
        _struct(hasher, array)
    elif pa.types.is_boolean(kind):
        _text(hasher, "bool")
        hasher.update(np.packbits(_numpy(array.fill_null(False))).tobytes())
    elif pa.types.is_null(kind):
        _text(hasher, "null")
    else:
        _fixed(hasher, array)


def _validity(hasher: Any, array: pa.Array) -> None:
    _count(hasher, len(array))
    _count(hasher, array.null_count)
    if array.null_count:
        hasher.update(np.packbits(_numpy(array.is_valid())).tobytes())


def _variable(hasher: Any, array: pa.Array) -> None:
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    _text(hasher, "string" if is_text else "binary")
    if array.null_count:
        array = array.fill_null("" if is_text else b"")
    _, offsets, data = array.buffers()
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    if offsets is None or not len(array):
        return
    bounds = np.frombuffer(offsets, np.int64 if wide else np.int32)
    bounds = bounds[array.offset : array.offset + len(array) + 1]
    hasher.update(np.diff(bounds).astype("<i8").tobytes())
    if data is not None:
        hasher.update(memoryview(data)[bounds[0] : bounds[-1]])


def _list(hasher: Any, array: pa.Array) -> None:
    _text(hasher, "list")
    lengths = pc.list_value_length(array).fill_null(0)
    hasher.update(_numpy(lengths).astype("<i8").tobytes())
    _array(hasher, array.flatten())


def _struct(hasher: Any, array: pa.Array) -> None:
    _text(hasher, "struct")
    # flatten() carries the parent's nulls into the fields, .field() would not.
    for field, child in zip(array.type, array.flatten(), strict=True):
        _text(hasher, field.name)
        _array(hasher, child)


def _fixed(hasher: Any, array: pa.Array) -> None:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_nested(kind):
        raise TypeError(f"a column of type {kind} has no canonical form")
    _text(hasher, str(kind))
    if not len(array):
        return
    width = kind.bit_width // 8
    raw = np.frombuffer(array.buffers()[1], np.uint8)
    raw = raw[array.offset * width : (array.offset + len(array)) * width]
    if array.null_count:
        raw = raw.reshape(-1, width) * _numpy(array.is_valid())[:, None].astype(np.uint8)
    hasher.update(np.ascontiguousarray(raw).data)


def _is_text_or_bytes(kind: pa.DataType) -> bool:
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(check(kind) for check in checks)


def _numpy(array: pa.Array) -> Any:
    return array.to_numpy(zero_copy_only=False)


def _text(hasher: Any, text: str) -> None:
    data = text.encode()
    _count(hasher, len(data))
    hasher.update(data)


def _count(hasher: Any, number: int) -> None:
    hasher.update(number.to_bytes(8, "little"))
