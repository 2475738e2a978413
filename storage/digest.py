"""Identity: blake3-128 over tagged, length-prefixed parts, and canonical JSON.

Every key of the project is made here, so a change of these few lines orphans every cache:
`tests/storage/test_digest.py` holds golden values.
"""

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import IO, Any

from blake3 import blake3

Key = bytes
KEY_BYTES = 16
HASH_NAME = "blake3-128"
_CHUNK = 1 << 20
_EXACT_FLOAT = 2.0**53


def digest(domain: str, *parts: bytes | str | int) -> Key:
    """Hash parts under a domain such as `"view/1"`.

    Parts carry their kind and length, so `("ab", "c")` and `("a", "bc")` differ, as do `1` and
    `"1"`. Text is hashed as given: normalise it before if two spellings must be one key.

    Returns:
        16 bytes.

    Raises:
        TypeError: a part is neither bytes, str nor int.
    """
    hasher = blake3()
    for part in (domain, *parts):
        kind, payload = _tagged(part)
        hasher.update(kind + len(payload).to_bytes(8, "little"))
        hasher.update(payload)
    return hasher.digest(length=KEY_BYTES)


def digest_json(domain: str, value: object) -> Key:
    """Hash a JSON value under a domain; equal canonical JSON gives equal keys."""
    return digest(domain, canonical_json(value))


def digest_bytes(data: bytes | bytearray | memoryview) -> Key:
    """Hash file content: plain blake3, first 16 bytes."""
    return blake3(data).digest(length=KEY_BYTES)


def digest_file(stream: IO[bytes]) -> Key:
    """Hash the rest of a binary stream as `digest_bytes` would, in bounded memory."""
    hasher = blake3()
    while chunk := stream.read(_CHUNK):
        hasher.update(chunk)
    return hasher.digest(length=KEY_BYTES)


def hexkey(key: Key) -> str:
    """Write a key as it stands in names: 32 lower-case hex digits."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, got {len(key)}: {key!r}")
    return key.hex()


def canonical_json(value: object) -> str:
    """Write a JSON value in its one form: sorted keys, no spaces, NFC, 2.0 as 2.

    Raises:
        ValueError: NaN or an infinity, or two object keys that are equal after NFC.
        TypeError: a value that JSON does not have (bytes, sets, numpy scalars, non-text keys).
    """
    plain = _plain(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def without_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the fields that equal the default they had when they were introduced.

    A field added later with a default therefore changes no old key.
    """
    return {
        name: value
        for name, value in values.items()
        if name not in defaults or canonical_json(value) != canonical_json(defaults[name])
    }


def _tagged(part: bytes | str | int) -> tuple[bytes, bytes]:
    match part:
        case bytes():
            return b"b", part
        case str():
            # File names may hold bytes that are not UTF-8 (lone surrogates): they hash too.
            return b"s", part.encode("utf-8", "surrogatepass")
        case bool():
            raise TypeError(f"a digest part is bytes, str or int, got {part!r}")
        case int():
            return b"i", str(part).encode()
        case _:
            raise TypeError(f"a digest part is bytes, str or int, got {type(part).__name__}")


def _plain(value: object) -> object:
    match value:
        case None | bool() | int():
            return value
        case str():
            return unicodedata.normalize("NFC", value)
        case float():
            return _plain_number(value)
        case Mapping():
            return _plain_object(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            raise TypeError(f"not a JSON value: {type(value).__name__} {value!r}")


def _plain_number(value: float) -> int | float:
    if not math.isfinite(value):
        raise ValueError(f"a key cannot hold {value}: give a finite number")
    # TOML writes 2 and 2.0 for one setting; both must give one key.
    return int(value) if value.is_integer() and abs(value) < _EXACT_FLOAT else value


def _plain_object(value: Mapping[Any, Any]) -> dict[str, object]:
    plain: dict[str, object] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise TypeError(f"a JSON object has text keys, got {type(name).__name__} {name!r}")
        normal = unicodedata.normalize("NFC", name)
        if normal in plain:
            raise ValueError(f"two keys are the same text after NFC: {normal!r}")
        plain[normal] = _plain(item)
    return plain
