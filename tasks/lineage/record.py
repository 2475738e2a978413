"""Record: the lineage of a run as JSON, small however many rows its datasets have.

Its rows are Parquet files beside it, named by their bytes. A run that went on with other data,
settings or code has a part for each, in the order of the steps.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_bytes, digest_json, hexkey
from storage.errors import CorruptError, NotFoundError
from storage.naming import stage_path
from storage.segments import decode_parquet
from storage.store import Store
from storage.versions import Version

FORMAT = 1
LINEAGE_FILE = "lineage.json"
ROWS_PREFIX = "lineage-"
_WHEN = ("from_step", "written_at")


def rows_file(data: bytes) -> str:
    """The name of the file for these rows."""
    return f"{ROWS_PREFIX}{hexkey(digest_bytes(data))}.parquet"


def base_facts(
    name: str, family: str, weights: Mapping[str, str], from_run: str | None
) -> dict[str, Any]:
    """The base model: the digest of each component and one of all, and the run that made it."""
    digest = hexkey(digest_json("base-model/1", dict(weights)))
    facts = {"name": name, "family": family, "from_run": from_run, "digest": digest}
    return {**facts, "weights": dict(weights)}


def dataset_facts(store: Store, version: Version) -> dict[str, Any]:
    """A dataset version and the stages that made it, with everything that made their stage_ids."""
    return {
        "dataset": {
            "name": version.name,
            "version": version.number,
            "uri": version.uri,
            "content_digest": version.content_digest,
            "created_at": version.meta["created_at"],
            "settings": dict(version.meta["config"]),
        },
        "stages": {
            name: {
                "stage_id": facts["stage_id"],
                "num_items": facts["num_items"],
                "made_by": dict(_notes(store, version, name)),
            }
            for name, facts in sorted(version.meta["stages"].items())
        },
    }


def _notes(store: Store, version: Version, stage: str) -> Iterator[tuple[str, Any]]:
    """stage_id to what made it: text has one for each encoder, captions for each kind of author."""
    stage_ids = {version.meta["stages"][stage]["stage_id"]}
    if stage == "text":
        stage_ids |= {
            item["stage"].split("/")[-1] for item in version.meta["extra"]["unconditional"]
        }
    if stage == "captions":
        stage_ids |= {path.split("/")[2] for path in store.list("stages/captions")}
    for stage_id in sorted(stage_ids):
        path = f"{stage_path(stage, stage_id)}/stage.json"
        if store.exists(path):
            yield stage_id, json.loads(store.read_bytes(path))


def row_counts(rows: pa.Table) -> dict[str, Any]:
    """How many rows there are of what, and of each model that made captions."""
    return {
        "rows": rows.num_rows,
        "sources": pc.count_distinct(rows["source_id"]).as_py(),
        "samples": pc.count_distinct(rows["sample_id"]).as_py(),
        **{name: count_values(rows, name) for name in ("split", "kind", "concept")},
        "prompts": count_values(rows, "prompt_origin"),
        "captions": _caption_models(rows),
    }


def _caption_models(rows: pa.Table) -> list[dict[str, Any]]:
    columns = ["caption_model", "caption_model_digest"]
    made = rows.filter(pc.is_valid(rows["caption_model"]))
    counted = made.group_by(columns).aggregate([([], "count_all")]).sort_by("caption_model")
    return [
        {"model": one[columns[0]], "digest": one[columns[1]], "rows": one["count_all"]}
        for one in counted.to_pylist()
    ]


def count_values(rows: pa.Table, column: str) -> dict[str, int]:
    """Each value of a column and how often it occurs, without null."""
    counted = rows[column].combine_chunks().value_counts().to_pylist()
    return {one["values"]: one["counts"] for one in counted if one["values"] is not None}


def with_part(earlier: Sequence[Mapping[str, Any]], part: Mapping[str, Any]) -> list[Any]:
    """The parts of a run that begins or goes on at the step of `part`.

    What was trained from that step on is lost, so its parts go. A run that goes on with the same
    data, settings and code is no new part.
    """
    kept = [dict(one) for one in earlier if one["from_step"] < part["from_step"]]
    if kept and _content(kept[-1]) == _content(part):
        return kept
    same = [dict(one) for one in earlier if one["from_step"] == part["from_step"]]
    if same and _content(same[0]) == _content(part):
        return [*kept, same[0]]
    return [*kept, dict(part)]


def _content(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in _WHEN}


def encode_record(run_id: str, base: Mapping[str, Any], parts: Sequence[Any]) -> bytes:
    """The bytes of lineage.json; their digest names this lineage."""
    record = {"format": FORMAT, "run_id": run_id, "base": dict(base), "trained": list(parts)}
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()


def read_record(workspace: Path) -> tuple[dict[str, Any], str]:
    """lineage.json of a run, and its digest.

    Raises:
        NotFoundError: the run has none.
        CorruptError: it is damaged, or of a later Tilewright.
    """
    path = workspace / LINEAGE_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{workspace} has no {LINEAGE_FILE}") from error
    try:
        record = json.loads(data)
        found, _ = record["format"], [part["rows"]["file"] for part in record["trained"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if found != FORMAT:
        raise CorruptError(f"{path} has format {found!r}; this Tilewright reads {FORMAT}")
    return record, hexkey(digest_bytes(data))


def lineage_digest(workspace: Path) -> str | None:
    """The digest of lineage.json of a run; None where it has none."""
    try:
        return hexkey(digest_bytes((workspace / LINEAGE_FILE).read_bytes()))
    except OSError:
        return None


def read_part_rows(workspace: Path, part: Mapping[str, Any]) -> pa.Table:
    """The rows of a part, checked against the digest in their name.

    Raises:
        NotFoundError: the file is gone.
        CorruptError: it is damaged.
    """
    path = workspace / Path(part["rows"]["file"]).name
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} is gone: it has the rows of this lineage") from error
    if rows_file(data) != path.name:
        raise CorruptError(f"{path} is not as it was written")
    return decode_parquet(data, str(path)).table
