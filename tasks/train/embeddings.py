"""Textual inversion (Gal et al. 2022): new words whose vectors train, in every text encoder.

A word of n vectors is n tokens: `<boat>`, `<boat>_1`, ... as diffusers names them. The encoder's
own embedding table stays as it is: a wrapper around it gives the trained vectors for new tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.config.methods import Embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A trained word."""

    settings: Embedding
    num_vectors: int
    vectors: Mapping[str, torch.nn.Parameter]
    """Text encoder to (num_vectors, D)."""


def add_words(
    settings: Sequence[Embedding], encoders: Mapping[str, tuple[Any, Any]], dtype: torch.dtype
) -> list[Word]:
    """Adds the words to (tokenizer, model) of every encoder.

    Raises:
        ValueError: a placeholder is a word of a tokenizer already, or an initial text is empty.
    """
    if not settings:
        return []
    words, tables = [], {name: _Table(model) for name, (_, model) in encoders.items()}
    for one in settings:
        initial = {name: _initial_ids(tokenizer, one) for name, (tokenizer, _) in encoders.items()}
        count = one.num_vectors or max(map(len, initial.values()))
        vectors = {}
        for name, (tokenizer, _) in encoders.items():
            ids = _add_tokens(tokenizer, token_names(one.placeholder, count))
            vectors[name] = tables[name].add(ids, initial[name], dtype)
        words.append(Word(settings=one, num_vectors=count, vectors=vectors))
    for name, (tokenizer, model) in encoders.items():
        _find_end_by_name(model, tokenizer)
        model.set_input_embeddings(tables[name].wrapper())
    return words


def token_names(placeholder: str, count: int) -> list[str]:
    """The tokens of a word."""
    return [placeholder, *(f"{placeholder}_{number}" for number in range(1, count))]


def spell_out(prompt: str, words: Sequence[Word]) -> str:
    """The prompt with each word written as all its tokens."""
    for word in words:
        placeholder = word.settings.placeholder
        tokens = " ".join(token_names(placeholder, word.num_vectors))
        prompt = prompt.replace(placeholder, tokens)
    return prompt


class _Table:
    """The new rows of one encoder's embedding table, until they are put around it."""

    def __init__(self, model: Any) -> None:
        self.base = model.get_input_embeddings()
        self.rows: list[tuple[list[int], torch.nn.Parameter]] = []

    def add(
        self, ids: Sequence[int], initial: Sequence[int], dtype: torch.dtype
    ) -> torch.nn.Parameter:
        source = [initial[number % len(initial)] for number in range(len(ids))]
        start = self.base.weight.detach()[source].to(dtype).clone()
        parameter = torch.nn.Parameter(start)
        self.rows.append((list(ids), parameter))
        return parameter

    def wrapper(self) -> "WithNewRows":
        return WithNewRows(self.base, self.rows)


class WithNewRows(torch.nn.Module):
    """An embedding table with more rows: (B, T) ids to (B, T, D)."""

    def __init__(self, base: Any, rows: Sequence[tuple[list[int], torch.nn.Parameter]]) -> None:
        """`rows` are the ids and vectors of each word."""
        super().__init__()
        self.base = base
        self.new = torch.nn.ParameterList([parameter for _, parameter in rows])
        ids = [number for numbers, _ in rows for number in numbers]
        places = torch.full((max(ids) + 1,), -1, device=base.weight.device)
        places[ids] = torch.arange(len(ids), device=base.weight.device)
        self.places: torch.Tensor
        self.register_buffer("places", places, persistent=False)

    @property
    def weight(self) -> torch.Tensor:
        """The table itself: models ask it for its data type and device."""
        weight: torch.Tensor = self.base.weight
        return weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The vectors (B, T, D)."""
        places = self.places[ids.clamp(max=len(self.places) - 1)]
        is_new = (places >= 0) & (ids < len(self.places))
        known = self.base(ids.masked_fill(is_new, 0))
        vectors = torch.cat(list(self.new))[places.clamp(min=0)].to(known.dtype)
        return torch.where(is_new[..., None], vectors, known)


def _initial_ids(tokenizer: Any, settings: Embedding) -> list[int]:
    ids: list[int] = tokenizer(settings.initial_text, add_special_tokens=False).input_ids
    if not ids:
        raise ValueError(
            f"train.embeddings: initial_text = {settings.initial_text!r} of "
            f"{settings.placeholder!r} has no token; use a word that describes it"
        )
    return ids


def _add_tokens(tokenizer: Any, names: Sequence[str]) -> list[int]:
    known = tokenizer.get_vocab()
    taken = [name for name in names if name in known]
    if taken:
        raise ValueError(
            f"train.embeddings: the placeholder {names[0]!r} is a word that the model knows "
            f"already; use one that it does not know, such as '<{names[0].strip('<>')}-new>'"
        )
    tokenizer.add_tokens(list(names))
    ids: list[int] = tokenizer.convert_tokens_to_ids(list(names))
    return ids


def _find_end_by_name(model: Any, tokenizer: Any) -> None:
    """CLIP checkpoints of old take the largest id for the end of the text: ours are larger."""
    for part in (model, getattr(model, "text_model", model)):
        if getattr(part, "eos_token_id", None) == 2:
            part.eos_token_id = tokenizer.eos_token_id
