"""Digests of model components, hashed once per file: what a store knows is not read again."""

import time
from collections.abc import Mapping, Sequence

import pyarrow.compute as pc

from storage.hashcache import append_hash_cache, read_hash_cache
from storage.store import Store
from tasks.families.digests import component_digest
from tasks.families.sources import ModelSource


def known_digests(
    store: Store, source: ModelSource, components: Sequence[str], *, keep: bool = True
) -> Mapping[str, str]:
    """Hex digest of each component of a model; what was hashed anew is kept in the store.

    Args:
        store: has a hash cache.
        source: the model.
        components: subfolders of the model: vae, unet, text_encoder, ...
        keep: off, nothing is written.

    Raises:
        ValueError: the model lacks one of them.
    """
    cache = read_hash_cache(store)
    cache = cache.filter(pc.equal(cache["kind"], "weights"))
    known = dict(zip(*cache.select(["path", "content_id"]).to_pydict().values(), strict=True))
    memory = dict(known)
    digests = {name: component_digest(source, name, cache=memory).hex() for name in components}
    fresh = sorted(memory.keys() - known.keys())
    if keep:
        now = time.time_ns()
        rows = [
            {"kind": "weights", "path": path, "hashed_at_ns": now, "content_id": memory[path]}
            for path in fresh
        ]
        append_hash_cache(store, rows)
    return digests
