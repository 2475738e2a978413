"""Reads request bodies as the real server does, with the same words for what is wrong."""

import base64
import json
import re
from typing import Any

from tests.ollama.errors import ApiError

_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DEFAULT_KEEP_ALIVE = 300.0


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object of a body, or a 400."""
    if not data:
        raise ApiError(400, "missing request body")
    try:
        body = json.loads(data)
    except UnicodeDecodeError as error:
        raise ApiError(400, "invalid character 'ÿ' looking for beginning of value") from error
    except json.JSONDecodeError as error:
        raise ApiError(400, _json_trouble(error)) from error
    if not isinstance(body, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(body), "number")
        raise ApiError(400, f"json: cannot unmarshal {kind} into Go value of type api.Request")
    return body


def _json_trouble(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc.rstrip()):
        return "unexpected EOF"
    return f"invalid character {error.doc[error.pos]!r} looking for beginning of value"


def images(body: dict[str, Any]) -> list[bytes]:
    """The decoded images of a request or a message, or a 400."""
    return [_decode(text) for text in body.get("images") or []]


def _decode(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ApiError(400, "json: cannot unmarshal into Go struct field .images of type []uint8")
    text = text.replace("\r", "").replace("\n", "")
    good = len(_BASE64.match(text)[0])
    padding = text[good:]
    if padding.strip("=") or len(text) % 4 or len(padding) > 2:
        raise ApiError(400, f"illegal base64 data at input byte {good}")
    return base64.b64decode(text)


def keep_alive(body: dict[str, Any]) -> float | None:
    """Seconds, negative for ever; None where the request says nothing."""
    value = body.get("keep_alive")
    if value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, str):
        raise ApiError(400, f"unsupported type: {value!r}")
    parts = re.findall(r"([\d.]+)(ns|us|ms|s|m|h)", value)
    rest = value.lstrip("-")
    if "".join(map("".join, parts)) != rest or not parts:
        raise ApiError(400, f'time: invalid duration "{value}"')
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return -seconds if value.startswith("-") else seconds
