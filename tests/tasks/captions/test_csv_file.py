"""Captions as a table: what comes out of a spreadsheet is what went in."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.captions.csv_file import COLUMNS, Row, read_rows, write_rows
from tasks.config.problems import ConfigError

KEY = bytes(range(16))
ROW = Row(view_id=KEY, concept="boats", path="a/b.jpg", kind="detail", caption="a boat")
HOSTILE = (
    *("=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "''=1", "'x", "'", "''", "=", "'-"),
    *(
        '=HYPERLINK("http://example.org";"x")',
        '"',
        'a "b"',
        "a,b;c\td",
        "a\nb",
        "a\r\nb\r",
        "é\u202eß",
    ),
)

texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.text("'=+-@\t\r\n\",;a"),
)


def read(data: bytes) -> list[Row]:
    rows, problems = read_rows(data)
    assert problems == []
    return [replace(row, place="") for row in rows]


def table(*lines: str, between: str = ",") -> bytes:
    head = between.join(("view_id", "caption"))
    return "\n".join((head, *lines)).encode()


def problems(data: bytes) -> list[str]:
    return [" ".join(str(problem).split()) for problem in read_rows(data)[1]]


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS[1:], texts)), max_size=4))
def test_any_text_comes_back(cells: list[dict[str, str]]) -> None:
    rows = [Row(view_id=bytes([n] * 16), **one) for n, one in enumerate(cells)]
    assert read(write_rows(rows)) == rows


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_is_a_formula(text: str) -> None:
    rows = [replace(ROW, **dict.fromkeys(COLUMNS[1:], text))]
    data = write_rows(rows)
    for cells in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert read(data) == rows


def test_a_key_is_no_number() -> None:
    rows = [replace(ROW, view_id=bytes.fromhex(key * 4)) for key in ("12345678", "00000000")]
    rows.append(replace(ROW, view_id=bytes.fromhex("1234567890123456e234567890123456")))
    data = write_rows(rows)
    assert all(line.startswith(b"'") for line in data.splitlines()[1:])
    assert read(data) == rows


def test_spreadsheets_see_accents_and_windows_lines() -> None:
    data = write_rows([replace(ROW, caption="ein Boot – schön")])
    assert data.startswith(b"\xef\xbb\xbfview_id,concept,path,")
    assert data.count(b"\r\n") == 2
    assert "schön".encode() in data


def test_what_is_no_text_is_replaced() -> None:
    (row,) = read(write_rows([replace(ROW, path="caf\udce9.jpg", generated="a\0b")]))
    assert (row.path, row.generated) == ("caf?.jpg", "a\ufffdb")


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_tables_as_spreadsheets_save_them(bom: bytes, between: str, line_end: bytes) -> None:
    line = between.join((KEY.hex().upper(), '"a ""boat""; red, or\tso"'))
    data = table(line, between, "", between=between).replace(b"\n", line_end)
    assert read(bom + data) == [Row(view_id=KEY, caption='a "boat"; red, or\tso')]


def test_columns_may_be_missing_more_or_in_another_order() -> None:
    data = f"notes,Caption , view_id,origin\nx,a boat,{KEY.hex()},edited\n,,{KEY.hex()},,,\n"
    edited, empty = read(data.encode())
    assert edited == Row(view_id=KEY, caption="a boat", origin="edited")
    assert empty == Row(view_id=KEY)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "line 1 = nothing must name the columns view_id and caption"),
        (b"view_id,text\n", "line 1 = view_id, text must name the columns view_id and caption"),
        (b"view_id,caption,caption\n", "line 1 names the column caption twice; remove one"),
        (b"view_id,caption\n\n00,caf\xe9\n", "line 3 = byte 0xe9 is not UTF-8; save the table as"),
        ("view_id,caption\n".encode("utf-16"), "line 1 = byte 0xff is not UTF-8"),
        (b"view_id,caption\n00,a\0b\n", "line 2 = byte 0x00 is not UTF-8"),
    ],
)
def test_what_is_no_such_table_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_rows(data)
    assert told in " ".join(str(refused.value).split())


def test_all_that_is_wrong_is_told_at_once() -> None:
    key = KEY.hex()
    data = table("1.23E+31,a", f'{key},"two\nlines"', f"{key},a, boat", key, ",a", f'{key},"b"c')
    told = problems(data)
    assert len(told) == 5
    assert told[0].startswith("line 2, view_id = 1.23e+31 must be the 32 hexadecimal digits")
    assert told[1].startswith("row 4 (line 5) has 3 cells, but there are 2 columns; put a text")
    assert told[2].startswith("row 5 (line 6) has no cell for the caption")
    assert told[3].startswith("row 6 (line 7), view_id = nothing must be the 32")
    assert told[4].startswith("line 8 cannot be read")
    assert "quotation mark" in told[4]


def test_a_quotation_that_never_ends_is_told_where_it_begins() -> None:
    key = KEY.hex()
    (told,) = problems(table(f"{key},a", f'{key},"a boat', f"{key},b", f"{key},c"))
    assert told.startswith("line 3 cannot be read: unexpected end of data")
