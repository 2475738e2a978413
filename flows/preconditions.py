"""What must hold before a command starts anything; ConfigError (exit code 2) says what does not."""

from typing import TYPE_CHECKING

from flows.command_outcome import refuse
from tasks.config.concepts import Concept
from tasks.config.loading import load_config
from tasks.config.models import Config
from tasks.config.problems import ConfigError, Problem

if TYPE_CHECKING:
    from storage.versions import Version


def usable_config(
    config: str,
    settings: list[str] | None,
    *,
    create_store: bool,
    download: bool,
    images: bool = True,
) -> Config:
    """The config, once it, its store and its base model are known to be usable.

    Args:
        config: the TOML file.
        settings: `a.b=c` overrides.
        create_store: make the store if it is not there yet.
        download: fetch a base model named by its hub name if it is not there yet.
        images: the concepts' folders must hold some; what is prepared already needs none.
    """
    checked = load_config(config, settings or ())
    require_usable(checked, create_store=create_store, download=download, images=images)
    return checked


def require_usable(
    config: Config, *, create_store: bool, download: bool, images: bool = True
) -> None:
    """Whether the store, the base model and the folders of photos are what they should be."""
    if images:
        require_images(config)
    from flows.dataset_rows import check_store
    from tasks.families import get_family
    from tasks.families.sources import resolve_model

    check_store(config.store.url, create=create_store)
    model = config.model
    try:
        family = get_family(model.family)
        resolve_model(model.base, family, model.config_folder, download=download)
    except (ValueError, OSError) as error:
        refuse("model.base", str(error), model.base)


def require_ready(config: Config, *, prepares: bool, trains: bool, dry_run: bool = False) -> None:
    """What a command checks before it starts a flow, for the run of a deployment, which has none.

    Args:
        config: what the form means.
        prepares: photos are read, and captions made where they are missing.
        trains: a training follows.
        dry_run: nothing is made, so nobody needs to caption or train.
    """
    import prefect.runtime

    if prefect.runtime.deployment.id is None:
        return
    work = not dry_run
    require_usable(config, create_store=prepares and work, download=work, images=prepares)
    if prepares and work:
        require_captioner(config)
    if trains and work:
        require_trainable(config)


def require_captioner(config: Config) -> None:
    """Whether missing captions could be made, as far as that is known before the scan."""
    from tasks.captions.model import CaptionerError
    from tasks.captions.require import require_captioners

    try:
        require_captioners(config)
    except CaptionerError as error:
        refuse("concepts.image.detail_crops", str(error))


def require_images(config: Config) -> None:
    """Whether every enabled concept's folder holds an image; remote folders are not looked at."""
    problems = [
        Problem(f"concepts.{number}.path", message, concept.path)
        for number, concept in enumerate(config.concepts)
        if concept.enabled and (message := _no_image(concept))
    ]
    if problems:
        raise ConfigError(problems)


def _no_image(concept: Concept) -> str | None:
    """Why a concept's folder gives nothing, or None."""
    from tasks.files.listing import has_image, is_local

    if not is_local(concept.path) or has_image(
        concept.path, recursive=concept.include_subdirectories
    ):
        return None
    if has_image(concept.path, recursive=True):
        return "holds no image, but its subfolders do: set include_subdirectories = true"
    return "holds no image"


def require_dataset(config: Config, dataset: str | None) -> "Version":
    """The version to train on; there must be one, and it must have the config's data settings."""
    from flows import dataset_rows
    from storage.errors import NotFoundError
    from tasks.dataset.settings import choose_version

    store = dataset_rows.existing_store(config.store.url)
    if dataset is not None:
        dataset_rows.named_version(store, dataset)
    try:
        return choose_version(store, config, dataset)
    except (NotFoundError, ValueError) as error:
        refuse("dataset", str(error), dataset)


def require_trainable(config: Config) -> None:
    """Whether this machine can train as configured."""
    from tasks.train.checks import check_training

    try:
        check_training(config)
    except ValueError as error:
        refuse("train", str(error))


def require_run(config: Config, version: "Version", resume: str | None, new_data: bool) -> None:
    """A run to go on with must exist and, unless it is asked for, train on the same data."""
    from tasks.train.runs import named_run

    if new_data and resume is None:
        refuse("--new-data", "is for --resume RUN_ID: a new run takes the latest dataset anyway")
    if resume is not None:
        try:
            named_run(config, version, resume, new_data)
        except ValueError as error:
            refuse("--resume", str(error), resume)


def require_model(run_or_model: str, base: str | None) -> None:
    """What is to be drawn with must be a run or a model."""
    from tasks.sample.target import find_target

    try:
        find_target(run_or_model, base)
    except (ValueError, OSError) as error:
        refuse("RUN_OR_MODEL", str(error), run_or_model)
