import pickle
import threading
from pathlib import Path

import pytest

from storage.errors import (
    AlreadyExistsError,
    CorruptError,
    NotFoundError,
    StorageError,
    UnsupportedStoreError,
)
from storage.store import Store, open_store


def test_what_is_put_can_be_read(store: Store) -> None:
    assert store.put_if_absent("a/b/c.bin", b"hello")
    assert store.exists("a/b/c.bin")
    assert store.size("a/b/c.bin") == 5
    assert store.read_bytes("a/b/c.bin") == b"hello"
    assert store.read_range("a/b/c.bin", 1, 3) == b"ell"
    assert store.read_range("a/b/c.bin", 5, 0) == b""


def test_put_if_absent_never_overwrites(store: Store) -> None:
    assert store.put_if_absent("x", b"first")
    assert not store.put_if_absent("x", b"second")
    assert store.read_bytes("x") == b"first"


def test_one_of_many_threads_wins(store: Store) -> None:
    won: list[int] = []

    def race(number: int) -> None:
        if store.put_if_absent("race", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in won] == [store.read_bytes("race")]


def test_replace_overwrites(store: Store) -> None:
    store.replace("runs/1/status.json", b"one")
    store.replace("runs/1/status.json", b"two!")
    assert store.read_bytes("runs/1/status.json") == b"two!"


def test_a_missing_file_is_named(store: Store) -> None:
    for read in (store.read_bytes, store.size, lambda path: store.read_range(path, 0, 1)):
        with pytest.raises(NotFoundError, match="no/such"):
            read("no/such")
    assert not store.exists("no/such")
    store.delete("no/such")


def test_a_folder_is_not_a_file(store: Store) -> None:
    store.put_if_absent("folder/file", b"x")
    assert not store.exists("folder")
    with pytest.raises(NotFoundError):
        store.size("folder")


def test_a_range_beyond_the_end_is_corrupt(store: Store) -> None:
    store.put_if_absent("short", b"hello")
    for offset, nbytes in [(3, 3), (5, 1), (100, 4)]:
        with pytest.raises(CorruptError, match="short"):
            store.read_range("short", offset, nbytes)


def test_listing_is_complete_and_never_stale(store: Store) -> None:
    assert store.list("p") == {}
    store.put_if_absent("p/b", b"12")
    store.put_if_absent("p/a/c", b"1")
    store.put_if_absent("pq/no", b"1")
    assert store.list("p") == {"p/a/c": 1, "p/b": 2}
    open_store(store.url).put_if_absent("p/later", b"123")
    assert store.list("p") == {"p/a/c": 1, "p/b": 2, "p/later": 3}
    store.delete("p/b")
    assert "p/b" not in store.list("p")
    assert store.list("p/later") == {}
    assert set(store.list("")) == {"store.json", "p/a/c", "p/later", "pq/no"}


def test_publish_moves_a_file_in_once(store: Store, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"big" * 1000)
    second.write_bytes(b"other")
    store.publish_file(first, "shards/1")
    assert not first.exists()
    with pytest.raises(AlreadyExistsError, match="shards/1"):
        store.publish_file(second, "shards/1")
    assert store.read_bytes("shards/1") == b"big" * 1000
    store.fetch_file("shards/1", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"big" * 1000


@pytest.mark.parametrize("path", ["", "/etc/x", "a/../b", "./a", "a//b", "a\\b", "a/"])
def test_paths_stay_inside(local_store: Store, path: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        local_store.put_if_absent(path, b"x")


def test_a_store_keeps_its_identity(store: Store) -> None:
    again = pickle.loads(pickle.dumps(store))
    assert (again.url, again.uuid) == (store.url, store.uuid)
    assert open_store(store.url, create=False).uuid == store.uuid
    again.put_if_absent("from/copy", b"1")
    assert store.exists("from/copy")
    assert store.uri("from/copy").startswith(store.url)
    assert store.fs.exists(f"{store.root}/from/copy")


def test_opening_without_creating(store_url: str) -> None:
    with pytest.raises(NotFoundError, match="no store at"):
        open_store(store_url, create=False)
    open_store(store_url)
    open_store(store_url, create=False)


def test_a_damaged_or_foreign_store_json_is_named(store: Store) -> None:
    store.replace("store.json", b'{"format": 99, "hash": "blake3-128", "uuid": "x"}')
    with pytest.raises(UnsupportedStoreError, match="99"):
        open_store(store.url)
    store.replace("store.json", b"\x00garbage")
    with pytest.raises(CorruptError, match=r"store\.json"):
        open_store(store.url)


def test_unknown_places_are_refused() -> None:
    with pytest.raises(UnsupportedStoreError, match="ftp"):
        open_store("ftp://host/x")
    with pytest.raises(ValueError, match="names no place"):
        open_store("s3://")


def test_a_missing_bucket_is_named(s3_url: str) -> None:
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        open_store("s3://no-such-bucket/store")


def test_credentials_come_from_the_environment(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        open_store(s3_url)


def test_bucket_names_stay_in_the_path(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    # With a host name (not an address) botocore would ask for BUCKET.localhost.
    port = os.environ["AWS_ENDPOINT_URL"].rsplit(":", 1)[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://localhost:{port}")
    assert open_store(s3_url).put_if_absent("x", b"1")


def test_a_big_object_goes_up_in_parts(s3_url: str, tmp_path: Path) -> None:
    store, local = open_store(s3_url), tmp_path / "big"
    data = bytes(range(256)) * (33 << 12)  # 33 MiB
    local.write_bytes(data)
    store.publish_file(local, "big")
    assert store.size("big") == len(data)
    again = tmp_path / "again"
    again.write_bytes(data)
    with pytest.raises(AlreadyExistsError):
        store.publish_file(again, "big")
    store.fetch_file("big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data


def test_a_forked_process_gets_its_own_client(s3_url: str) -> None:
    import os

    store = open_store(s3_url)
    child = os.fork()
    if not child:
        os._exit(0 if store.put_if_absent("child", b"1") else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert store.read_bytes("child") == b"1"
