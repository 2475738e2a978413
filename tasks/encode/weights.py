"""The identity of the models that encode: digests of their weights, hashed once per file."""

from tasks.families.base import Family
from tasks.families.known_digests import known_digests
from tasks.families.sources import ModelSource, resolve_model
from tasks.stage import Context


def model_source(context: Context, family: Family) -> ModelSource:
    """The base model of the configuration, found on disk or in the hub's local cache."""
    model = context.config.model
    return resolve_model(model.base, family, model.config_folder, download=not context.dry_run)


def weights_digest(context: Context, source: ModelSource, components: tuple[str, ...]) -> str:
    """Hex digests of components, joined; changes when any weight or config of them does."""
    digests = known_digests(context.store, source, components, keep=not context.dry_run)
    return "-".join(digests[name] for name in components)
