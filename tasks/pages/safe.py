"""Safe pages: templates escape, and the policy of a page knows its own script and style by hash."""

import base64
import hashlib
import re

from jinja2 import Environment, PackageLoader, StrictUndefined

MAX_TEXT = 600
# Control characters, and those that turn the direction of what follows.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def environment(package: str) -> Environment:
    """The templates of a package; whatever is put into them is escaped."""
    templates = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["count"] = lambda value: "–" if value is None else f"{value:,}"
    templates.filters["percent"] = lambda value: f"{value:.1%}"
    templates.filters["short"] = short
    templates.globals["plural"] = plural
    return templates


def policy_hash(text: str) -> str:
    """The name by which the policy of a page allows a script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def plural(number: int, word: str) -> str:
    """A number and what is counted: `1 tile`, `2 tiles`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def short(text: object, limit: int = MAX_TEXT) -> str:
    """Text fit to be shown: no control characters, not longer than a screen."""
    shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))
    if len(shown) <= limit:
        return shown
    return f"{shown[:limit]}… ({len(shown):,} characters)"
