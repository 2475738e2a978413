"""The prompts of a report: every distinct set of texts once, and which sources train on it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrow import as_array
from tasks.report.inputs import KINDS, Ints, Sources, ints

MAX_SETS = 12
"""Sets of prompts that are shown of one source."""
MAX_TEXT = 16_000_000
"""Characters of prompts in a page: the sources' own first, then edited ones, then the others."""
OWN = ("edited", "generated")
"""Origins of a prompt that belongs to one tile."""
NOT_SHOWN = -2

_SEPARATOR = "\x1f"
_COLUMNS = ["source", "set", "kind", "origin"]


@dataclass(frozen=True, slots=True)
class Prompts:
    """The sets of prompts in a page, and who uses them."""

    sets: list[list[str]]
    uses: pa.Table
    """Columns source, set, kind (its place in KINDS), origin and samples; a source's uses lie
    together, those of the full image first."""
    hidden: Ints
    """Per source, how many of its sets are not in the page."""
    main: Ints
    """Per source, the set of its full images (of what it has, where it has none); -1 for none."""
    of_row: Ints
    """Per row of the version, its set; NOT_SHOWN where the page has it not."""


def collect_prompts(rows: pa.Table, sources: Sources, max_text: int = MAX_TEXT) -> Prompts:
    """The prompts of the rows of a version, at most `max_text` characters of them."""
    encoded = joined_prompts(rows).dictionary_encode()
    codes, texts = ints(encoded.indices), encoded.dictionary
    uses = _ranked(_uses(rows, sources.numbers(rows), codes))
    shown = _shown(uses, texts, max_text)
    places = np.full(len(texts), NOT_SHOWN, dtype=np.int64)
    used = np.unique(np.asarray(uses["set"])[shown])
    places[used] = np.arange(len(used))
    kept = uses.filter(pa.array(shown))
    main = np.full(len(sources), -1, dtype=np.int64)
    first = np.flatnonzero(np.diff(np.asarray(kept["source"]), prepend=-1))
    main[np.asarray(kept["source"])[first]] = places[np.asarray(kept["set"])[first]]
    column = kept.schema.get_field_index("set")
    moved = pa.array(places[np.asarray(kept["set"])])
    return Prompts(
        sets=[_split(text) for text in texts.take(pa.array(used)).to_pylist()],
        uses=kept.set_column(column, "set", moved).select([*_COLUMNS, "samples"]),
        hidden=_distinct_sets(uses, len(sources)) - _distinct_sets(kept, len(sources)),
        main=main,
        of_row=places[codes] if len(codes) else codes,
    )


def joined_prompts(rows: pa.Table) -> pa.Array:
    """All prompts of each row as one text, so that equal ones can be found."""
    lists = as_array(rows["prompts"])
    return pc.fill_null(pc.binary_join(lists, _SEPARATOR), "")


def kind_codes(kinds: pa.ChunkedArray) -> Ints:
    """The place of each kind in KINDS."""
    return ints(pc.index_in(kinds, pa.array(KINDS)))


def _uses(rows: pa.Table, sources: Ints, codes: Ints) -> pa.Table:
    table = pa.table(
        {
            "source": sources,
            "set": codes,
            "kind": kind_codes(rows["kind"]),
            "origin": pc.fill_null(as_array(rows["prompt_origin"]), "none"),
        }
    )
    counted = table.group_by(_COLUMNS).aggregate([([], "count_all")])
    return counted.select([*_COLUMNS, "count_all"]).rename_columns([*_COLUMNS, "samples"])


def _ranked(uses: pa.Table) -> pa.Table:
    """Uses by source and set: sets of the full image, of single tiles, then the most used."""
    source, code = np.asarray(uses["source"]), np.asarray(uses["set"])
    own = pc.is_in(uses["origin"], pa.array(OWN))
    rank = pc.if_else(pc.equal(uses["kind"], 0), 0, pc.if_else(own, 1, 2))
    _, pair = np.unique(_pairs(source, code), return_inverse=True)
    least = np.full(pair.max(initial=-1) + 1, 2, dtype=np.int64)
    np.minimum.at(least, pair, np.asarray(rank))
    total = np.bincount(pair, weights=np.asarray(uses["samples"]))
    last = [np.asarray(pc.rank(uses["origin"])), np.asarray(uses["kind"]), code]
    order = np.lexsort([*last, -total[pair], least[pair], source])
    return uses.append_column("rank", pa.array(least[pair])).take(pa.array(order))


def _shown(uses: pa.Table, texts: pa.Array, max_text: int) -> NDArray[np.bool_]:
    """Which uses are in the page: MAX_SETS of a source, and `max_text` characters of all."""
    source, code = np.asarray(uses["source"]), np.asarray(uses["set"])
    pairs = _pairs(source, code)
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    starts = np.flatnonzero(np.diff(source[first], prepend=-1))
    number = np.arange(len(first)) - np.repeat(starts, np.diff(np.append(starts, len(first))))
    lengths = np.asarray(pc.utf8_length(texts))[code[first]]
    turn = np.lexsort((number, np.asarray(uses["rank"])[first]))
    within = np.zeros(len(first), dtype=np.bool_)
    within[turn] = np.cumsum(lengths[turn]) <= max_text
    return np.isin(pairs, pairs[first[within & (number < MAX_SETS)]])


def _pairs(source: Ints, code: Ints) -> Ints:
    """One number for a source and a set."""
    return source * (int(code.max(initial=0)) + 1) + code


def _distinct_sets(uses: pa.Table, num_sources: int) -> Ints:
    pairs = uses.group_by(["source", "set"]).aggregate([])
    return np.bincount(np.asarray(pairs["source"]), minlength=num_sources)


def _split(text: str) -> list[str]:
    return text.split(_SEPARATOR) if text else []
