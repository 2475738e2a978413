"""Cleaning: from what a model answers to a caption, or to the reason why it is none."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.captions.protocols.base import Answer

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"\A.*</(think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)
"""Of a thought whose beginning stood in the prompt."""
_FENCE = re.compile(r"\A```\w*\s*|\s*```\Z")
_LABEL = re.compile(
    r"\A[^\w\"'“«]{0,4}(caption|description|answer)[*_ ]{0,3}:[*_]{0,3}(\s|\Z)", re.IGNORECASE
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "«": "»"}
_UNCLEAR = re.compile(r"\b(unclear[_ -]crop|unanswerable)\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\A\W*((i\W?m|i am|we are) (sorry|afraid|unable|not able)|apologies\b|"
    r"sorry(\W*\Z|[,.!:;]|\s+(but|i|we|for|about|this|that|the|there)\b)|"
    r"(unfortunately\W+)?i (can ?not|can\W?t|could ?n\W?t|won\W?t|do ?n\W?t|am not)\b|"
    r"as an? (ai|language model|artificial)\b|there is no (image|picture)\b|no image\b|"
    r"(please|could you) (provide|upload|share)\b)",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of characters."""
LOOP_WORDS, LOOP_SHARE = 8, 0.5
"""An answer of so many words or more is a loop when one run of words makes up more than half."""
ECHO_WORDS = 6
"""An answer that begins with so many words of what was asked repeats the question."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What became of an answer: a caption, or why there is none."""

    text: str
    unusable: str | None = None
    """empty, unclear, refusal, repetition, cut off, echo, or not the JSON asked for."""


def clean(answer: Answer, user_prompt: str, schema: Mapping[str, Any] | None = None) -> Caption:
    """The caption in an answer: one line of text (NFC) without reasoning, label and quotes.

    Args:
        answer: of the model.
        user_prompt: what it was asked.
        schema: that the answer should have; its values become the caption, in the schema's order.
    """
    text = _THOUGHT_END.sub(" ", _THOUGHT.sub(" ", answer.text))
    if answer.stopped_because == "length":
        return Caption(_one_line(text), "cut off")
    if schema is not None:
        try:
            text = _of_json(text, schema)
        except (ValueError, RecursionError):
            return Caption(_one_line(text), "not the JSON asked for")
    text = _unwrapped(_one_line(text))
    return Caption(text, _why_unusable(text, user_prompt))


def _why_unusable(text: str, user_prompt: str) -> str | None:
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return "empty"
    if _UNCLEAR.search(text):
        return "unclear"
    if _REFUSAL.match(text):
        return "refusal"
    if _loops(words):
        return "repetition"
    asked = [word.lower() for word in _WORD.findall(user_prompt)]
    head = words[:ECHO_WORDS]
    if len(asked) >= len(head) == ECHO_WORDS and asked[:ECHO_WORDS] == head or words == asked:
        return "echo"
    return None


def _loops(words: list[str]) -> bool:
    """Whether one to three words that follow each other make up most of a text."""
    if len(words) < LOOP_WORDS:
        return False
    for length in (1, 2, 3):
        runs = zip(*(words[start:] for start in range(length)), strict=False)
        ((_, count),) = Counter(runs).most_common(1)
        if count > 2 and count * length > LOOP_SHARE * len(words):
            return True
    return False


def _of_json(text: str, schema: Mapping[str, Any]) -> str:
    """The values of a JSON answer, joined in the order of the schema's properties."""
    value = json.loads(_FENCE.sub("", text.strip()))
    if not isinstance(value, dict):
        raise ValueError("no object")
    names = [name for name in schema["properties"] if name in value]
    if not names or any(name not in value for name in schema.get("required", ())):
        raise ValueError("a property is missing")
    parts = [part for name in names for part in _parts(value[name])]
    return ", ".join(part.strip() for part in parts if part.strip())


def _parts(value: Any) -> list[str]:
    """The texts of one value; what is false or null says nothing."""
    if isinstance(value, list):
        return [part for one in value for part in _parts(one)]
    if isinstance(value, dict):
        return [part for one in value.values() for part in _parts(one)]
    return [] if value is None or isinstance(value, bool) else [str(value)]


def _one_line(text: str) -> str:
    """Without control characters and line breaks; white space is one blank."""
    return " ".join(_NO_TEXT.sub(" ", unicodedata.normalize("NFC", text)).split())


def _unwrapped(text: str) -> str:
    """Without a code fence, a label such as `Caption:`, and quotes around it all."""
    before = None
    while text != before:
        before, text = text, _FENCE.sub("", text).strip()
        if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
            text = text[1:-1].strip()
        text = _LABEL.sub("", text).strip()
    return text
