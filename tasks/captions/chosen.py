"""Chosen: which tiles and photos a model captions, what it is asked, and the key of its answer."""

import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import canonical_json, digest, digest_json
from tasks.arrow import first_of_each, with_columns
from tasks.captions.protocols import PROTOCOLS
from tasks.config.concepts import DetailCrops
from tasks.config.models import Config
from tasks.imaging.jobs import row_view
from tasks.imaging.samples import kept_samples
from tasks.imaging.views import View, view_id
from tasks.stage import Tables
from tasks.wording.resolve import pooled

NO_CONTEXT = "nothing"
"""Stands for the prompt of a photo that has none."""
PICTURE = "jpeg-90"
"""The format in which pictures are sent; part of every key."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that may have a text of its own: a tile, or a whole photo without a prompt."""

    concept: str
    path: str
    source_id: bytes
    view_id: bytes
    view: View
    logical: str
    certain: bool
    context: str
    """The first prompt of the photo, as written."""

    @property
    def label(self) -> str:
        """What people call it."""
        if self.view.kind == "full":
            return self.path
        left, top, *_ = self.view.rect
        width, height = self.view.resized
        where = f"at {left},{top} of {width}x{height}"
        return f"{self.path}, {self.view.kind} x{self.view.scale:g} {where}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked about a target; everything that decides the answer."""

    protocol: str
    model: str
    digest: str
    system_prompt: str
    template: str
    user_prompt: str
    sent_px: tuple[int, int]
    options: str
    """Canonical JSON: temperature and the most tokens."""
    json_schema: str

    def key(self, view: bytes) -> bytes:
        """The key of the answer, 16 bytes."""
        shared = _captioner_key(
            self.protocol,
            self.model,
            self.digest,
            self.system_prompt,
            self.options,
            self.json_schema,
        )
        return digest("caption/1", view, *self.sent_px, shared, self.user_prompt)


@lru_cache(maxsize=64)
def _captioner_key(
    protocol: str, model: str, model_digest: str, system_prompt: str, options: str, schema: str
) -> bytes:
    """What all answers have in common that one captioner gives with one set of settings."""
    facts = {"model": model, "digest": model_digest, "system": system_prompt, "options": options}
    facts |= {"protocol": protocol, "schema": schema, "picture": PICTURE}
    return digest_json("captioner/1", facts)


def target_of(row: Mapping[str, Any]) -> Target:
    """The target that a row of the wanted items describes."""
    return Target(
        concept=row["concept"],
        path=row["path"],
        source_id=row["source_id"],
        view_id=row["view_id"],
        view=row_view(dict(row)),
        logical=row["logical"],
        certain=row["certain"],
        context=row["context"],
    )


def targets(config: Config, upstream: Tables) -> list[Target]:
    """Every kept tile, each view once per concept, and every photo without a prompt."""
    sources = pooled(upstream["prompts"])
    kept = kept_samples(upstream["crops"])
    return [*_tiles(kept, sources), *_photos(upstream["prompts"], kept, sources)]


def captioning(crops: DetailCrops, kind: str) -> bool:
    """Whether a concept asks for captions of tiles, or of whole photos."""
    if kind == "full":
        return crops.caption_full_images
    return crops.enabled and crops.enable_captioning


def is_chosen(seed: int, target: Target, crops: DetailCrops) -> bool:
    """Whether a target is captioned: a draw that depends on `data.seed` and the tile alone.

    A larger `caption_probability` therefore adds tiles and loses none. Photos without a prompt are
    all captioned.
    """
    if not captioning(crops, target.view.kind):
        return False
    if target.view.kind == "full":
        return True
    drawn = int.from_bytes(digest("caption choice/1", seed, target.view_id)[:8], "big")
    return drawn < crops.caption_probability * 2.0**64


def asked(target: Target, crops: DetailCrops, model_digest: str) -> Asked:
    """What is asked about a target with the settings of its concept."""
    return Asked(
        protocol=crops.caption_protocol,
        model=PROTOCOLS[crops.caption_protocol].canonical(crops.caption_model),
        digest=model_digest,
        system_prompt=crops.caption_system_prompt,
        template=crops.caption_user_prompt,
        user_prompt=rendered(crops.caption_user_prompt, target),
        sent_px=sent_size(target.view.target, crops.caption_image_px),
        options=_options(crops.caption_temperature, crops.caption_max_tokens),
        json_schema=_compact(crops.caption_json_schema),
    )


@lru_cache(maxsize=64)
def _options(temperature: float, max_tokens: int) -> str:
    return canonical_json({"temperature": temperature, "max_tokens": max_tokens})


@lru_cache(maxsize=64)
def _compact(schema: str) -> str:
    """A JSON schema without its layout; the order of its properties is that of the caption."""
    return json.dumps(json.loads(schema)) if schema else ""


def rendered(template: str, target: Target) -> str:
    """The user prompt of a target (NFC); what is put in is not looked at for placeholders again."""
    text = template.format(
        context=" ".join(target.context.split()) or NO_CONTEXT,
        concept=target.concept,
        file_name=PurePosixPath(target.path).name,
        scale=f"{target.view.scale:g}",
        rect=",".join(map(str, target.view.rect)),
    )
    return unicodedata.normalize("NFC", text)


def sent_size(size: tuple[int, int], long_px: int) -> tuple[int, int]:
    """The width and height that a picture is sent in: never enlarged."""
    factor = min(1.0, long_px / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _tiles(kept: pa.Table, sources: Mapping[tuple[str, bytes], Any]) -> Iterator[Target]:
    tiles = kept.filter(pc.not_equal(kept["kind"], "full"))
    # A tile is certain if any of its samples is; the grid phases and variations share it.
    sure = tiles.filter(tiles["certain"])
    certain = set(zip(sure["concept"].to_pylist(), sure["view_id"].to_pylist(), strict=True))
    names = pc.binary_join_element_wise(
        pc.cast(tiles["concept"], pa.binary()), pc.cast(tiles["view_id"], pa.binary()), b""
    )
    for row in first_of_each(with_columns(tiles, name=names), "name").to_pylist():
        owner = row["concept"], row["view_id"]
        context = sources[row["concept"], row["source_id"]][0][0]
        yield Target(
            concept=row["concept"],
            path=row["path"],
            source_id=row["source_id"],
            view_id=row["view_id"],
            view=row_view(row),
            logical=f"{row['logical']}|caption",
            certain=owner in certain,
            context=context,
        )


def _photos(
    prompts: pa.Table, kept: pa.Table, sources: Mapping[tuple[str, bytes], Any]
) -> Iterator[Target]:
    """Photos without a prompt that something is trained of, each as the view of all its pixels."""
    bare = {owner for owner, (_, origin) in sources.items() if origin == "none"}
    used = set(zip(kept["concept"].to_pylist(), kept["source_id"].to_pylist(), strict=True))
    names = ["concept", "path", "source_id", "width", "height"]
    columns = prompts.select(names).to_pydict().values() if bare else ()
    for concept, path, source_id, *size in zip(*columns, strict=True):
        if (concept, source_id) not in bare & used:
            continue
        bare.discard((concept, source_id))
        view = whole_view(size[0], size[1])
        key, logical = view_id(source_id, view), f"{concept}|{path}|caption"
        yield Target(concept, path, source_id, key, view, logical, certain=True, context="")


def whole_view(width: int, height: int) -> View:
    """All pixels of a photo as they are: what its caption and its edits are known by."""
    size = (width, height)
    return View("full", 1.0, size, (0, 0, width, height), size)
