"""Assemble: the rows of a dataset version from the manifests of the stages."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest
from storage.records import DATASET, GREY, LOCATION, K
from tasks.arrow import as_array, first_of_each, with_columns
from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.families import get_family
from tasks.families.live import cached_encoders
from tasks.imaging.samples import kept_samples
from tasks.stage import Tables
from tasks.wording.resolve import UNCONDITIONAL, resolve_prompts


def assemble(config: Config, stage_ids: dict[str, str], manifests: Tables) -> pa.Table:
    """One row per (concept, sample, grid phase) in the DATASET schema, sorted by row_id.

    A sample without its latent, or one of whose prompts could not be encoded, is left out.
    """
    table = dataset_rows(config, manifests)
    latents, masks = (f"stages/{name}/{stage_ids.get(name)}" for name in ("latents", "masks"))
    table = _located(table, "latent", latents, manifests["latents"], "concept", "sample_id")
    # Equal images have one latent, but each concept its own mask, or none.
    masked = with_columns(manifests["masks"], sample_id=manifests["masks"]["key"])
    table = _located(table, "mask", masks, masked, "concept", "sample_id")
    texts = list(_texts(table["prompts"].to_pylist(), text_items(manifests["text"])))
    table = table.append_column("texts", pa.array(texts, DATASET.field("texts").type))
    arrays = [as_array(table[field.name]).cast(field.type) for field in DATASET]
    # Without a cached text encoder no row has texts, and none is incomplete.
    are_cached = bool(cached_encoders(config, get_family(config.model.family)))
    complete = pa.array([bool(text) or not are_cached for text in texts], pa.bool_())
    if config.data.latent_caching:
        complete = pc.and_(complete, pc.is_valid(as_array(table["latent_offset"])))
    if get_family(config.model.family).inpaints:
        known = pa.array(_buckets(_grey_images(manifests["latents"])), pa.string())
        complete = pc.and_(complete, pc.is_in(pa.array(_buckets(table), pa.string()), known))
    rows_table = pa.Table.from_arrays(arrays, schema=DATASET)
    return rows_table.filter(complete).sort_by("row_id")


def dataset_rows(config: Config, manifests: Tables) -> pa.Table:
    """What the manifests of prompts and crops say of each row: all but where its items are."""
    samples = resolve_prompts(kept_samples(manifests["crops"]), manifests, config)
    columns = samples.select(["concept", "key", "phase"]).to_pydict().values()
    table = with_columns(samples, row_id=pa.array(map(row_id, *columns), K))
    table = first_of_each(table, "row_id")
    concepts = {concept.name: concept for concept in config.concepts}
    settings = {name: _settings(concept) for name, concept in concepts.items()}
    of_row = [settings[name] for name in table["concept"].to_pylist()]
    names = ("split", "loss_weight", "repeats", "samples_per_epoch", "tiles_per_epoch")
    types = {name: DATASET.field(name).type for name in names}
    return with_columns(table, **{n: pa.array([one[n] for one in of_row], types[n]) for n in names})


def row_id(concept: str, sample: bytes, phase: int | None = None) -> bytes:
    """The key of a row: equal pixels in two concepts are two rows that share their items.

    A sample that belongs to several grid phases is a row in each of them.
    """
    return digest("row", concept, sample, *(() if phase is None else (phase,)))


def text_items(text: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """Where the embeddings of every prompt are, one entry per text encoder."""
    items: dict[str, list[dict[str, Any]]] = {}
    names = ["prompt", "encoder", "encoder_stage_id", *LOCATION]
    for prompt, encoder, stage_id, *location in zip(
        *text.select(names).to_pydict().values(), strict=True
    ):
        entry = {"encoder": encoder, "stage": f"stages/text/{stage_id}"}
        items.setdefault(prompt, []).append(entry | dict(zip(LOCATION, location, strict=True)))
    return items


def extra_facts(config: Config, stage_ids: dict[str, str], manifests: Tables) -> dict[str, Any]:
    """What a version's JSON says besides its rows.

    `unconditional` locates the empty prompt of every text encoder that is cached; `grey`, of an
    inpainting model, the image of each bucket that is all hole.
    """
    empty = text_items(manifests["text"]).get(UNCONDITIONAL, [])
    grey = _grey_items(f"stages/latents/{stage_ids.get('latents')}", manifests["latents"])
    return {
        "family": config.model.family,
        "model": config.model.base,
        "latents": {"dtype": config.data.encode_dtype, "mode": "mean"},
        "unconditional": [{"prompt": 0, **entry} for entry in empty],
        **({"grey": grey} if grey else {}),
    }


def _grey_items(stage: str, latents: pa.Table) -> list[dict[str, Any]]:
    """Where the image of each bucket that is all hole is."""
    images = _grey_images(latents)
    places = images.select([f"latent_{name}" for name in LOCATION]).to_pydict().values()
    return [
        {"bucket": bucket, "stage": stage, **dict(zip(LOCATION, place, strict=True))}
        for bucket, *place in zip(_buckets(images), *places, strict=True)
    ]


def _grey_images(latents: pa.Table) -> pa.Table:
    return latents.filter(pc.equal(latents["kind"], GREY))


def _buckets(table: pa.Table) -> list[str]:
    """The bucket of each row as training names it, such as 512x768."""
    edges = table.select(["bucket_width", "bucket_height"]).to_pydict().values()
    return [f"{width}x{height}" for width, height in zip(*edges, strict=True)]


def _settings(concept: Concept) -> dict[str, Any]:
    """The columns that a concept's settings decide; validation rows are each seen once."""
    crops = concept.image.detail_crops
    if concept.type == "validation":
        fixed = {"split": "validation", "repeats": 1.0, "samples_per_epoch": None}
        return fixed | {"tiles_per_epoch": 0, "loss_weight": concept.loss_weight}
    return {
        "split": "train",
        "repeats": concept.repeats,
        "samples_per_epoch": concept.samples_per_epoch,
        "tiles_per_epoch": crops.tiles_per_source_per_epoch if crops.enabled else 0,
        "loss_weight": concept.loss_weight,
    }


def _located(table: pa.Table, item: str, stage: str, items: pa.Table, *by: str) -> pa.Table:
    """`table` with where each row's item is, found by these columns; null where it has none."""
    wanted, known = (
        pc.binary_join_element_wise(*(pc.cast(one[name], pa.binary()) for name in by), b"")
        for one in (table, items)
    )
    at = as_array(pc.index_in(wanted, as_array(known)))
    place = pc.if_else(pc.is_valid(at), stage, pa.scalar(None, pa.string()))
    located = {f"{item}_{name}": items[f"{item}_{name}"].take(at) for name in LOCATION}
    return with_columns(table, **{f"{item}_stage": place}, **located)


def _texts(
    prompts: list[list[str]], items: dict[str, list[dict[str, Any]]]
) -> Iterator[list[dict[str, Any]]]:
    for texts in prompts:
        if all(text in items for text in texts):
            yield [
                {"prompt": number, **entry}
                for number, text in enumerate(texts)
                for entry in items[text]
            ]
        else:
            yield []
