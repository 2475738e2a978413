"""What a finished model tells of its run, in the header of its file."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from tasks.epochs.order import epoch_plan
from tasks.lineage.code import code_name, code_version
from tasks.train.formats.metadata import RunFacts, count_tags
from tasks.train.rows import Rows
from tasks.train.setup import Run

MIXED_PRECISION = {"bfloat16": "bf16", "float16": "fp16"}


def run_facts(run: Run, started_at: float, lineage: str) -> RunFacts:
    """The facts of a run as it is now; `started_at` in seconds since 1970.

    `lineage` is the digest of its lineage.json, empty where there is none.
    """
    config, training = run.spec.config, run.training
    train, rows = config.train, run.source.rows
    weighted = train.loss.weighting == "min_snr_gamma"
    return RunFacts(
        title=Path(config.model.output).stem,
        resolution=config.data.resolution,
        started_at=started_at,
        finished_at=time.time(),
        steps=training.progress.step,
        max_steps=training.total_steps,
        epochs=train.epochs,
        epoch=training.progress.epoch,
        batches_per_epoch=epoch_plan(rows.order, run.source.order, 0).num_steps
        * train.gradient_accumulation_steps,
        num_images=run.version.num_samples,
        num_prior_images=int(rows.is_prior.sum()),
        learning_rate=train.learning_rate,
        part_learning_rates={part.name: part.learning_rate for part in training.parts},
        batch_size=train.batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        seed=train.seed,
        optimizer=train.optimizer.kind,
        schedule=train.schedule.kind,
        mixed_precision=MIXED_PRECISION.get(train.train_dtype, "no"),
        noise_offset=train.noise.offset,
        max_grad_norm=train.clip_grad_norm or None,
        caption_dropout=train.caption_dropout,
        min_snr_gamma=train.loss.gamma if weighted else None,
        session_id=run.spec.run_id,
        aspect_ratio_bucketing=config.data.aspect_ratio_bucketing,
        bucket_counts=_bucket_counts(rows),
        concepts=_concepts(run),
        tag_counts=_tag_counts(rows),
        words=[word.placeholder for word in train.embeddings],
        extra={
            "tilewright.run_id": run.spec.run_id,
            "tilewright.dataset": run.facts.dataset,
            "tilewright.dataset_digest": run.facts.dataset_digest,
            "tilewright.config_digest": run.facts.config_digest,
            "tilewright.code": code_name(code_version()),
            **({"tilewright.lineage": lineage} if lineage else {}),
        },
    )


def _bucket_counts(rows: Rows) -> dict[tuple[int, int], int]:
    codes, counts = np.unique(rows.order.bucket, return_counts=True)
    sizes = [tuple(map(int, rows.buckets[code].split("x"))) for code in codes]
    return {(w, h): int(count) for (w, h), count in zip(sizes, counts, strict=True)}


def _concepts(run: Run) -> dict[str, dict[str, Any]]:
    names = run.source.rows.items["concept"].to_pylist()
    repeats = {concept.name: concept.repeats for concept in run.spec.config.concepts}
    return {
        name: {"n_repeats": repeats.get(name, 1.0), "img_count": names.count(name)}
        for name in sorted(set(names))
    }


def _tag_counts(rows: Rows) -> dict[str, dict[str, int]]:
    """A row counts by its first prompt, as its sidecar or caption begins."""
    prompts: dict[str, list[str]] = {}
    for item in rows.items.select(["concept", "prompts"]).to_pylist():
        prompts.setdefault(item["concept"], []).extend(item["prompts"][:1])
    return {concept: count_tags(texts) for concept, texts in sorted(prompts.items())}
