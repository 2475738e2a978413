"""Text: what each text encoder makes of each prompt, stored once per prompt and encoder."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest, digest_json, hexkey
from storage.records import LOCATION, QUARANTINE, K
from storage.shards import ShardWriter
from tasks.arrow import with_matches
from tasks.config.models import Config
from tasks.encode.devices import batch_size, encode_device, torch_dtype
from tasks.encode.weights import model_source, weights_digest
from tasks.encode.workers import batched
from tasks.families import get_family
from tasks.families.base import TextEncoder
from tasks.families.live import cached_encoders
from tasks.families.loading import load_component
from tasks.imaging.samples import kept_samples
from tasks.stage import Checked, Context, Report, Stage, Tables, Wanted, compare
from tasks.wording.resolve import UNCONDITIONAL, is_coming, resolve_prompts

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
COLUMNS = pa.schema(
    [
        ("key", K),
        ("logical", pa.string()),
        ("group", pa.string()),
        ("encoder", pa.string()),
        ("encoder_stage_id", pa.string()),
        ("prompt", pa.string()),
        ("certain", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class EncoderStage:
    """One text encoder with its own stage_id, so that training one leaves the others' caches."""

    encoder: TextEncoder
    stage_id: str
    facts: dict[str, Any]


def wanted(context: Context, upstream: Tables) -> Wanted:
    """One item per distinct prompt and text encoder; none of encoders that run in training."""
    owners = prompt_owners(upstream, context.config)
    stages = encoder_stages(context)
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS.names}
    for stage in stages:
        name = stage.encoder.name
        for prompt, (owner, certain) in owners.items():
            row = (
                digest("text", stage.stage_id, prompt),
                f"{name}|{owner}",
                name,
                name,
                stage.stage_id,
                prompt,
                certain,
            )
            for column, value in zip(COLUMNS.names, row, strict=True):
                columns[column].append(value)
    facts = {stage.stage_id: stage.facts for stage in stages}
    stage_id = hexkey(digest_json("stage", sorted(facts)))
    return Wanted(stage_id, pa.table(columns, schema=COLUMNS), facts)


def prompt_owners(upstream: Tables, config: Config) -> dict[str, tuple[str, bool]]:
    """Every distinct prompt with the first sample that has it, and whether one surely is kept."""
    rows = resolve_prompts(kept_samples(upstream["crops"]), upstream, config)
    owners: dict[str, tuple[str, bool]] = {UNCONDITIONAL: ("the empty prompt", True)}
    columns = rows.select(["logical", "prompts", "certain"]).to_pydict().values()
    for sample, prompts, certain in zip(*columns, strict=True):
        for number, prompt in enumerate(prompts):
            owner, was_certain = owners.get(prompt, (f"{sample}|{number}", False))
            owners[prompt] = (owner, was_certain or (certain and not is_coming(prompt)))
    return owners


def encoder_stages(context: Context) -> list[EncoderStage]:
    """The cached text encoders, each with the id of everything that changes its output."""
    family = get_family(context.config.model.family)
    source = model_source(context, family)
    stages = []
    for encoder in cached_encoders(context.config, family):
        facts = {
            "stage": "text",
            "version": VERSION,
            "encoder": encoder.name,
            "weights": weights_digest(context, source, (encoder.model, encoder.tokenizer)),
            "max_tokens": encoder.max_tokens,
            "layer_skip": encoder.layer_skip,
            "dtype": context.config.data.encode_dtype,
        }
        stages.append(EncoderStage(encoder, hexkey(digest_json("stage", facts)), facts))
    return stages


def check(context: Context, wanted: Wanted) -> Checked:
    """Prompts encoded before, for whatever image, are not encoded again."""
    return compare(
        context,
        "text",
        wanted,
        committed=_committed(context, wanted, ["key"]),
        bad=QUARANTINE.empty_table(),
        changed_reason="the prompt changed",
    )


def work(context: Context, wanted: Wanted, missing: pa.Table, report: Report) -> None:
    """Encodes prompts with one text encoder after the other."""
    for encoder in get_family(context.config.model.family).text_encoders:
        rows = missing.filter(pc.equal(missing["encoder"], encoder.name))
        if rows.num_rows:
            _encode(context, encoder, rows, report)


def manifest(context: Context, checked: Checked) -> pa.Table:
    """The prompts with where their embeddings are."""
    table = checked.wanted.table
    items = _committed(context, checked.wanted)
    table = with_matches(table, items, {name: name for name in LOCATION})
    return table if context.dry_run else table.filter(pc.is_valid(table["offset"]))


def _encode(context: Context, encoder: TextEncoder, rows: pa.Table, report: Report) -> None:
    import torch

    data = context.config.data
    device = encode_device()
    tokenizer, model = _load(context.config, context, encoder, device)
    stage_id = rows["encoder_stage_id"][0].as_py()
    with ShardWriter(
        context.store, "text", stage_id, flush_seconds=context.config.store.flush_seconds
    ) as writer:
        for batch in batched(_pairs(rows), batch_size(data.encode_batch_size, device)):
            prompts = [prompt for _, prompt in batch]
            with torch.no_grad():
                fields = encoder.encode(model, tokenizer, prompts, encoder.layer_skip)
            for number, (key, _) in enumerate(batch):
                item = {name: fields[name][number] for name in encoder.fields}
                kept = real_tokens(item, encoder.mask)
                writer.add(key, {name: value.contiguous().cpu() for name, value in kept.items()})
                report(1)


def real_tokens(item: "dict[str, Tensor]", mask: str | None) -> "dict[str, Tensor]":
    """The fields of one prompt without padding tokens, but with at least one token.

    Cut are the mask (T,) and every field (T, ...) of more than one dimension.
    """
    if mask is None:
        return item
    num_tokens = len(item[mask])
    num_real = max(1, int(item[mask].sum()))
    return {
        name: value[:num_real]
        if name == mask or (value.ndim > 1 and len(value) == num_tokens)
        else value
        for name, value in item.items()
    }


def _load(config: Config, context: Context, encoder: TextEncoder, device: Any) -> tuple[Any, Any]:
    family = get_family(config.model.family)
    source = model_source(context, family)
    dtype = torch_dtype(config.data.encode_dtype)
    tokenizer = load_component(source, family, encoder.tokenizer, dtype, device)
    return tokenizer, load_component(source, family, encoder.model, dtype, device)


def _pairs(rows: pa.Table) -> Iterator[tuple[bytes, str]]:
    return zip(rows["key"].to_pylist(), rows["prompt"].to_pylist(), strict=True)


def _committed(context: Context, wanted: Wanted, columns: list[str] | None = None) -> pa.Table:
    # Without a cached encoder the id of the whole stage stands for no items.
    stage_ids = wanted.facts or (wanted.stage_id,)
    tables = [context.committed("text", stage_id, columns) for stage_id in stage_ids]
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks()


STAGE = Stage(
    name="text",
    after=("prompts", "crops", "captions"),
    wanted=wanted,
    check=check,
    work=work,
    manifest=manifest,
    partition_items=5000,
)
