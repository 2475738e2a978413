"""The columns of everything the store keeps in Parquet."""

import pyarrow as pa

K = pa.binary(16)
_WORD = pa.dictionary(pa.int32(), pa.string())

# One row per item of a shard. `layout` is JSON [[field, dtype, shape, offset in the item], ...].
INDEX = pa.schema(
    [
        ("key", K),
        ("offset", pa.int64()),  # absolute, in bytes of the shard file
        ("nbytes", pa.int64()),
        ("layout", _WORD),
        ("xxh3", pa.uint64()),
    ]
)

# Where an item is: what reading it takes besides its stage.
LOCATION = ("shard", "offset", "nbytes", "layout", "xxh3")

HASH_CACHE = pa.schema(
    [
        ("kind", pa.string()),  # image | text | mask | weights
        ("path", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),  # 0 where an etag stands
        ("ctime_ns", pa.int64()),
        ("inode", pa.int64()),
        ("etag", pa.string()),
        ("hashed_at_ns", pa.int64()),
        ("content_id", K),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("orientation", pa.int8()),
        ("frames", pa.int32()),
        ("error", pa.string()),
    ]
)

PROMPTS = pa.schema(
    [
        ("key", K),
        ("prompts", pa.list_(pa.string())),
        ("origin", pa.string()),
        ("error", pa.string()),
    ]
)

CROPS = pa.schema(
    [
        ("key", K),  # = view_id
        ("luma_std", pa.float32()),
        ("edge_share", pa.float32()),
    ]
)

# Small pictures of sources for reports; no dataset depends on them.
THUMBNAILS = pa.schema(
    [
        ("key", K),  # = source_id
        ("jpeg", pa.binary()),
    ]
)

CAPTIONS = pa.schema(
    [
        ("key", K),
        ("view_id", K),
        ("prompts", pa.list_(pa.string())),
        ("origin", pa.string()),  # edited | withdrawn | generated
        ("made_at", pa.string()),  # ISO 8601, UTC
        # What follows is null where a person wrote the text.
        ("unusable", pa.string()),  # why the answer is no caption; null = it is one
        ("answer", pa.string()),  # of the model, as it came
        ("protocol", pa.string()),
        ("model", pa.string()),
        ("model_digest", pa.string()),  # as the server told it
        ("system_prompt", pa.string()),
        ("template", pa.string()),  # of the user prompt
        ("user_prompt", pa.string()),
        ("options", pa.string()),  # JSON
        ("json_schema", pa.string()),
        ("sent_width", pa.int32()),
        ("sent_height", pa.int32()),
        ("server", pa.string()),
        ("server_version", pa.string()),
        ("seconds", pa.float32()),
        ("attempts", pa.int16()),
    ]
)

# Generated captions that a person has approved.
REVIEWS = pa.schema(
    [
        ("key", K),  # of the caption
        ("view_id", K),
        ("made_at", pa.string()),  # ISO 8601, UTC
    ]
)

DROPS = pa.schema(
    [
        ("view_id", K),
        ("dropped", pa.bool_()),  # false: taken back
        ("made_at", pa.string()),  # ISO 8601, UTC
    ]
)

QUARANTINE = pa.schema(
    [
        ("key", K),
        ("stage", pa.string()),
        ("stage_id", pa.string()),
        ("source_id", K),
        ("path", pa.string()),
        ("reason", pa.string()),
        ("first_seen", pa.string()),  # ISO 8601, UTC
        ("attempts", pa.int32()),
    ]
)


def _item(name: str) -> list[tuple[str, pa.DataType]]:
    """The columns that say where one stored item of a row is."""
    return [
        (f"{name}_stage", pa.string()),
        (f"{name}_shard", pa.string()),
        (f"{name}_offset", pa.int64()),
        (f"{name}_nbytes", pa.int64()),
        (f"{name}_layout", _WORD),
        (f"{name}_xxh3", pa.uint64()),
    ]


TEXT_ITEM = pa.struct(
    [
        ("prompt", pa.int16()),
        ("encoder", pa.string()),
        ("stage", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("nbytes", pa.int64()),
        ("layout", pa.string()),
        ("xxh3", pa.uint64()),
    ]
)

# One row per row_id, sorted by it.
DATASET = pa.schema(
    [
        ("row_id", K),
        ("sample_id", K),
        ("source_id", K),
        ("view_id", K),
        ("concept", pa.string()),
        ("path", pa.string()),
        ("kind", pa.string()),  # full | detail | context
        ("scale", pa.float32()),
        # The rectangle: pixels of the resized image for tiles, of the source for full crops.
        ("left", pa.int32()),
        ("top", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("resized_width", pa.int32()),
        ("resized_height", pa.int32()),
        ("bucket_width", pa.int32()),
        ("bucket_height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("crop_left", pa.int32()),  # offset in resized pixels
        ("crop_top", pa.int32()),
        ("resolution_index", pa.int16()),
        ("phase", pa.int16()),  # grid phase; null = every epoch
        ("num_phases", pa.int16()),  # the row is trained in epochs with epoch % num_phases == phase
        ("variation", pa.int16()),
        ("augmentation", pa.string()),  # resolved values as JSON; null = none
        ("split", pa.string()),  # train | validation
        ("prompts", pa.list_(pa.string())),
        ("prompt_origin", pa.string()),
        ("context", pa.string()),
        ("loss_weight", pa.float32()),
        ("repeats", pa.float32()),
        ("samples_per_epoch", pa.int32()),  # of the concept, instead of repeats; null = by repeats
        ("tiles_per_epoch", pa.int32()),  # of the source in the concept; 0 = all
        ("luma_std", pa.float32()),
        ("edge_share", pa.float32()),
        *_item("latent"),  # null where training encodes by itself
        *_item("mask"),  # null where the whole sample counts
        ("texts", pa.list_(TEXT_ITEM)),
    ]
)

GREY = "grey"  # kind of the latents item, for inpainting models, that is all hole: one per bucket

# What an empty stage looks like.
STAGE_SCHEMAS = {
    "prompts": PROMPTS,
    "crops": CROPS,
    "thumbnails": THUMBNAILS,
    "captions": CAPTIONS,
    "masks": INDEX,
    "text": INDEX,
    "latents": INDEX,
}
