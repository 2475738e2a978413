"""The errors of the API, with the wording of the real server."""

import json

BUSY = "server busy, please try again.  maximum pending requests exceeded"


class ApiError(Exception):
    """An answer that is `{"error": text}` under a status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def not_found(name: str) -> ApiError:
    """No model of that name is installed."""
    return ApiError(404, f"model '{name}' not found")


def from_engine(error: dict[str, object]) -> ApiError:
    """What the engine answers is passed on as it came: a JSON document within the text."""
    code = error.get("code")
    return ApiError(code if isinstance(code, int) else 500, json.dumps({"error": error}))
