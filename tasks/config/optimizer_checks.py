"""Checks of the optimizer against the rest of the training."""

from collections.abc import Iterator

from tasks.config.family_checks import Report
from tasks.config.models import Config
from tasks.config.optimizers.adapted import ONE_RATE, PRODIGY_PLUS, SCHEDULE_FREE
from tasks.config.problems import Problem, as_toml
from tasks.config.schema import Place

LEAST_RATE = 0.01
"""Of optimizers that find their rate: `learning_rate` multiplies it, and is 1 by intention."""
KIND = "train.optimizer.kind"


def optimizer_problems(config: Config, problem: Report) -> Iterator[Problem]:
    """What does not go together with the chosen optimizer, or with weights in bfloat16."""
    train, kind = config.train, config.train.optimizer.kind
    if kind in SCHEDULE_FREE:
        yield from _schedule_free(config, problem)
    if kind in (*ONE_RATE, PRODIGY_PLUS) and train.learning_rate < LEAST_RATE:
        message = f"must be 1 or near it: {kind} finds the rate itself, and this multiplies it"
        yield problem(("train", "learning_rate"), message, KIND)
    if kind in ONE_RATE:
        yield from _one_rate(config, problem)
    if kind.endswith("_8bit") and train.device == "cpu":
        other = as_toml(kind.removesuffix("_8bit"))
        message = f"needs an NVIDIA GPU; use {other}"
        yield problem(("train", "optimizer", "kind"), message, "train.device")
    if train.weight_dtype == "bfloat16" and train.train_dtype == "float16":
        message = 'must be "float32": float16 scales its gradients, which bfloat16 has no use for'
        yield problem(("train", "weight_dtype"), message, "train.train_dtype")


def _schedule_free(config: Config, problem: Report) -> Iterator[Problem]:
    """They average the weights: neither the rate may fall, nor the averages be averaged again."""
    train = config.train
    if train.schedule.kind != "constant":
        message = (
            f'must be "constant": {train.optimizer.kind} averages weights instead of lowering the '
            "learning rate (a warm-up is fine)"
        )
        yield problem(("train", "schedule", "kind"), message, KIND)
    if train.ema.kind != "off":
        message = f'must be "off": {train.optimizer.kind} averages the weights itself'
        yield problem(("train", "ema", "kind"), message, KIND)


def _one_rate(config: Config, problem: Report) -> Iterator[Problem]:
    train = config.train
    rates: list[tuple[Place, float | None]] = [
        (("parts", name, "learning_rate"), part.learning_rate)
        for name, part in config.parts
        if part.train
    ]
    rates += [
        (("train", "embeddings", number, "learning_rate"), word.learning_rate)
        for number, word in enumerate(train.embeddings)
    ]
    for place, rate in rates:
        if rate not in (None, train.learning_rate):
            message = f"must be left out: {train.optimizer.kind} finds one rate for all parts"
            yield problem(place, message, KIND)
