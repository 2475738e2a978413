"""Rows: what of each row of a dataset version went into a model, in a table that needs no store.

A version may be collected as garbage, with its manifests and the texts of captions. So the keys of
what was trained on, and who made each caption, are copied out of them while they are there.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import NotFoundError
from storage.index import read_index
from storage.records import DATASET, K
from storage.store import Store
from storage.tables import get_table
from storage.versions import Version, read_rows
from tasks.arrow import as_array, with_columns

AS_THEY_ARE = (
    *("row_id", "sample_id", "source_id", "view_id", "path", "concept", "split", "kind", "scale"),
    *("left", "top", "width", "height", "resized_width", "resized_height", "phase", "variation"),
    *("prompts", "prompt_origin"),
)
"""Columns of a dataset version that are copied; the rectangle is in pixels, as there."""
TEXT = pa.struct([("prompt", pa.int16()), ("encoder", pa.string()), ("key", K)])
"""`prompt` is its number in `prompts`."""
LINEAGE_ROWS = pa.schema(
    [
        *(DATASET.field(name) for name in AS_THEY_ARE),
        ("caption_model", pa.string()),  # null where no model made the prompt
        ("caption_model_digest", pa.string()),  # as the server told it
        ("latent_key", K),  # null where training encoded by itself
        ("texts", pa.list_(TEXT)),
    ]
)


def lineage_rows(store: Store, version: Version) -> pa.Table:
    """The rows of a version in the schema LINEAGE_ROWS, sorted by row_id.

    Keys and models of captions are null where the store has no manifest any more.

    Raises:
        CorruptError: the table of the version is damaged or gone.
    """
    rows = read_rows(store, version, (*AS_THEY_ARE, "latent_offset", "texts"))
    rows = rows.combine_chunks()
    models = _caption_models(store, rows, _manifest(store, version, "captions"))
    table = with_columns(
        rows,
        caption_model=models["model"],
        caption_model_digest=models["model_digest"],
        latent_key=_latent_keys(rows, _manifest(store, version, "latents")),
        texts=_texts(rows, _manifest(store, version, "text")),
    )
    return table.select(LINEAGE_ROWS.names).cast(LINEAGE_ROWS)


def _manifest(store: Store, version: Version, stage: str) -> pa.Table | None:
    facts = version.meta["stages"].get(stage)
    if facts is None:
        return None
    try:
        return get_table(store, facts["manifest"])
    except NotFoundError:
        return None


def _latent_keys(rows: pa.Table, manifest: pa.Table | None) -> pa.Array:
    if manifest is None:
        return pa.nulls(rows.num_rows, K)
    at = as_array(pc.index_in(rows["sample_id"], as_array(manifest["sample_id"])))
    keys = as_array(manifest["key"].take(at))
    return pc.if_else(pc.is_valid(as_array(rows["latent_offset"])), keys, pa.scalar(None, K))


def _texts(rows: pa.Table, manifest: pa.Table | None) -> pa.Array:
    """The texts of every row with their keys, found by encoder and prompt."""
    texts, prompts = as_array(rows["texts"]), as_array(rows["prompts"])
    items = texts.flatten()
    number, encoder = (pc.struct_field(items, name) for name in ("prompt", "encoder"))
    keys = pa.nulls(len(items), K)
    if manifest is not None and len(items):
        starts = prompts.offsets.take(pc.list_parent_indices(texts))
        prompt = prompts.values.take(pc.add(starts, pc.cast(number, pa.int32())))
        wanted = _joined(encoder, prompt)
        known = _joined(as_array(manifest["encoder"]), as_array(manifest["prompt"]))
        keys = as_array(manifest["key"]).take(pc.index_in(wanted, known))
    made = pa.StructArray.from_arrays([number, encoder, keys], fields=list(TEXT))
    lengths = pc.fill_null(pc.list_value_length(texts), 0).to_numpy()
    offsets = pa.array([0, *lengths.cumsum().tolist()], pa.int32())
    return pa.ListArray.from_arrays(offsets, made)


def _caption_models(store: Store, rows: pa.Table, manifest: pa.Table | None) -> pa.Table:
    """`model` and `model_digest` of what made each row's prompts; null where a person did."""
    none = pa.nulls(rows.num_rows, pa.string())
    generated = pa.scalar("generated")
    if manifest is not None:
        manifest = manifest.filter(pc.equal(manifest["origin"], generated))
    if manifest is None or not manifest.num_rows:
        return pa.table({"model": none, "model_digest": none})
    # Captions of tiles go by their view, those of whole photos by their source.
    keys = pa.nulls(rows.num_rows, K)
    for by, is_photo in (("view_id", False), ("source_id", True)):
        said = manifest.filter(pc.equal(pc.equal(manifest["kind"], "full"), is_photo))
        at = pc.index_in(*(_joined(*_columns(one, "concept", by)) for one in (rows, said)))
        wanted = pc.equal(pc.equal(as_array(rows["kind"]), "full"), is_photo)
        wanted = pc.and_(wanted, pc.equal(as_array(rows["prompt_origin"]), generated))
        found = as_array(said["key"]).take(at)
        keys = pc.coalesce(keys, pc.if_else(wanted, found, pa.scalar(None, K)))
    answers = pa.concat_tables(_answers(store))
    at = pc.index_in(keys, as_array(answers["key"]), skip_nulls=True)
    return answers.select(["model", "model_digest"]).take(at)


def _answers(store: Store) -> Iterator[pa.Table]:
    """What is known of every text that somebody or something gave a tile."""
    stage_ids = {path.split("/")[2] for path in store.list("stages/captions") if "/index/" in path}
    for stage_id in sorted(stage_ids):
        yield read_index(store, "captions", stage_id, ["key", "model", "model_digest"])


def _columns(table: pa.Table, *names: str) -> Iterator[pa.Array]:
    return (as_array(table[name]) for name in names)


def _joined(*columns: pa.Array) -> pa.Array:
    """Several columns as one to look up by; null where one of them is."""
    return pc.binary_join_element_wise(*(pc.cast(one, pa.binary()) for one in columns), b"\0")
