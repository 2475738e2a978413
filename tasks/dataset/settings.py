"""Settings: the part of a configuration that decides what is in a dataset version."""

from typing import Any

from storage.digest import digest_json, hexkey
from tasks.config.models import Config


def data_settings(config: Config) -> dict[str, Any]:
    """Everything that prepare depends on, as JSON; `[train]` and outputs are not in it."""
    encoding = {"threads", "encode_batch_size", "max_pixels", "remainder"}
    return {
        "model": config.model.model_dump(mode="json", include={"family", "base", "config_folder"}),
        "data": config.data.model_dump(mode="json", exclude=encoding),
        "concepts": [
            concept.model_dump(mode="json") for concept in config.concepts if concept.enabled
        ],
    }


def settings_digest(config: Config) -> str:
    """Hex digest of `data_settings`: training refuses a version made with other settings."""
    return hexkey(digest_json("data-settings", data_settings(config)))
