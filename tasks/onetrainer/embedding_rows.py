"""Words of textual inversion: `embedding`, and `additional_embeddings` beside any method."""

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.onetrainer.method_rows import trained_dtype
from tasks.onetrainer.model_rows import is_lora
from tasks.onetrainer.rows import Answer, Left, Put, Row, Table, View, later, only, taken
from tasks.onetrainer.units import stop_after

DEFAULTS: dict[str, Any] = {
    "uuid": None,
    "model_name": "",
    "placeholder": "<embedding>",
    "train": True,
    "stop_training_after": None,
    "stop_training_after_unit": "NEVER",
    "token_count": 1,
    "initial_embedding_text": "*",
    "is_output_embedding": False,
}
"""OneTrainer's, of the words of both settings."""
UNTAKEN = {
    "model_name": "a word that starts from a file",
    "is_output_embedding": "vectors behind the text encoder; here they are those in front of it",
    "train": "a word that is read and not trained",
}
"""Settings of a word without a place here, where they are not at their default."""


def _is_embedding(view: View) -> bool:
    return bool(view["training_method"] == "EMBEDDING")


def _embeds(view: View) -> bool:
    return _is_embedding(view) or bool(view["additional_embeddings"])


def _own(view: View) -> dict[str, Any]:
    return {key: view[f"embedding.{key}"] for key in DEFAULTS}


def _others(view: View) -> list[dict[str, Any]]:
    """What the further words say, over OneTrainer's defaults."""
    said = view["additional_embeddings"] or []
    if not isinstance(said, list) or not all(isinstance(one, Mapping) for one in said):
        raise TypeError("a list of tables is needed")
    return [{**DEFAULTS, **one} for one in said]


def _word(word: Mapping[str, Any], view: View) -> tuple[dict[str, Any], list[Left]]:
    """One of `train.embeddings`, and what of it has no place there."""
    left = [Left("not yet", why) for key, why in UNTAKEN.items() if word[key] != DEFAULTS[key]]
    ours: dict[str, Any] = {"placeholder": str(word["placeholder"])}
    ours["initial_text"] = str(word["initial_embedding_text"])
    if word["token_count"] is not None:
        ours["num_vectors"] = int(word["token_count"])
    if (rate := view["embedding_learning_rate"]) is not None:
        ours["learning_rate"] = float(rate)
    stop = stop_after(word["stop_training_after"], word["stop_training_after_unit"], view)
    if isinstance(stop, Left):
        left.append(stop)
    elif stop:
        ours["stop_after"] = {"n": stop.n, "unit": stop.unit}
    return ours, left


def _words(view: View) -> list[Answer]:
    words = [_own(view)] if _is_embedding(view) else []
    pairs = [_word(word, view) for word in [*words, *_others(view)]]
    lefts = [left for _, several in pairs for left in several]
    return [Put("train.embeddings", [ours for ours, _ in pairs]), *lefts]


def _own_word(value: Any, view: View) -> Iterable[Answer]:
    return [] if view["additional_embeddings"] else _words(view)


def _more_words(value: Any, view: View) -> Iterable[Answer]:
    return _words(view) if value else []


def _bundle(value: Any, view: View) -> Iterable[Answer]:
    if not (value and is_lora(view) and view["additional_embeddings"]):
        return []
    return [Left("different", "words are in a folder of their own beside the adapter's file")]


def _dtype(value: Any, view: View) -> Iterable[Answer]:
    if _is_embedding(view):
        return trained_dtype(value, view)
    return [] if value == "FLOAT_32" else [Left("different", "words have train.weight_dtype")]


EMBEDDINGS: Table = {
    "embedding.placeholder": only(_is_embedding, Row(DEFAULTS["placeholder"], _own_word)),
    **{f"embedding.{key}": taken(DEFAULTS[key]) for key in DEFAULTS if key != "placeholder"},
    "additional_embeddings": Row([], _more_words),
    "embedding_learning_rate": taken(),
    "embedding_weight_dtype": only(_embeds, Row("FLOAT_32", _dtype)),
    "preserve_embedding_norm": only(
        _embeds, later(False, "the length of a word's vectors is not held")
    ),
    "bundle_additional_embeddings": Row(True, _bundle),
}
