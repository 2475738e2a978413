import pyarrow as pa

from storage.records import K
from tasks.wording.resolve import resolve_prompts

SCHEMA = pa.schema(
    [
        ("concept", pa.string()),
        ("source_id", K),
        ("prompts", pa.list_(pa.string())),
        ("origin", pa.string()),
    ]
)


def prompts(*rows: tuple[str, bytes, list[str], str]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA
    )


def samples(*kinds: str, source: bytes = b"s" * 16) -> pa.Table:
    keys = [bytes([number]) * 16 for number in range(len(kinds))]
    return pa.table(
        {
            "concept": ["c"] * len(kinds),
            "source_id": pa.array([source] * len(kinds), K),
            "kind": list(kinds),
            "key": pa.array(keys, K),
        }
    )


def test_a_tile_inherits_what_its_full_image_has() -> None:
    table = prompts(("c", b"s" * 16, ["one", "two"], "sidecar"))
    rows = resolve_prompts(samples("full", "detail", "context"), table, 0)
    assert rows["prompts"].to_pylist() == [["one", "two"]] * 3
    assert rows["prompt_origin"].to_pylist() == ["sidecar", "inherited", "inherited"]
    assert rows["context"].to_pylist() == ["one"] * 3


def test_no_caption_is_the_empty_prompt_and_says_so() -> None:
    rows = resolve_prompts(samples("full", "detail"), prompts(("c", b"s" * 16, [""], "none")), 0)
    assert rows["prompts"].to_pylist() == [[""], [""]]
    assert rows["prompt_origin"].to_pylist() == ["none", "none"]


def test_one_line_of_a_text_file_is_drawn_per_sample() -> None:
    lines = [f"line {number}" for number in range(50)]
    table = prompts(("c", b"s" * 16, lines, "text_file"))
    rows = resolve_prompts(samples(*["full"] * 20), table, 7)
    drawn = [row[0] for row in rows["prompts"].to_pylist()]
    assert set(drawn) <= set(lines)
    assert len(set(drawn)) > 5
    assert drawn == [
        row[0] for row in resolve_prompts(samples(*["full"] * 20), table, 7)["prompts"].to_pylist()
    ]


def test_equal_files_pool_their_prompts_without_doubles() -> None:
    table = prompts(
        ("c", b"s" * 16, [""], "none"),
        ("c", b"s" * 16, ["one", "two"], "sidecar"),
        ("c", b"s" * 16, ["two", "three"], "sidecar"),
    )
    rows = resolve_prompts(samples("full"), table, 0)
    assert rows["prompts"].to_pylist() == [["one", "two", "three"]]
    assert rows["prompt_origin"].to_pylist() == ["sidecar"]
