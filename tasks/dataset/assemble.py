"""Assemble: the rows of a dataset version from the manifests of the stages."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest
from storage.records import DATASET, LOCATION, K
from tasks.config.models import Config
from tasks.stage import Tables, first_of_each
from tasks.wording.resolve import resolve_prompts

UNCONDITIONAL = ""


def assemble(config: Config, stage_ids: dict[str, str], manifests: Tables) -> pa.Table:
    """One row per (concept, sample) in the DATASET schema, sorted by row_id.

    A sample one of whose prompts could not be encoded is left out.
    """
    latents = resolve_prompts(manifests["latents"], manifests["prompts"], config.data.seed)
    rows = pa.array(map(row_id, latents["concept"].to_pylist(), latents["key"].to_pylist()), K)
    table = first_of_each(latents.append_column("row_id", rows), "row_id")
    texts = list(_texts(table["prompts"].to_pylist(), text_items(manifests["text"])))
    concepts = {concept.name: concept for concept in config.concepts}
    of_row = [concepts[name] for name in table["concept"].to_pylist()]
    stage = f"stages/latents/{stage_ids['latents']}"
    constants = {"latent_stage": stage, "variation": 0, "split": "train"}
    columns = {name: [value] * table.num_rows for name, value in constants.items()} | {
        "sample_id": table["key"],
        "texts": texts,
        "loss_weight": [concept.loss_weight for concept in of_row],
        "repeats": [concept.repeats for concept in of_row],
    }
    arrays = [_column(columns.get(field.name, None), table, field) for field in DATASET]
    rows_table = pa.Table.from_arrays(arrays, schema=DATASET)
    complete = pa.array([bool(text) for text in texts], pa.bool_())
    return rows_table.filter(complete).sort_by("row_id")


def row_id(concept: str, sample: bytes) -> bytes:
    """The key of a row: equal pixels in two concepts are two rows that share their items."""
    return digest("row", concept, sample)


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


def extra_facts(config: Config, manifests: Tables) -> dict[str, Any]:
    """What a version's JSON says besides its rows; `unconditional` locates the empty prompt."""
    empty = text_items(manifests["text"])[UNCONDITIONAL]
    numbers = pc.max(manifests["latents"]["resolution_index"]).as_py()
    return {
        "family": config.model.family,
        "model": config.model.base,
        "latents": {"dtype": config.data.encode_dtype, "mode": "mean"},
        "unconditional": [{"prompt": 0, **entry} for entry in empty],
        "num_resolutions": 1 + max(0, -1 if numbers is None else numbers),
        "grid_phases": 1,
    }


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


def _column(values: Any, table: pa.Table, field: pa.Field) -> pa.Array:
    if values is None:
        values = table[field.name]
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks().cast(field.type)
    return pa.array(values, field.type)
