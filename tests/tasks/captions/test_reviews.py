"""Which captions a person has looked at."""

import pyarrow as pa

from storage.records import K
from storage.store import Store
from tasks.captions.reviews import approve, pending


def captions(**origins: str) -> pa.Table:
    """A manifest: keys by name, each with its origin."""
    keys = [name.encode().ljust(16, b".") for name in origins]
    table = {"key": pa.array(keys, K), "view_id": pa.array(keys, K)}
    return pa.table(table | {"origin": pa.array(list(origins.values()), pa.string())})


def test_only_new_generated_captions_wait(store: Store) -> None:
    first = captions(a="generated", b="generated", c="edited")
    assert pending(store, first).num_rows == 2
    assert approve(store, first, "fine") == 2
    assert pending(store, first).num_rows == 0
    assert approve(store, first) == 0
    more = captions(a="generated", d="generated", c="edited")
    assert pending(store, more)["key"].to_pylist() == [b"d".ljust(16, b".")]
    assert approve(store, more) == 1
    assert pending(store, more).num_rows == 0


def test_an_approval_outlives_a_time_without_the_caption(store: Store) -> None:
    approve(store, captions(a="generated"))
    approve(store, captions(b="generated"))
    assert pending(store, captions(a="generated", b="generated")).num_rows == 0


def test_no_captions_need_no_review(store: Store) -> None:
    assert pending(store, captions()).num_rows == approve(store, captions()) == 0
    assert store.list("reviews") == {}
