"""Protocol: what a caption server can be asked, as a record of functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.captions.client import Server

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One picture and what is asked about it."""

    model: str
    system_prompt: str
    user_prompt: str
    jpeg: bytes
    max_tokens: int
    temperature: float
    json_schema: Mapping[str, Any] | None = None
    think: bool | None = None
    """False for models that would think first; None leaves it to the server."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said."""

    text: str
    """Without its reasoning, where the server tells them apart."""
    stopped_because: str
    """`stop`, or `length` where it was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a kind of server is talked to; every function raises CallError."""

    canonical: Callable[[str], str]
    """A model's name in the one spelling by which models are told apart."""
    models: Callable[[Server, float], dict[str, str]]
    """Digest of every model that the server has, by canonical name; "" where it tells none."""
    version: Callable[[Server, float], str]
    """Of the server, for the record; "" where it tells none."""
    capabilities: Callable[[Server, str, float], frozenset[str] | None]
    """What a model can do (`vision`, `thinking`); None where the server does not tell."""
    ask: Callable[[Server, Question, float], Answer]
    """The answer to a question within so many seconds."""
    pull: Callable[[Server, str, Progress], None] | None
    """Lets the server download a model; None where it cannot."""
    unload: Callable[[Server, str, float], None] | None
    """Lets the server free the memory that a model takes."""
