from storage.store import Store
from tasks.crops.drops import drop, dropped_views, named_views, short_name

A, B = bytes.fromhex("a1" * 16), bytes.fromhex("a2" * 16)


def test_what_was_said_last_counts(store: Store) -> None:
    assert dropped_views(store) == set()
    assert drop(store, [A, B]) == 2
    assert drop(store, [A]) == 0
    assert drop(store, [A], dropped=False) == 1
    assert dropped_views(store) == {B}
    assert drop(store, [A], dropped=False) == 0
    assert drop(store, [A]) == 1
    assert dropped_views(store) == {A, B}


def test_views_are_named_by_the_start_of_their_keys() -> None:
    named = named_views([A, B], [f"#{short_name(A)}", "A2", "a", "", "zz"])
    assert named.views == (A, B)
    assert named.unknown == ("a", "", "zz")
