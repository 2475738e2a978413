"""The identity of the models that encode: digests of their weights, hashed once per file."""

import time

from storage.hashcache import append_hash_cache
from tasks.families.base import Family
from tasks.families.digests import component_digest
from tasks.families.sources import ModelSource, resolve_model
from tasks.stage import Context


def model_source(context: Context, family: Family) -> ModelSource:
    """The base model of the configuration, found on disk or in the hub's local cache."""
    model = context.config.model
    return resolve_model(model.base, family, model.config_folder, download=not context.dry_run)


def weights_digest(context: Context, source: ModelSource, components: tuple[str, ...]) -> str:
    """Hex digests of components, joined; changes when any weight or config of them does."""
    cached = context.hash_cache("weights").select(["path", "content_id"]).to_pydict()
    known = dict(zip(cached["path"], cached["content_id"], strict=True))
    memory = dict(known)
    digests = [component_digest(source, name, cache=memory) for name in components]
    fresh = memory.keys() - known.keys()
    if fresh and not context.dry_run:
        rows = [
            {
                "kind": "weights",
                "path": key,
                "hashed_at_ns": time.time_ns(),
                "content_id": memory[key],
            }
            for key in sorted(fresh)
        ]
        append_hash_cache(context.store, rows)
    return "-".join(digest.hex() for digest in digests)
