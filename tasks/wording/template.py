"""Template: the words that every prompt of a concept is put into."""

import unicodedata
from collections.abc import Callable
from string import Formatter

NAMES = ("prompt", "concept")


def filler(template: str, concept: str) -> Callable[[str], str]:
    """What puts a prompt into a template; an empty prompt stays empty.

    Raises:
        ValueError: the template is wrong, see `check_template`.
    """
    check_template(template)

    def fill(prompt: str) -> str:
        # Only text is put in, and it is not looked at for placeholders again.
        filled = template.format(prompt=prompt, concept=concept) if prompt else ""
        return unicodedata.normalize("NFC", filled)

    return fill if template != "{prompt}" else str


def check_template(template: str) -> None:
    """Raises ValueError when a template has other placeholders than it may, or lacks the prompt."""
    try:
        fields = list(Formatter().parse(template))
    except ValueError as error:
        told = "has a brace without its partner; write one that is meant as such twice: {{ or }}"
        raise ValueError(told) from error
    found = [(name, spec, turn) for _, name, spec, turn in fields if name is not None]
    for name, spec, turn in found:
        if name not in NAMES or spec or turn:
            written = name + (f"!{turn}" if turn else "") + (f":{spec}" if spec else "")
            raise ValueError(
                f"has an unknown placeholder {{{written}}}; there are {{prompt}} and {{concept}}, "
                f"and a brace that is meant as such is written twice: {{{{{written}}}}}"
            )
    if "prompt" not in [name for name, _, _ in found]:
        raise ValueError("must contain {prompt}, where the prompt is put in")
