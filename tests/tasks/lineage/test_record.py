"""The record of a lineage: parts of a run that went on, and files that were damaged."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.errors import CorruptError, NotFoundError
from storage.segments import encode_parquet
from tasks.lineage.record import (
    LINEAGE_FILE,
    base_facts,
    encode_record,
    lineage_digest,
    read_part_rows,
    read_record,
    rows_file,
    with_part,
)

ROWS = pa.table({"row_id": [b"a" * 16]})


def part(step: int, data: str = "one", written_at: str = "now") -> dict[str, Any]:
    return {"from_step": step, "written_at": written_at, "dataset": data}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    data = encode_parquet(ROWS)
    (tmp_path / rows_file(data)).write_bytes(data)
    one = part(0) | {"rows": {"file": rows_file(data)}}
    base = base_facts("base", "sd15", {"vae": "00"}, None)
    (tmp_path / LINEAGE_FILE).write_bytes(encode_record("run", base, [one]))
    return tmp_path


def test_what_a_run_goes_on_with_is_a_part_only_if_it_is_other() -> None:
    first = with_part([], part(0))
    assert first == [part(0)]
    assert with_part(first, part(10, written_at="later")) == first
    both = with_part(first, part(10, "two"))
    assert both == [part(0), part(10, "two")]
    assert with_part(both, part(20, "one")) == [*both, part(20, "one")]


def test_steps_that_were_lost_leave_no_part() -> None:
    both = [part(0), part(10, "two")]
    assert with_part(both, part(4)) == [part(0)]
    assert with_part(both, part(10, "three")) == [part(0), part(10, "three")]
    assert with_part(both, part(10, "two", "later")) == both
    assert with_part(both, part(0, "two")) == [part(0, "two")]
    assert with_part([part(0)], part(0, written_at="later")) == [part(0)]


def test_a_record_is_read_back(workspace: Path) -> None:
    record, digest = read_record(workspace)
    assert record["run_id"] == "run" and digest == lineage_digest(workspace)
    assert read_part_rows(workspace, record["trained"][0]).equals(ROWS)
    other = base_facts("elsewhere", "sd15", {"vae": "01"}, None)
    assert record["base"]["digest"] != other["digest"]


def test_damage_is_told(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("nothing")
    assert lineage_digest(nowhere) is None
    with pytest.raises(NotFoundError, match="has no lineage.json"):
        read_record(nowhere)
    record, _ = read_record(workspace)
    (one,) = record["trained"]
    rows = workspace / one["rows"]["file"]
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(CorruptError, match="not as it was written"):
        read_part_rows(workspace, one)
    rows.unlink()
    with pytest.raises(NotFoundError, match="is gone"):
        read_part_rows(workspace, one)
    for text in ("{", "[]", '{"format": 1}', '{"format": 1, "trained": [{}]}'):
        (workspace / LINEAGE_FILE).write_text(text)
        with pytest.raises(CorruptError, match="is damaged"):
            read_record(workspace)
    (workspace / LINEAGE_FILE).write_text(json.dumps(record | {"format": 2}))
    with pytest.raises(CorruptError, match="format 2; this Tilewright reads 1"):
        read_record(workspace)
