"""Templates: texts of the user's with placeholders in braces."""

import unicodedata
from collections.abc import Callable, Collection
from string import Formatter

NAMES = ("prompt", "concept")
"""Placeholders of `prompt_template`."""
CAPTION_NAMES = ("context", "concept", "file_name", "scale", "rect")
"""Placeholders of `caption_user_prompt`."""


def filler(template: str, concept: str) -> Callable[[str], str]:
    """What puts a prompt into a template; an empty prompt stays empty.

    Raises:
        ValueError: the template is wrong, see `check_template`.
    """
    check_template(template, NAMES, needed="prompt")

    def fill(prompt: str) -> str:
        # Only text is put in, and it is not looked at for placeholders again.
        filled = template.format(prompt=prompt, concept=concept) if prompt else ""
        return unicodedata.normalize("NFC", filled)

    return fill if template != "{prompt}" else str


def check_template(template: str, names: Collection[str], *, needed: str | None = None) -> None:
    """Raises ValueError when a template has other placeholders than `names`, or lacks `needed`."""
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        told = "has a brace without its partner; write one that is meant as such twice: {{ or }}"
        raise ValueError(told) from error
    found = [(name, spec, turn) for _, name, spec, turn in fields if name is not None]
    for name, spec, turn in found:
        if name not in names or spec or turn:
            written = name + (f"!{turn}" if turn else "") + (f":{spec}" if spec else "")
            *others, last = (f"{{{one}}}" for one in names)
            raise ValueError(
                f"has an unknown placeholder {{{written}}}; there are {', '.join(others)} and "
                f"{last}, and a brace that is meant as such is written twice: {{{{{written}}}}}"
            )
    if needed and needed not in [name for name, _, _ in found]:
        raise ValueError(f"must contain {{{needed}}}, where the {needed} is put in")
