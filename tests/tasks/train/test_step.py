import dataclasses

import pytest
import torch

from tasks.families import get_family
from tasks.families.loading import resolve_model
from tasks.train.batch import Batch, StepBatches
from tasks.train.noise import normal
from tasks.train.precision import choose_precision
from tasks.train.setup import build_training
from tasks.train.step import NonFiniteError, optimizer_step, predict_losses
from tests.tasks.train.synthetic import make_config

WIDTHS = {"sd15": {"text_encoder_1": 32}, "sdxl": {"text_encoder_1": 32, "text_encoder_2": 48}}


def make_training(family_name, model, **train):
    config = make_config(model, "unused", **train)
    family = get_family(family_name)
    training = build_training(
        config, family, resolve_model(str(model), family), torch.device("cpu")
    )
    training.total_steps = 10
    return training


def make_batch(family_name, rows=(0, 1)) -> Batch:
    generator = torch.Generator().manual_seed(0)
    count = len(rows)

    def fields(width):
        hidden = torch.randn(count, 77, width, generator=generator)
        return {"hidden": hidden, "pooled": torch.randn(count, width, generator=generator)}

    noise = normal((4, 8, 8), 0, 0, range(count))
    return Batch(
        rows=rows,
        epoch=0,
        position=0,
        latents=torch.randn(count, 4, 8, 8, generator=generator),
        noise=noise,
        input_noise=noise,
        timesteps=torch.tensor([10, 700])[:count],
        prompts=("a red boat", "")[:count],
        texts={name: fields(width) for name, width in WIDTHS[family_name].items()},
        sizes=torch.tensor([[64.0, 64, 0, 0, 64, 64]] * count),
        weights=torch.ones(count),
        is_prior=(False,) * count,
    )


def as_step(*batches) -> StepBatches:
    return StepBatches(epoch=0, step_in_epoch=0, ends_epoch=False, batches=batches)


def test_sdxl_is_trained_on_its_sizes(tiny_models):
    training = make_training("sdxl", tiny_models["sdxl"])
    batch = make_batch("sdxl")
    moved = dataclasses.replace(batch, sizes=batch.sizes + 512)
    with torch.no_grad():
        plain, other = predict_losses(training, batch), predict_losses(training, moved)
    assert plain.shape == (2,)
    assert not torch.equal(plain, other)
    result = optimizer_step(training, as_step(batch), lambda: True)
    assert result.stop
    assert result.grad_norm > 0


def test_a_lora_keeps_frozen_weights_in_the_train_dtype_and_trained_ones_in_float32(tiny_models):
    training = make_training("sd15", tiny_models["sd15"], train_dtype="bfloat16")
    dtypes = {p.requires_grad: p.dtype for p in training.denoiser.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    before = [parameter.clone() for parameter in training.parameters]
    optimizer_step(training, as_step(make_batch("sd15")), lambda: False)
    changed = [not torch.equal(a, b) for a, b in zip(before, training.parameters, strict=True)]
    assert any(changed)


def test_full_weights_stay_float32(tiny_models):
    training = make_training(
        "sd15", tiny_models["sd15"], train_dtype="bfloat16", method={"kind": "full"}
    )
    assert {p.dtype for p in training.denoiser.parameters()} == {torch.float32}
    assert all(parameter.requires_grad for parameter in training.denoiser.parameters())


def test_accumulation_and_pieces_are_one_big_batch(tiny_models):
    norms = []
    whole = make_batch("sd15")
    for batches, split in (([whole], 1), (whole.split(2), 1), ([whole], 2)):
        training = make_training("sd15", tiny_models["sd15"], method={"kind": "full"})
        training.split = split
        result = optimizer_step(training, as_step(*batches), lambda: False)
        norms.append((result.loss, result.grad_norm))
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert norms[0] == pytest.approx(norms[2], rel=1e-4)


def test_equal_seeds_start_with_equal_adapters(tiny_models):
    def first(seed):
        (part,) = make_training("sd15", tiny_models["sd15"], seed=seed).parts
        return part.state()

    left, right, other = first(1), first(1), first(2)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert any(not torch.equal(left[name], other[name]) for name in left)


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(tiny_models):
    training = make_training("sd15", tiny_models["sd15"])
    before = [parameter.clone() for parameter in training.parameters]
    training.parameters[0].register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError) as caught:
        optimizer_step(training, as_step(make_batch("sd15", rows=(7, 9))), lambda: False)
    assert (caught.value.what, caught.value.rows) == ("gradient", (7, 9))
    assert all(torch.equal(a, b) for a, b in zip(before, training.parameters, strict=True))


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(ValueError, match=r'"float16" does not train on a CPU.*"bfloat16"'):
        choose_precision("float16", torch.device("cpu"))
