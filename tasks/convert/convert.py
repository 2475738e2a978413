"""Convert: a finished model, adapter or word written anew, in another layout or data type.

A whole model is saved as one of which nothing was trained, an adapter as one that was just
trained: what writes the outputs of training writes these too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config.methods import EmbeddingMethod, FullMethod, Method
from tasks.convert.content import NAMES, TARGETS, Content, look_into, read_header
from tasks.families import FAMILIES, get_family
from tasks.families.base import Family
from tasks.families.output_formats import why_not
from tasks.families.sources import PIPELINE_FILE, ModelSource, resolve_model
from tasks.train.formats import OUTPUT_FORMATS
from tasks.train.formats.embedding import read_words
from tasks.train.formats.files import write_safetensors
from tasks.train.formats.metadata import hash_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.formats.reading import read_lora, read_tensors
from tasks.train.formats.tensors import finite_tensors, torch_dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person wants of a file or folder."""

    path: Path
    destination: Path
    to: str
    """An output format."""
    base: str | None = None
    """The base model: its configs name the modules of an adapter, or complete a single file."""
    family: str | None = None
    dtype: str | None = None
    """Data type of the result; None: as it is."""


def convert(wish: Wish) -> dict[str, str]:
    """Writes the destination and says what was made of what.

    Raises:
        ValueError: it cannot be done; says what was found and what can be made of it.
        FileExistsError: there is something at the destination.
    """
    content = look_into(wish.path)
    if wish.to not in TARGETS[content.layout]:
        choices = " or ".join(TARGETS[content.layout])
        raise ValueError(
            f"{wish.path} is {NAMES[content.layout]}; --to {wish.to} cannot be made of it, but "
            f"{choices} can"
        )
    dtype = wish.dtype or content.dtype
    if dtype is None:
        raise ValueError(f"{wish.path}: its data type is not one of ours; choose one with --dtype")
    if content.layout == wish.to and content.layout != "diffusers":
        _recast(wish, dtype)
    else:
        family, source = _base(wish, content)
        model = _as_trained(wish, content, family, source, dtype)
        if reason := why_not(family, model.method.kind, wish.to):
            raise ValueError(f"{wish.path} cannot become {wish.to}: {reason}")
        OUTPUT_FORMATS[wish.to](wish.destination, model)
    return {"path": str(wish.destination), "from": content.layout, "to": wish.to, "dtype": dtype}


def _recast(wish: Wish, dtype: str) -> None:
    """The same layout in another data type: names and header stay."""
    if wish.path.suffix == ".ckpt":
        raise ValueError(f"{wish.path}: make a diffusers folder of it first (--to diffusers)")
    tensors, header = read_tensors(wish.path)
    cast = {
        name: tensor.to(torch_dtype(dtype))
        for name, tensor in finite_tensors(tensors, dtype).items()
    }
    kept = _kept(header)
    write_safetensors(wish.destination, cast, kept | hash_metadata(cast, kept))


def _as_trained(
    wish: Wish, content: Content, family: Family, source: ModelSource, dtype: str
) -> TrainedModel:
    method: Method = FullMethod()
    parts: Mapping[str, Any] = {}
    words: Mapping[str, Any] = {}
    if content.layout in ("kohya_lora", "diffusers_lora"):
        read = read_lora(wish.path, family, source)
        method, parts = read.method, read.parts  # type: ignore[assignment]
    elif content.layout == "embedding":
        method, words = EmbeddingMethod(), read_words(wish.path, family, source)
    return TrainedModel(
        family=family,
        source=source,
        method=method,
        parts=parts,
        embeddings=words,
        dtype=dtype,
        metadata=_kept(read_header(wish.path)),
    )


def _base(wish: Wish, content: Content) -> tuple[Family, ModelSource]:
    """The family and the model whose configs say what the names mean."""
    if content.layout == "diffusers":
        family = _family(wish, wish.path)
        return family, resolve_model(str(wish.path), family)
    if content.layout == "single_file":
        family = _family(wish, None if wish.base is None else Path(wish.base))
        return family, resolve_model(str(wish.path), family, wish.base)
    if wish.base is None:
        raise ValueError(
            f"{wish.path} is {NAMES[content.layout]}: name the model that it is for with --base; "
            "its configs say which modules the names stand for"
        )
    family = _family(wish, Path(wish.base))
    return family, resolve_model(wish.base, family)


def _family(wish: Wish, folder: Path | None) -> Family:
    """The one that was named, or the first one of the folder's pipeline: those name alike."""
    if wish.family is not None:
        return get_family(wish.family)
    if folder is not None and (folder / PIPELINE_FILE).is_file():
        index = json.loads((folder / PIPELINE_FILE).read_text(encoding="utf-8"))
        for family in FAMILIES.values():
            if family.pipeline == index["_class_name"]:
                return family
        raise ValueError(f"{folder} is a {index['_class_name']}, which is of no known family")
    raise ValueError(
        f"of which family is {wish.path}? Say it with --family, or give a diffusers folder of "
        f"this model with --base. Families: {', '.join(FAMILIES)}"
    )


def _kept(header: Mapping[str, str]) -> dict[str, str]:
    """A header without what is only true of the file that it is from."""
    gone = ("format", "lora_adapter_metadata", "modelspec.hash_sha256")
    return {
        key: value
        for key, value in header.items()
        if key not in gone and not key.startswith("sshs_")
    }
