"""Settings: what of a configuration decides a dataset version, and which version fits it."""

from typing import Any

from storage.digest import digest_json, hexkey
from storage.store import Store
from storage.versions import Version, get_version, latest_version
from tasks.config.models import Config

NOT_CONTENT = {"threads", "encode_batch_size", "max_pixels", "remainder"}
"""Keys of `[data]` that say how to work, not what comes out."""


def data_settings(config: Config) -> dict[str, Any]:
    """Everything that prepare depends on, as JSON; `[train]` and outputs are not in it."""
    concepts = [concept for concept in config.concepts if concept.enabled]
    return {
        "model": config.model.model_dump(mode="json", include={"family", "base", "config_folder"}),
        "data": config.data.model_dump(mode="json", exclude=NOT_CONTENT),
        "concepts": [concept.model_dump(mode="json") for concept in concepts],
    }


def settings_digest(config: Config) -> str:
    """Hex digest of `data_settings`."""
    return hexkey(digest_json("data-settings", data_settings(config)))


def choose_version(store: Store, config: Config, dataset: str | None) -> Version:
    """The version to train on: the named one (NAME or NAME@N), or the latest of the configuration.

    Raises:
        ValueError: there is none, or the latest was made with other data settings.
        NotFoundError: the named number does not exist.
    """
    if dataset is not None and "@" in dataset:
        name, _, number = dataset.partition("@")
        return get_version(store, name, int(number))
    name = dataset or config.data.name
    version = latest_version(store, name)
    if version is None:
        raise ValueError(
            f"{store.url} has no dataset {name!r} yet: run `tilewright prepare` (or `run`) first"
        )
    if dataset is None and version.meta["config"]["digest"] != settings_digest(config):
        raise ValueError(
            f"the latest version of dataset {name!r} was prepared with other data settings "
            f"({', '.join(_differences(version, config))}). Run `tilewright prepare` first, or "
            f"name the version to train on anyway: --dataset {name}@{version.number}"
        )
    return version


def _differences(version: Version, config: Config) -> list[str]:
    made, now = version.meta["config"], data_settings(config)
    changed = [
        f"{table}.{key}"
        for table in ("model", "data")
        for key in now[table]
        if made[table].get(key) != now[table][key]
    ]
    return changed if made["concepts"] == now["concepts"] else [*changed, "concepts"]
