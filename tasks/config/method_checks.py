"""Checks of what is trained and how: parts, methods, embeddings, masks and prior preservation."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.config.methods import Adapter, LoraMethod, StopAfter
from tasks.config.models import Config
from tasks.config.problems import Problem
from tasks.config.schema import Place

if TYPE_CHECKING:
    from tasks.families.base import Family

Report = Callable[..., Problem]
ADAPTERS = ("lora", "loha", "lokr")
ONLY_ADAPTERS = f"only adapters ({', '.join(ADAPTERS)}) can be switched off to ask the model itself"


def method_problems(config: Config, family: "Family", problem: Report) -> Iterator[Problem]:
    """What does not fit together between `[parts]`, `[train.method]` and the concepts."""
    yield from _trained(config, family, problem)
    yield from _embeddings(config, problem)
    yield from _ends(config, problem)
    yield from _priors(config, problem)
    method = config.train.method
    if config.train.base_weights != "train_dtype" and (
        not isinstance(method, LoraMethod) or method.dora
    ):
        message = 'works with train.method.kind = "lora" without dora alone; use "train_dtype"'
        yield problem(("train", "base_weights"), message, "train.method.kind")
    if isinstance(method, Adapter) and method.initial and not Path(method.initial).exists():
        yield problem(("train", "method", "initial"), "there is no such file")


def _trained(config: Config, family: "Family", problem: Report) -> Iterator[Problem]:
    parts, kind = config.parts, config.train.method.kind
    encoders = [one for one in family.text_encoders if getattr(parts, one.name).train]
    if kind == "embedding":
        if not config.train.embeddings:
            message = 'is "embedding", but train.embeddings is empty: nothing would be trained'
            yield problem(("train", "method", "kind"), message, "train.embeddings")
        for encoder in encoders:
            message = 'must be false: train.method.kind = "embedding" trains no weights of it'
            yield problem(("parts", encoder.name, "train"), message, "train.method.kind")
        return
    if not (parts.denoiser.train or encoders or config.train.embeddings):
        yield problem(("parts", "denoiser", "train"), "must be true: nothing would be trained")
    for encoder in encoders:
        if kind in ADAPTERS and not encoder.lora_targets:
            message = f"must be false: {family.name} has no adapter for this text encoder"
            yield problem(("parts", encoder.name, "train"), message, "train.method.kind")


def _embeddings(config: Config, problem: Report) -> Iterator[Problem]:
    names = [one.placeholder for one in config.train.embeddings]
    for number, name in enumerate(names):
        place = ("train", "embeddings", number, "placeholder")
        others = [other for other in names[:number] if name in other or other in name]
        if name.split() != [name]:
            yield problem(place, "must be one word without spaces")
        elif others:
            message = f"is, or is part of, the placeholder {others[0]!r}: prompts cannot tell them"
            yield problem(place, message)


def _ends(config: Config, problem: Report) -> Iterator[Problem]:
    """Something must train to the end."""
    trained: dict[Place, StopAfter | None] = {}
    if config.train.method.kind != "embedding":
        for name in type(config.parts).model_fields:
            part = getattr(config.parts, name)
            if part.train:
                trained[("parts", name, "stop_after")] = part.stop_after
    for number, word in enumerate(config.train.embeddings):
        trained[("train", "embeddings", number, "stop_after")] = word.stop_after
    if trained and all(trained.values()):
        message = "ends the last part that trains before the run ends; leave it out for one part"
        yield problem(next(iter(trained)), message)


def _priors(config: Config, problem: Report) -> Iterator[Problem]:
    adapts = config.train.method.kind in ADAPTERS
    for number, concept in enumerate(config.concepts):
        if concept.type == "prior_prediction" and not adapts:
            yield problem(("concepts", number, "type"), ONLY_ADAPTERS, "train.method.kind")
    mask = config.train.mask
    if mask.enabled and mask.prior_weight and not adapts:
        yield problem(("train", "mask", "prior_weight"), ONLY_ADAPTERS, "train.method.kind")
    if mask.enabled and not config.data.latent_caching:
        message = "must be false: masks are cached with latents, and data.latent_caching is false"
        yield problem(("train", "mask", "enabled"), message, "data.latent_caching")
