"""Parts: what trains, each with its weights, its learning rate and its end.

A part is the denoiser, a text encoder, or a word of textual inversion. Each is one parameter group
of the optimizer and one file of a backup.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.config.methods import Adapter, Embedding, Parts, StopAfter
from tasks.config.models import Config
from tasks.families.adapters import adapted_layers
from tasks.families.base import Family
from tasks.families.live import live_encoders
from tasks.families.loading import ModelSource, load_component
from tasks.train.acceleration import compile_blocks, quantize
from tasks.train.embeddings import Word, add_words, spell_out
from tasks.train.forward import Forward, LiveEncoder
from tasks.train.initial import initial_weights
from tasks.train.methods import METHODS
from tasks.train.methods.layers import linear_layers, matching, with_suffix
from tasks.train.noise import draw_seed
from tasks.train.precision import Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DENOISER = "denoiser"
WORD = "embedding"
"""What the names of words begin with: embedding.<placeholder>."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedPart:
    """One part that trains."""

    name: str
    parameters: "Sequence[torch.nn.Parameter]"
    """In a fixed order."""
    learning_rate: float
    stop_after: StopAfter | None
    state: "Callable[[], dict[str, Tensor]]"
    """Its trained weights."""
    restore: "Callable[[Mapping[str, Tensor]], None]"
    """The inverse; ValueError when they do not fit."""

    @property
    def is_training(self) -> bool:
        """Whether it was not frozen yet."""
        return any(parameter.requires_grad for parameter in self.parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The module of a training and what trains in it."""

    forward: Forward
    parts: Sequence[TrainedPart]
    adapted: Sequence[Any]
    """The modules that have adapters, which can be switched off."""


def build_parts(
    config: Config,
    family: Family,
    model: ModelSource,
    precision: Precision,
    device: "torch.device",
) -> Built:
    """Loads what runs in training and makes it trainable as configured.

    Raises:
        ValueError: the settings do not fit this model.
    """
    encoders = live_encoders(config, family)
    load = partial(load_component, model, family, device=device)
    tokenizers = {one.name: load(one.tokenizer, precision.dtype) for one in encoders}
    components = {DENOISER: family.denoiser, **{one.name: one.model for one in encoders}}
    modules = {
        name: load(component, _dtype(config, name, precision))
        for name, component in components.items()
    }
    if config.train.base_weights != "train_dtype":
        quantize(modules[DENOISER], config.train.base_weights)
    pairs = {name: (tokenizer, modules[name]) for name, tokenizer in tokenizers.items()}
    words = add_words(config.train.embeddings, pairs, _weight_dtype(config))
    trained = _trained_modules(config, modules)
    parts = _trained_parts(config, family, model, trained)
    for name, module in modules.items():
        _set_mode(config, name, module)
    if config.train.compile:
        compile_blocks(modules[DENOISER], family)
    adapts = isinstance(config.train.method, Adapter)
    return Built(
        forward=_forward(family, precision, modules, tokenizers, words),
        parts=[*parts, *(_word_part(config, word) for word in words)],
        adapted=list(trained.values()) if adapts else [],
    )


def _forward(
    family: Family,
    precision: Precision,
    modules: Mapping[str, Any],
    tokenizers: Mapping[str, Any],
    words: Sequence[Word],
) -> Forward:
    """The module that is called, of those that were loaded."""
    live = {
        one.name: LiveEncoder(
            encoder=one,
            tokenizer=tokenizers[one.name],
            spell_out=lambda prompt: spell_out(prompt, words),
            has_gradient=_trains(modules[one.name]),
        )
        for one in family.text_encoders
        if one.name in tokenizers
    }
    encoders = {name: modules[name] for name in live}
    return Forward(family, precision, modules[DENOISER], live, encoders)


def _trained_parts(
    config: Config, family: Family, model: ModelSource, modules: Mapping[str, Any]
) -> list[TrainedPart]:
    """The parts of the modules that train, with the weights that they begin with."""
    initial = initial_weights(config, family, model)
    parts = []
    for name, module in modules.items():
        start = initial.get(name)
        layers = adapted_layers(start) if start else _layers(config, family, name, module)
        part = _part(config, name, module, layers)
        if start:
            part.restore(start)
        parts.append(part)
    return parts


def parameter_groups(parts: Sequence[TrainedPart]) -> list[dict[str, Any]]:
    """One group per part, for an optimizer."""
    return [
        {"name": part.name, "params": list(part.parameters), "lr": part.learning_rate}
        for part in parts
    ]


def freeze_finished(parts: Sequence[TrainedPart], step: int, epoch: int) -> bool:
    """Freezes parts whose end has come before step `step` (from 0); whether there were any."""
    done = {"step": step, "epoch": epoch}
    finished = [
        part
        for part in parts
        if part.stop_after and done[part.stop_after.unit] >= part.stop_after.n and part.is_training
    ]
    for part in finished:
        for parameter in part.parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
    return bool(finished)


def _trained_modules(config: Config, modules: Mapping[str, Any]) -> dict[str, Any]:
    """The modules whose weights or adapters train; with the method `embedding` none does."""
    if config.train.method.kind not in METHODS:
        return {}
    return {name: one for name, one in modules.items() if getattr(config.parts, name).train}


def _dtype(config: Config, name: str, precision: Precision) -> "torch.dtype":
    """That of the forward pass, or of trained weights where the weights themselves train."""
    itself = getattr(config.parts, name).train and config.train.method.kind == "full"
    return _weight_dtype(config) if itself else precision.dtype


def _weight_dtype(config: Config) -> "torch.dtype":
    import torch

    dtype: torch.dtype = getattr(torch, config.train.weight_dtype)
    return dtype


def _layers(config: Config, family: Family, name: str, module: Any) -> list[str]:
    """The layers of a module that train: filters are for the denoiser alone."""
    method = config.train.method
    filters = getattr(method, "layers", ()) if name == DENOISER else ()
    if method.kind == "full":
        names = [name for name, layer in module.named_modules() if layer._parameters]
        return matching(names, filters, family.layers) if filters else names
    names = linear_layers(module)
    if filters:
        return matching(names, filters, family.layers)
    if name == DENOISER:
        return with_suffix(names, family.lora_targets)
    targets = next(one.lora_targets for one in family.text_encoders if one.name == name)
    return with_suffix(names, targets)


def _part(config: Config, name: str, module: Any, layers: Sequence[str]) -> TrainedPart:
    train, part = config.train, getattr(config.parts, name)
    method = METHODS[train.method.kind]
    seed = draw_seed(train.seed, "init", 0, list(Parts.model_fields).index(name))
    parameters = method.prepare(module, train.method, layers, seed)
    for parameter in parameters:
        parameter.data = parameter.data.to(_weight_dtype(config))
    return TrainedPart(
        name=name,
        parameters=parameters,
        learning_rate=part.learning_rate or train.learning_rate,
        stop_after=part.stop_after,
        state=lambda: method.state(module),
        restore=lambda weights: method.restore(module, weights),
    )


def _word_part(config: Config, word: Word) -> TrainedPart:
    import torch

    settings: Embedding = word.settings

    def restore(weights: "Mapping[str, Tensor]") -> None:
        for name, parameter in word.vectors.items():
            if name not in weights or weights[name].shape != parameter.shape:
                raise ValueError(
                    f"the vectors of {settings.placeholder!r} for {name} are missing or of another "
                    f"size; wanted {tuple(parameter.shape)}"
                )
            with torch.no_grad():
                parameter.copy_(weights[name])

    return TrainedPart(
        name=f"{WORD}.{settings.placeholder}",
        parameters=list(word.vectors.values()),
        learning_rate=settings.learning_rate or config.train.learning_rate,
        stop_after=settings.stop_after,
        state=lambda: {name: vectors.detach() for name, vectors in word.vectors.items()},
        restore=restore,
    )


def _set_mode(config: Config, name: str, module: Any) -> None:
    """Training mode, frozen or not: gradients go through all of them."""
    module.train()
    if not config.train.gradient_checkpointing:
        return
    if name == DENOISER:
        module.enable_gradient_checkpointing()
    else:
        module.gradient_checkpointing_enable()


def _trains(module: Any) -> Callable[[], bool]:
    parameters = list(module.parameters())
    return lambda: any(parameter.requires_grad for parameter in parameters)
