"""`tilewright report`: where the report of a dataset version is; made when there is none."""

from pathlib import Path
from typing import Any

from flows.command_outcome import say
from flows.dataset_rows import find_version
from flows.web_page import local_page, open_page
from storage.store import Store
from storage.versions import Version
from tasks.config.loading import load_config
from tasks.pipeline.report import current_report, report_path, rewrite_report


def find_report(config_or_store: str, dataset: str | None, *, open_it: bool) -> dict[str, Any]:
    """The summary of the command; the report is made, if need be, from the store alone.

    Args:
        config_or_store: a TOML file, whose training the epochs are then told for, or the place of
            a store.
        dataset: `name` or `name@number`; default: the config's dataset, or the store's only one.
        open_it: show the report in a browser.

    Raises:
        ConfigError: there is no such store, dataset or version.
    """
    store, version = find_version(config_or_store, dataset)
    uri = current_report(store, version)
    made = uri is None
    if uri is None:
        say(f"making the report of {version.name}@{version.number}")
        is_config = config_or_store.endswith(".toml")
        config = load_config(config_or_store, checks=False) if is_config else None
        uri = rewrite_report(store, version, config)
    if open_it:
        open_page(local_copy(store, version))
    return {"report": uri, "made": made, "dataset": version.summary()}


def local_copy(store: Store, version: Version) -> Path:
    """The report as a file of this machine; that of a remote store is copied to a new folder."""
    return local_page(store, report_path(version), f"{version.name}-{version.number}.html")
