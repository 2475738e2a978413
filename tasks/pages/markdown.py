"""Text of users in Markdown: shown as it is, whatever it says."""

import re

from tasks.pages.safe import short

MAX_TEXT = 280
# Whatever might be markup. Prefect's older pages show `&#45;` as it stands, so it is no entity.
_SPECIAL = re.compile(r"[!-+\--/:-@\[-`{-~]")
_SPACES = re.compile(r"\s+")


def escaped(text: str, limit: int = MAX_TEXT) -> str:
    """Text in one line that stays itself in Markdown, in a cell of its tables, and as HTML."""
    plain = _SPACES.sub(" ", short(_SPACES.sub(" ", text), limit)).strip()
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", plain)
