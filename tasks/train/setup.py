"""Puts a training together: dataset, model, method, optimizer, and the backup it goes on from."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from storage.digest import digest_json, hexkey
from storage.store import Store
from storage.versions import Version, get_version
from tasks.config.models import Config
from tasks.epochs.entries import OrderSettings
from tasks.epochs.order import epoch_steps
from tasks.epochs.settings import order_settings
from tasks.families import get_family
from tasks.families.base import Family
from tasks.families.live import cached_encoders
from tasks.families.loading import ModelSource, read_config, resolve_model
from tasks.families.vae import latent_facts
from tasks.train.assemble import Draws, Source
from tasks.train.backup import BackupFacts, read_facts, restore_backup
from tasks.train.ema import averaged_weights
from tasks.train.encoding import build_encoder
from tasks.train.objectives import OBJECTIVES, Objective
from tasks.train.optimizers import build_optimizer
from tasks.train.parts import build_parts, parameter_groups
from tasks.train.precision import choose_precision
from tasks.train.rows import Rows, find_rows, load_rows
from tasks.train.spec import TrainSpec
from tasks.train.state import Progress, Training
from tasks.train.step import distribute

if TYPE_CHECKING:
    import torch

NOT_THE_SHAPE = ("initial", "dropout")
"""Settings of a method that may change from one call to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training that is ready to go, with what was used to build it."""

    spec: TrainSpec
    store: Store
    version: Version
    model: ModelSource
    source: Source
    held_out: Rows | None
    """The validation rows; None when there are none."""
    training: Training
    facts: BackupFacts
    notes: Sequence[str]
    """What a person should know, such as settings that changed since the backup."""


def prepare_run(spec: TrainSpec, store: Store, device: "torch.device", rank: int) -> Run:
    """Builds everything, on every rank alike; ValueError says what does not fit."""
    from storage.reading import ItemReader

    config = spec.config
    family = get_family(config.model.family)
    version = get_version(store, spec.dataset, spec.version)
    _check_family(version, family)
    prior = [concept.name for concept in config.concepts if concept.type == "prior_prediction"]
    rows = load_rows(store, version, prior)
    cached = tuple(encoder.name for encoder in cached_encoders(config, family))
    _check_texts(rows, cached, spec)
    model = resolve_model(config.model.base, family, config.model.config_folder)
    training = build_training(config, family, model, device)
    encoder = None if rows.cached else build_encoder(version, config, family, model, device)
    order = order_settings(config, rows.content_digest)
    training.total_steps = planned_steps(config, rows, order)
    training.split = spec.split
    facts = _backup_facts(spec, version)
    notes: list[str] = []
    if spec.resume_from is not None:
        notes = _check_fit(read_facts(spec.resume_from), facts, spec)
        restore_backup(spec.resume_from, training)
        if read_facts(spec.resume_from)["dataset_digest"] != facts.dataset_digest:
            training.progress = replace(training.progress, step_in_epoch=0)
    distribute(training)
    source = Source(
        rows=rows,
        reader=ItemReader(store),
        order=order,
        draws=_draws(config, family, model, training.objective),
        encoder=encoder,
        cached_encoders=cached,
        pins=device.type == "cuda",
        rank=rank,
        world=training.world,
    )
    return Run(
        spec=spec,
        store=store,
        version=version,
        model=model,
        source=source,
        held_out=find_rows(store, version, split="validation"),
        training=training,
        facts=facts,
        notes=notes,
    )


def planned_steps(config: Config, rows: Rows, order: OrderSettings) -> int:
    """Optimizer steps of the whole run; ValueError when its epochs have none."""
    if config.train.max_steps is not None:
        return config.train.max_steps
    total = sum(itertools.islice(epoch_steps(rows.order, order), config.train.epochs))
    if not total:
        raise ValueError(
            f"{config.train.epochs} epochs of {len(rows.order.bucket)} rows make no optimizer "
            f"step of {order.batch_size} x {order.step_size} samples. Use "
            'data.remainder = "repeat", a smaller train.batch_size or more data.'
        )
    return total


def build_training(
    config: Config, family: Family, model: ModelSource, device: "torch.device"
) -> Training:
    """A training at step 0 that knows of no dataset yet: `total_steps` is still to be set."""
    train = config.train
    precision = choose_precision(train.train_dtype, device)
    built = build_parts(config, family, model, precision, device)
    optimizer = build_optimizer(parameter_groups(built.parts), train.optimizer)
    parameters = [parameter for part in built.parts for parameter in part.parameters]
    scheduler = read_config(model, "scheduler")
    return Training(
        config=train,
        family=family,
        forward=built.forward,
        model=built.forward,
        parts=built.parts,
        adapted=built.adapted,
        objective=OBJECTIVES[family.objective](scheduler, train.noise),
        latent_facts=latent_facts(model, family),
        precision=precision,
        device=device,
        optimizer=optimizer,
        scaler=precision.grad_scaler(),
        average=averaged_weights(train.ema, parameters),
        total_steps=0,
        progress=Progress(),
        world=train.processes,
    )


def _draws(config: Config, family: Family, model: ModelSource, objective: Objective) -> Draws:
    train = config.train
    return Draws(
        seed=train.seed,
        objective=objective,
        timesteps=train.timesteps,
        noise=train.noise,
        mask=train.mask,
        caption_dropout=train.caption_dropout,
        scheduler_config=read_config(model, "scheduler"),
        patch_cells=family.patch_cells,
    )


def _backup_facts(spec: TrainSpec, version: Version) -> BackupFacts:
    config, train = spec.config, spec.config.train
    return BackupFacts(
        family=config.model.family,
        base=config.model.base,
        config_folder=config.model.config_folder,
        method=train.method.model_dump(mode="json"),
        dataset=f"{version.name}@{version.number}",
        dataset_digest=version.content_digest,
        config_digest=hexkey(digest_json("train-config/1", train.model_dump(mode="json"))),
        world=train.processes,
        step_size=train.processes * train.gradient_accumulation_steps,
        batch_size=train.batch_size,
        seed=train.seed,
        run_id=spec.run_id,
    )


def _check_family(version: Version, family: Family) -> None:
    found = version.meta["extra"]["family"]
    if found != family.name:
        raise ValueError(
            f"dataset {version.name}@{version.number} was encoded for family {found!r}, "
            f"model.family is {family.name!r}. Prepare the dataset for this family first."
        )


def _check_texts(rows: Rows, cached: Sequence[str], spec: TrainSpec) -> None:
    """ValueError when an encoder should be read from the cache and is not there."""
    missing = [name for name in cached if name not in rows.unconditional]
    if missing:
        raise ValueError(
            f"dataset {spec.dataset}@{spec.version} has no embeddings of {', '.join(missing)}: it "
            "was prepared for training with them. Run `tilewright prepare` first."
        )


def _check_fit(backup: dict[str, Any], facts: BackupFacts, spec: TrainSpec) -> list[str]:
    """ValueError when going on from this backup could not be exact; notes on what else changed."""
    other_data = spec.new_data and backup["dataset_digest"] != facts.dataset_digest
    must = ["family"] if other_data else ["family", "dataset_digest"]
    if backup["step_in_epoch"] and not other_data:
        # Within an epoch these decide what "step k" is.
        must += ["step_size", "batch_size", "seed"]
    then, now = ({name: one[name] for name in must} for one in (backup, asdict(facts)))
    then |= _shape_of(backup["method"])
    now |= _shape_of(facts.method)
    different = [name for name in then | now if then.get(name) != now.get(name)]
    if different:
        what = ", ".join(
            f"{name} was {then.get(name)!r} and is now {now.get(name)!r}" for name in different
        )
        raise ValueError(
            f"cannot go on from backup {spec.resume_from}: {what}. Use the settings and the "
            "dataset version of the run, go on all the same with --new-data where only the data "
            "changed, or start a new run with the backup as model.base."
        )
    notes = []
    if other_data:
        notes.append(
            f"training goes on with {facts.dataset} in place of {backup['dataset']}: epoch "
            f"{backup['epoch']} starts anew"
        )
    if backup["config_digest"] != facts.config_digest:
        notes.append(f"the [train] settings differ from those of backup {spec.resume_from}")
    return notes


def _shape_of(method: Mapping[str, Any]) -> dict[str, Any]:
    """What of a method decides which weights there are, and what they do."""
    return {f"method.{name}": method[name] for name in method if name not in NOT_THE_SHAPE}
