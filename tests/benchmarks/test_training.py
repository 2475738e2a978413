import dataclasses
from contextlib import closing

import pytest
import torch

from benchmarks.bare_training import bare_step, ready
from benchmarks.gpu import TINY_LIMITS, measure_training
from benchmarks.gpu_cases import FLUX, SDXL, TINY_CASES
from benchmarks.gpu_latents import TINY_VAE, measure_latents
from benchmarks.training_data import make_source
from benchmarks.training_loop import CASES as SD15_CASES
from benchmarks.training_models import (
    FULL,
    LORA,
    Case,
    build_training,
    draws,
    num_parameters,
    step_flops,
    with_depth,
)
from storage.store import open_store
from tasks.train.batches import step_batches
from tasks.train.schedules import set_group_rates
from tasks.train.step import optimizer_step

CPU = torch.device("cpu")
TINY = {case.name: case for case in TINY_CASES if not case.compile and case.base != "int8"}


@pytest.mark.parametrize("case", [*TINY.values(), *SD15_CASES.values()], ids=lambda one: one.name)
def test_the_bare_loop_trains_the_same(case, tmp_path):
    case = dataclasses.replace(case, dtype="float32", checkpointing=False)
    store = open_store(str(tmp_path / "store"))
    shapes, family = case.architecture.shapes, case.architecture.family
    source = make_source(store, family, shapes, draws(case), batch_size=2, device=CPU)
    with closing(step_batches(source, 0, 0)) as steps:
        data = next(steps)
    trainings = [build_training(case, CPU) for _ in range(2)]
    start = [one.detach().clone() for one in trainings[0].parameters]
    ours = optimizer_step(trainings[0], data, lambda: False)
    set_group_rates(trainings[1].optimizer, ours.learning_rates)
    bare_step(trainings[1])(ready(trainings[1], data.batches[0]))
    moved = [
        float((now.detach() - then).norm())
        for now, then in zip(trainings[0].parameters, start, strict=True)
    ]
    apart = [
        float((one.detach() - other.detach()).norm())
        for one, other in zip(*(one.parameters for one in trainings), strict=True)
    ]
    assert sum(moved) > 0
    assert sum(apart) < 0.01 * sum(moved)


@pytest.mark.parametrize("name", ["tiny SDXL, LoRA", "tiny FLUX, full"])
def test_a_tiny_training_is_measured(name, capsys):
    bounds = measure_training(TINY[name], CPU, TINY_LIMITS)
    assert len(bounds) == 2
    assert "model FLOPs utilisation" in capsys.readouterr().out


def test_latents_are_measured(capsys):
    assert measure_latents(CPU, 64, 2, TINY_VAE) > 0
    assert capsys.readouterr().out.count("images/s") == 3


def test_models_have_the_real_sizes():
    sizes = [
        num_parameters(Case(name="", architecture=one, method=FULL, batch_size=1))
        for one in (SDXL, FLUX)
    ]
    assert sizes == [(2_567_463_684,) * 2, (11_901_408_320,) * 2]


def test_fewer_blocks_are_a_smaller_model():
    case = Case(name="", architecture=FLUX, method=LORA, batch_size=1)
    weights, trained = num_parameters(case)
    fewer, fewer_trained = num_parameters(with_depth(case, 0.5))
    assert 0.45 * weights < fewer < 0.55 * weights
    assert trained < weights // 100
    assert fewer_trained < trained


def test_operations_of_a_step_are_counted():
    """The forward pass of FLUX multiplies each of its tokens with nearly all weights, and attends.

    A full fine-tune takes three times the forward pass, a LoRA a little over two.
    """
    shapes = FLUX.shapes
    tokens = 64 * 64 + shapes.texts["text_encoder_2"]["hidden"][0]
    case = with_depth(Case(name="", architecture=FLUX, method=FULL, batch_size=1), 0.1)
    config = case.architecture.config
    width = config["num_attention_heads"] * config["attention_head_dim"]
    depth = config["num_layers"] + config["num_single_layers"]
    # Of a double block both streams have weights, so a token meets half of them; modulation is
    # applied once per image.
    single = width * (3 * width + 4 * width) + 5 * width * width
    double = 4 * width * width + 8 * width * width
    weights = config["num_layers"] * double + config["num_single_layers"] * single
    forward = 2 * tokens * weights + depth * 4 * tokens**2 * width
    full = step_flops(case)
    lora = step_flops(dataclasses.replace(case, method=LORA))
    assert full == pytest.approx(3 * forward, rel=0.03)
    assert 2 * forward < lora < 2.2 * forward
