"""Settings: what of a configuration decides a dataset version, and which version fits it."""

from typing import Any

from storage.digest import digest_json, hexkey
from storage.store import Store
from storage.versions import Version, get_version, latest_version
from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.imaging.layout import grid_phases

NOT_CONTENT = {"threads", "decode_memory_mib", "encode_batch_size", "max_pixels", "remainder"}
"""Keys of `[data]` that say how to work, not what comes out."""
CROPS_NOT_CONTENT = {
    *("parallel_workers", "save_to_disk", "save_directory", "save_max_tiles_per_image"),
    *("caption_endpoint", "caption_timeout", "caption_max_retries", "caption_auto_pull"),
    *("caption_parallel", "caption_min_success"),
}
"""The same of `[concepts.image.detail_crops]`."""


def data_settings(config: Config) -> dict[str, Any]:
    """Everything that prepare depends on, as JSON.

    `[train]` and outputs are not in it, but the number of grids, whose default follows the epochs.
    """
    concepts = [concept for concept in config.concepts if concept.enabled]
    return {
        "model": config.model.model_dump(mode="json", include={"family", "base", "config_folder"}),
        "data": config.data.model_dump(mode="json", exclude=NOT_CONTENT),
        "concepts": [_concept_settings(config, concept) for concept in concepts],
    }


def _concept_settings(config: Config, concept: Concept) -> dict[str, Any]:
    settings: dict[str, Any] = concept.model_dump(
        mode="json", exclude={"image": {"detail_crops": CROPS_NOT_CONTENT}}
    )
    settings["image"]["detail_crops"]["grid_phases"] = grid_phases(config, concept)
    if concept.type == "prior_prediction":
        settings["type"] = "standard"  # they differ in what is trained on them alone
    return settings


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
