"""Puts a training together: dataset, model, method, optimizer, and the backup it goes on from."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.digest import digest_json, hexkey
from storage.store import Store
from storage.versions import Version, get_version
from tasks.config.models import Config
from tasks.config.methods import LoraMethod
from tasks.epochs.entries import OrderSettings
from tasks.epochs.order import epoch_steps
from tasks.epochs.settings import order_settings
from tasks.families import get_family
from tasks.families.base import Family
from tasks.families.loading import ModelSource, load_component, read_config, resolve_model
from tasks.train.backup import BackupFacts, read_facts, restore_backup
from tasks.train.batches import Draws, Source
from tasks.train.encoding import Encoder, build_encoder
from tasks.train.losses import LOSSES
from tasks.train.methods import METHODS
from tasks.train.noise import draw_seed
from tasks.train.objectives import OBJECTIVES
from tasks.train.optimizers import OPTIMIZERS
from tasks.train.precision import choose_precision
from tasks.train.rows import Rows, load_rows
from tasks.train.spec import TrainSpec
from tasks.train.state import Progress, Training

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training that is ready to go, with what was used to build it."""

    spec: TrainSpec
    store: Store
    version: Version
    model: ModelSource
    source: Source
    training: Training
    facts: BackupFacts
    notes: Sequence[str]
    """What a person should know, such as settings that changed since the backup."""


def prepare_run(spec: TrainSpec, store: Store, device: "torch.device", rank: int) -> Run:
    """Builds everything, on every rank alike; ValueError says what does not fit."""
    config = spec.config
    family = get_family(config.model.family)
    version = get_version(store, spec.dataset, spec.version)
    _check_family(version, family)
    rows = load_rows(store, version)
    model = resolve_model(config.model.base, family, config.model.config_folder)
    training = build_training(config, family, model, device)
    encoder = None if rows.cached else build_encoder(version, config, family, model, device)
    order = order_settings(config, rows.content_digest)
    training.total_steps = planned_steps(config, rows, order)
    facts = _backup_facts(spec, version)
    notes: list[str] = []
    if spec.resume_from is not None:
        notes = _check_fit(read_facts(spec.resume_from), facts, spec)
        restore_backup(spec.resume_from, training)
    return Run(
        spec=spec,
        store=store,
        version=version,
        model=model,
        source=_source(store, rows, training, order, encoder, rank),
        training=_distribute(training),
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
    import torch

    train = config.train
    method = METHODS[train.method.kind]
    precision = choose_precision(train.train_dtype, device)
    dtype = precision.dtype if method.frozen_dtype_is_train_dtype else torch.float32
    denoiser = load_component(model, family, family.denoiser, dtype, device)
    init_seed = draw_seed(train.seed, "init", 0, 0)
    parameters = method.prepare(denoiser, train.method, family, init_seed)
    if train.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    denoiser.train()
    return Training(
        config=train,
        family=family,
        method=method,
        objective=OBJECTIVES[family.objective](read_config(model, "scheduler")),
        loss=LOSSES["mse"],
        precision=precision,
        vae_config=read_config(model, "vae"),
        device=device,
        denoiser=denoiser,
        model=denoiser,
        parameters=parameters,
        optimizer=OPTIMIZERS[train.optimizer.kind](
            parameters, train.optimizer, train.learning_rate
        ),
        scaler=precision.grad_scaler(),
        total_steps=0,
        progress=Progress(),
        world=train.processes,
    )


def _distribute(training: Training) -> Training:
    """Wraps the model so that ranks average their gradients; nothing for a single rank."""
    import torch

    if training.world > 1:
        devices = None if training.device.type == "cpu" else [training.device]
        training.model = torch.nn.parallel.DistributedDataParallel(
            training.denoiser, device_ids=devices, broadcast_buffers=False
        )
    return training


def _source(
    store: Store,
    rows: Rows,
    training: Training,
    order: OrderSettings,
    encoder: Encoder | None,
    rank: int,
) -> Source:
    from storage.reading import ItemReader

    return Source(
        rows=rows,
        reader=ItemReader(store),
        order=order,
        draws=Draws(
            seed=training.config.seed,
            num_timesteps=training.objective.num_timesteps,
            caption_dropout=training.config.caption_dropout,
        ),
        encoder=encoder,
        rank=rank,
        world=training.world,
    )


def _backup_facts(spec: TrainSpec, version: Version) -> BackupFacts:
    config, train = spec.config, spec.config.train
    lora = train.method if isinstance(train.method, LoraMethod) else None
    return BackupFacts(
        kind=train.method.kind,
        family=config.model.family,
        base=config.model.base,
        config_folder=config.model.config_folder,
        rank=lora.rank if lora else None,
        alpha=lora.alpha if lora else None,
        dataset=f"{version.name}@{version.number}",
        dataset_digest=version.content_digest,
        config_digest=hexkey(digest_json("train-config/1", train.model_dump(mode="json"))),
        world=train.processes,
        step_size=train.processes * train.gradient_accumulation_steps,
        batch_size=train.batch_size,
        seed=train.seed,
    )


def _check_family(version: Version, family: Family) -> None:
    found = version.meta["extra"]["family"]
    if found != family.name:
        raise ValueError(
            f"dataset {version.name}@{version.number} was encoded for family {found!r}, "
            f"model.family is {family.name!r}. Prepare the dataset for this family first."
        )


def _check_fit(backup: dict[str, Any], facts: BackupFacts, spec: TrainSpec) -> list[str]:
    """ValueError when going on from this backup could not be exact; notes on what else changed."""
    must = ["kind", "family", "rank", "alpha", "dataset_digest"]
    if backup["step_in_epoch"]:
        # Within an epoch these decide what "step k" is.
        must += ["step_size", "batch_size", "seed"]
    different = [name for name in must if backup[name] != getattr(facts, name)]
    if different:
        what = ", ".join(
            f"{name} was {backup[name]!r} and is now {getattr(facts, name)!r}" for name in different
        )
        raise ValueError(
            f"cannot go on from backup {spec.resume_from}: {what}. Use the settings and the "
            "dataset version of the run, or start a new run with the backup as model.base."
        )
    if backup["config_digest"] == facts.config_digest:
        return []
    return [f"the [train] settings differ from those of backup {spec.resume_from}"]
