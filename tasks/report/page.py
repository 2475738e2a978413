"""The page around the data: templates, style and script put together, and what keeps it safe.

Nothing of a user becomes markup: templates escape, the data blocks are base64, and the policy of
the page allows no script or style but the ones in it, known by their hashes, and no requests.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.report.packing import Packed

MAX_TEXT = 600
_SCRIPTS = ("drawing.js", "cards.js", "report.js")
# Control characters, and those that turn the direction of what follows.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def render(page: Mapping[str, Any], packed: Packed | None) -> str:
    """Return the whole page; without its data blocks when there are none yet."""
    style, script = _inlined()
    listed: int = page["num_listed"]
    return (
        _environment()
        .get_template("report.html")
        .render(
            **page,
            num_pictured=packed.num_pictured if packed else listed,
            num_without_grids=packed.num_without_grids if packed else listed,
            blocks=_blocks(packed) if packed else [],
            style=Markup(style),
            script=Markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
        )
    )


def _blocks(packed: Packed) -> list[tuple[str, Markup]]:
    """(id, text) of every data block; the texts are base64 and spaces."""
    return [
        ("facts", Markup(packed.facts)),
        *((f"grids-{number}", Markup(text)) for number, text in enumerate(packed.grids)),
        *((f"pictures-{number}", Markup(text)) for number, text in enumerate(packed.pictures)),
    ]


@lru_cache(maxsize=1)
def _inlined() -> tuple[str, str]:
    """Style and script."""
    folder = files("tasks.report")
    script = "\n".join(folder.joinpath(name).read_text() for name in _SCRIPTS)
    return folder.joinpath("report.css").read_text(), script


def _hash(text: str) -> str:
    """The name by which the page's policy allows a script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: "–" if value is None else f"{value:,}"
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    environment.filters["short"] = _short
    environment.globals["plural"] = _plural
    return environment


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _short(text: object, limit: int = MAX_TEXT) -> str:
    """Return text fit to be shown: no control characters, not longer than a screen."""
    shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))
    if len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(shown):,} characters)"
