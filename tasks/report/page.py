"""The page around the data: templates, style and script put together, and what keeps it safe.

Nothing of a user becomes markup: templates escape, the data blocks are base64, and the policy of
the page allows no script or style but the ones in it, known by their hashes, and no requests.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from tasks.pages.safe import environment, policy_hash
from tasks.report.packing import Packed

_SCRIPTS = ("drawing.js", "cards.js", "report.js")


def render(page: Mapping[str, Any], packed: Packed | None) -> str:
    """Return the whole page; without its data blocks when there are none yet."""
    style, script = _inlined()
    listed: int = page["num_listed"]
    return (
        environment("tasks.report")
        .get_template("report.html")
        .render(
            **page,
            num_pictured=packed.num_pictured if packed else listed,
            num_without_grids=packed.num_without_grids if packed else listed,
            blocks=_blocks(packed) if packed else [],
            style=Markup(style),
            script=Markup(script),
            style_hash=policy_hash(style),
            script_hash=policy_hash(script),
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
