"""What a dataset version stands for, byte for byte, wherever its shards are."""

from pathlib import Path
from typing import Any

from storage.reading import ItemReader, ItemRef
from storage.store import Store
from storage.versions import latest_version, read_rows

Content = dict[Any, bytes]


def content(store: Store, name: str = "test", cache: Path | None = None) -> tuple[str, Content]:
    """The content digest of the latest version, and the bytes of all that it trains on."""
    version = latest_version(store, name)
    assert version is not None
    found: Content = {}
    with ItemReader(store, cache_dir=cache) as reader:
        for row in read_rows(store, version).to_pylist():
            latent = {key.removeprefix("latent_"): row[key] for key in row if "latent_" in key}
            found[row["row_id"]] = _read(reader, latent)
            for text in row["texts"]:
                prompt = row["prompts"][text["prompt"]]
                found[text["encoder"], prompt] = _read(reader, text)
        for text in version.meta["extra"]["unconditional"]:
            found[text["encoder"], ""] = _read(reader, text)
    return version.content_digest, found


def _read(reader: ItemReader, item: dict[str, Any]) -> bytes:
    names = ("stage", "shard", "offset", "nbytes", "layout", "xxh3")
    (tensors,) = reader.read_many([ItemRef(*(item[name] for name in names))])
    return b"".join(name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors))
