"""The lineage of a run, written into its workspace when it begins or goes on."""

import json
from typing import Any

import pyarrow as pa

from storage.digest import digest_bytes, hexkey
from storage.errors import NotFoundError, StorageError
from storage.naming import now_iso
from storage.segments import encode_parquet
from tasks.families.known_digests import known_digests
from tasks.lineage.code import code_version
from tasks.lineage.origin import origin_of
from tasks.lineage.record import (
    LINEAGE_FILE,
    base_facts,
    dataset_facts,
    encode_record,
    read_record,
    row_counts,
    rows_file,
    with_part,
)
from tasks.lineage.rows import lineage_rows
from tasks.train.files import write_atomically
from tasks.train.setup import Run

LINEAGE_ERRORS = (OSError, StorageError, ValueError, LookupError, TypeError, pa.ArrowException)
"""What a store raises that is damaged or of another Tilewright, or a full disk."""


def keep_lineage(run: Run, from_step: int) -> str:
    """Writes lineage.json and the rows beside it, and gives the digest of the former.

    It is written when training begins, not only when it ends: then the version is there still,
    and a backup of a run that never ends has it too.

    Args:
        run: the training.
        from_step: after which step of the run this call of the training goes on.

    Raises:
        One of LINEAGE_ERRORS: it could not be written.
    """
    workspace = run.spec.workspace
    rows = lineage_rows(run.store, run.version)
    data = encode_parquet(rows)
    name = rows_file(data)
    if not (workspace / name).is_file():
        write_atomically(workspace / name, data)
    part: dict[str, Any] = {
        "from_step": from_step,
        "written_at": now_iso(),
        "code": code_version(),
        "config": json.loads(run.spec.config.model_dump_json()),
        "config_digest": run.facts.config_digest,
        **dataset_facts(run.store, run.version),
        "counts": row_counts(rows),
        "rows": {"file": name, "bytes": len(data)},
    }
    parts = with_part(_earlier(run), part)
    record = encode_record(run.spec.run_id, _base(run), parts)
    write_atomically(workspace / LINEAGE_FILE, record)
    return hexkey(digest_bytes(record))


def _earlier(run: Run) -> list[Any]:
    try:
        parts: list[Any] = read_record(run.spec.workspace)[0]["trained"]
    except NotFoundError:
        return []
    return parts


def _base(run: Run) -> dict[str, Any]:
    family = run.training.family
    models = ["vae", family.denoiser, *(one.model for one in family.text_encoders), "scheduler"]
    weights = known_digests(run.store, run.model, models)
    try:
        from_run = origin_of(run.model.path).run_id
    except ValueError:
        from_run = None  # it is somebody else's, as most are
    return base_facts(run.spec.config.model.base, family.name, weights, from_run)
