"""Trainings of models with random weights, built where they run, from configs alone.

A `Case` is one of them: an architecture, a method, a batch size and a precision. What trains in it
and how is the product's; only reading a model from files is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import diffusers
import torch
from torch.nn.functional import mse_loss
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bare_training import SCHEDULER, bare_prediction
from benchmarks.training_data import Shapes
from tasks.config.cadences import BackupCadence
from tasks.config.methods import FullMethod, LoraMethod
from tasks.config.optimizers import Schedule
from tasks.config.training import TrainConfig
from tasks.families import get_family
from tasks.train.acceleration import compile_blocks, quantize
from tasks.train.assemble import Draws
from tasks.train.batch import Batch
from tasks.train.forward import Forward
from tasks.train.methods import METHODS
from tasks.train.methods.layers import linear_layers, with_suffix
from tasks.train.objectives import OBJECTIVES
from tasks.train.optimizers import build_optimizer
from tasks.train.parts import TrainedPart, parameter_groups
from tasks.train.precision import choose_precision
from tasks.train.state import Progress, Training

FULL, LORA = FullMethod(), LoraMethod(rank=16, alpha=16.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A denoiser and what it is trained on."""

    family: str
    model: str
    """Its class in diffusers."""
    config: Mapping[str, Any]
    shapes: Shapes
    scaling: Mapping[str, float]
    """The VAE's factor and shift."""
    depths: tuple[str, ...] = ()
    """Entries of the config that count equal blocks: a model of fewer is the same, only smaller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One training."""

    name: str
    architecture: Architecture
    method: FullMethod | LoraMethod
    batch_size: int
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    checkpointing: bool = True
    base: Literal["train_dtype", "int8"] = "train_dtype"
    """The dtype of frozen weights: `train.base_weights`."""
    compile: bool = False


def build_training(case: Case, device: torch.device) -> Training:
    """The product's training at step 0; its optimizer is torch's AdamW, in one kernel on a GPU."""
    config = TrainConfig(
        method=case.method,
        train_dtype=case.dtype,
        batch_size=case.batch_size,
        gradient_checkpointing=case.checkpointing,
        schedule=Schedule(kind="cosine"),
        backup=BackupCadence(every=0),
    )
    family = get_family(case.architecture.family)
    precision = choose_precision(case.dtype, device)
    denoiser = build_denoiser(case, device)
    if case.checkpointing:
        denoiser.enable_gradient_checkpointing()
    if case.compile:
        compile_blocks(denoiser, family)
    part = TrainedPart(
        name="denoiser",
        parameters=[weight for weight in denoiser.parameters() if weight.requires_grad],
        learning_rate=config.learning_rate,
        stop_after=None,
        state=denoiser.state_dict,
        restore=denoiser.load_state_dict,
    )
    forward = Forward(family, precision, denoiser, {}, {})
    return Training(
        config=config,
        family=family,
        forward=forward,
        model=forward,
        parts=[part],
        adapted=[],
        objective=OBJECTIVES[family.objective](SCHEDULER, config.noise),
        latent_facts=case.architecture.scaling,
        precision=precision,
        device=device,
        optimizer=build_optimizer(parameter_groups([part]), config.optimizer),
        scaler=precision.grad_scaler(),
        average=None,
        total_steps=10**9,
        progress=Progress(),
    )


def build_denoiser(case: Case, device: torch.device) -> Any:
    """The model in training mode with what trains in float32 and all else in the case's dtype."""
    dtype = torch.float32 if case.method.kind == "full" else getattr(torch, case.dtype)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            denoiser = getattr(diffusers, case.architecture.model)(**case.architecture.config)
    finally:
        torch.set_default_dtype(torch.float32)
    denoiser.train().requires_grad_(False)
    if case.base != "train_dtype":
        quantize(denoiser, case.base)
    for parameter in METHODS[case.method.kind].prepare(
        denoiser, case.method, layers(case, denoiser), 0
    ):
        parameter.data = parameter.data.float()
    return denoiser


def layers(case: Case, denoiser: Any) -> list[str]:
    """The names of the layers that train: all of them, or those the family adapts by default."""
    if case.method.kind == "full":
        return [name for name, layer in denoiser.named_modules() if layer._parameters]
    return with_suffix(linear_layers(denoiser), get_family(case.architecture.family).lora_targets)


def draws(case: Case) -> Draws:
    """How the random draws of its batches are made."""
    objective = get_family(case.architecture.family).objective
    return Draws(seed=0, objective=OBJECTIVES[objective](SCHEDULER, TrainConfig().noise))


def with_depth(case: Case, share: float) -> Case:
    """The same with that share of its blocks, at least one of each kind."""
    architecture = case.architecture
    config = {
        **architecture.config,
        **{name: max(1, int(share * architecture.config[name])) for name in architecture.depths},
    }
    return replace(case, architecture=replace(architecture, config=config))


def num_parameters(case: Case) -> tuple[int, int]:
    """Of the denoiser: (all without adapters, trained)."""
    parameters = list(build_denoiser(case, torch.device("meta")).parameters())
    trained = sum(one.numel() for one in parameters if one.requires_grad)
    everything = sum(one.numel() for one in parameters)
    return everything - (trained if case.method.kind != "full" else 0), trained


def step_flops(case: Case) -> int:
    """Operations of the forward and the backward pass of one step, nothing computed twice.

    Counted on tensors without data, so that it takes neither time nor memory.
    """
    plain = replace(case, checkpointing=False, base="train_dtype", compile=False)
    denoiser = build_denoiser(plain, torch.device("meta")).float()
    predict = bare_prediction(case.architecture.family, case.architecture.scaling)
    with FlopCounterMode(display=False) as counter:
        mse_loss(*predict(denoiser, meta_batch(plain))).backward()
    return int(counter.get_total_flops())


def meta_batch(case: Case) -> Batch:
    """A batch of the right shapes without data."""
    size, shapes = case.batch_size, case.architecture.shapes
    with torch.device("meta"):
        latents = torch.empty(size, *shapes.latent)
        return Batch(
            rows=tuple(range(size)),
            epoch=0,
            position=0,
            latents=latents,
            noise=latents,
            input_noise=latents,
            timesteps=torch.zeros(size, dtype=torch.int64),
            prompts=("",) * size,
            texts={
                encoder: {name: torch.empty(size, *shape) for name, shape in fields.items()}
                for encoder, fields in shapes.texts.items()
            },
            sizes=torch.zeros(size, 6),
            weights=torch.ones(size),
            is_prior=(False,) * size,
        )
