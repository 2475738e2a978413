"""Words of textual inversion, one safetensors file each.

A family with one text encoder: `emb_params` (num_vectors, D), as A1111, ComfyUI and diffusers'
`load_textual_inversion` read it. Several encoders: one tensor for each under ComfyUI's names,
`clip_l`, `clip_g`, `t5xxl`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.families.base import Family
from tasks.families.sources import ModelSource, read_config
from tasks.train.formats.files import publish_folder, refuse_existing, write_safetensors
from tasks.train.formats.metadata import hash_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.modelspec import words_metadata
from tasks.train.formats.tensors import finite, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

_T5 = ("t5", "umt5")


def save(destination: Path, model: TrainedModel) -> Path:
    """Write one word as a file, several as a folder with a file for each."""
    if not model.embeddings:
        raise ValueError("output format 'embedding' holds trained words, and none was trained")
    if len(model.embeddings) == 1:
        (placeholder,) = model.embeddings
        return _write(destination, model, placeholder)
    return publish_folder(destination, lambda folder: _write_all(folder, model))


def save_beside(destination: Path, model: TrainedModel) -> Path:
    """The words that were trained together with a model, in a folder beside its file."""
    folder = words_folder(destination)
    return publish_folder(folder, lambda inside: _write_all(inside, model))


def words_folder(destination: Path) -> Path:
    """Where the words of a model at `destination` are: `harbour-words` for harbour.safetensors."""
    return destination.with_name(f"{destination.name.removesuffix('.safetensors')}-words")


def refuse_existing_words(destination: Path) -> None:
    """FileExistsError when there are words of an earlier model."""
    refuse_existing(words_folder(destination))


def word_file(placeholder: str) -> str:
    """The file of a word: readers take its stem for the word in prompts, so `<` and `>` go."""
    stem = re.sub(r"[^\w.-]+", "_", placeholder.strip("<>")).strip("._")
    return f"{stem or 'word'}.safetensors"


def encoder_keys(family: Family, source: ModelSource) -> dict[str, str]:
    """Text encoder (text_encoder_1, ...) to its key in the file."""
    if len(family.text_encoders) == 1:
        return {family.text_encoders[0].name: "emb_params"}
    clips = iter(("clip_l", "clip_g"))
    keys = {}
    for encoder in family.text_encoders:
        kind = str(read_config(source, encoder.model).get("model_type"))
        if kind.startswith("clip"):
            keys[encoder.name] = next(clips)
        else:
            keys[encoder.name] = "t5xxl" if kind in _T5 else encoder.model
    return keys


def read_words(
    path: Path, family: Family, source: ModelSource
) -> "dict[str, Mapping[str, Tensor]]":
    """Stem of the file to text encoder to vectors; the inverse of `save` for one file.

    Raises:
        ValueError: the file has no vectors for this family.
    """
    from safetensors.torch import load_file

    tensors = load_file(path)
    encoders = {key: name for name, key in encoder_keys(family, source).items()}
    if len(tensors) == 1 and len(encoders) == 1:
        (vectors,) = tensors.values()
        return {path.stem: {next(iter(encoders.values())): vectors}}
    missing = sorted(encoders.keys() - tensors.keys())
    if missing:
        raise ValueError(
            f"{path}: no vectors for {', '.join(missing)} of {family.name}; the file has "
            f"{', '.join(sorted(tensors))}"
        )
    return {path.stem: {name: tensors[key] for key, name in encoders.items()}}


def _write_all(folder: Path, model: TrainedModel) -> None:
    names: dict[str, str] = {}
    for placeholder in model.embeddings:
        name = word_file(placeholder)
        if name in names:
            raise ValueError(f"{placeholder!r} and {names[name]!r} would be the same file {name!r}")
        names[name] = placeholder
        _write(folder / name, model, placeholder)


def _write(path: Path, model: TrainedModel, placeholder: str) -> Path:
    keys = encoder_keys(model.family, model.source)
    dtype = torch_dtype(model.dtype)
    vectors = finite(model, model.embeddings[placeholder])
    tensors = {keys[name]: one.to(dtype).contiguous() for name, one in vectors.items()}
    metadata = {**model.metadata, **words_metadata([placeholder])}
    return write_safetensors(path, tensors, metadata | hash_metadata(tensors, metadata))
