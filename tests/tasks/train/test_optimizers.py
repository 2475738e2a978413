import json
import math

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers.optimization import Adafactor

from tasks.config.optimizers import Optimizer, Schedule
from tasks.train.noise import draw_seed
from tasks.train.optimizer_state import load_state, save_state
from tasks.train.optimizers import (
    OPTIMIZERS,
    build_optimizer,
    learning_rate_scale,
    loss_scale,
    weights_for_use,
)
from tasks.train.rounding import round_stochastically, step_one_by_one, update_weights
from tasks.train.schedules import rate_factor, set_group_rates

SETTINGS = TypeAdapter(Optimizer)
EIGHT_BIT = sorted(kind for kind in OPTIMIZERS if kind.endswith("_8bit"))
KINDS = [kind for kind in OPTIMIZERS if kind not in EIGHT_BIT]
FINDS_RATE = ("prodigy", "prodigy_plus", "dadapt")
SCALER = torch.amp.GradScaler("cpu", enabled=False)
CLASSES = {
    one.model_fields["kind"].default: one
    for one in SETTINGS._type.__origin__.__args__  # noqa: SLF001
}


def settings(kind, **values):
    return SETTINGS.validate_python({"kind": kind} | values)


def rate(kind):
    return 1.0 if kind.startswith(FINDS_RATE) else 1e-2


class Toy:
    """Two parts with matrices, a convolution, vectors and single numbers, and a loss of them."""

    def __init__(self, chosen, dtype=torch.float32, learning_rate=None):
        generator = torch.Generator().manual_seed(3)
        shapes = {"denoiser": [(6, 5), (5,), (4, 3, 2, 2)], "text_encoder_1": [(7, 3), (3,)]}
        self.parts = {
            name: [
                torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
                for shape in of_part
            ]
            for name, of_part in shapes.items()
        }
        self.targets = [torch.randn(p.shape, generator=generator) for p in self.parameters]
        lr = rate(chosen.kind) if learning_rate is None else learning_rate
        groups = [{"name": n, "params": list(ps), "lr": lr} for n, ps in self.parts.items()]
        self.optimizer = build_optimizer(groups, chosen)

    @property
    def parameters(self):
        return [parameter for part in self.parts.values() for parameter in part]

    def backward(self, step):
        loss = 0
        for number, (parameter, target) in enumerate(
            zip(self.parameters, self.targets, strict=True)
        ):
            if parameter.requires_grad:
                error = parameter.float() - target * math.cos(0.3 * step + number)
                loss = loss + (error**2 * (1 + torch.arange(error.shape[-1]))).sum()
        loss.backward()

    def train(self, steps):
        for step in steps:
            self.backward(step)
            update_weights(self.optimizer, SCALER, draw_seed(1, "rounding", 0, step))
            self.optimizer.zero_grad(set_to_none=True)
        return self

    @property
    def weights(self):
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters])


def save(toy, folder):
    values, tensors = save_state(toy.optimizer)
    (folder / "optimizer.json").write_text(json.dumps(values))
    save_file(tensors, folder / "optimizer.safetensors")
    save_file({str(n): p.detach() for n, p in enumerate(toy.parameters)}, folder / "w.safetensors")


def load(toy, folder):
    weights = load_file(folder / "w.safetensors")
    with torch.no_grad():
        for number, parameter in enumerate(toy.parameters):
            parameter.copy_(weights[str(number)])
    values = json.loads((folder / "optimizer.json").read_text())
    load_state(toy.optimizer, values, load_file(folder / "optimizer.safetensors"))


def test_every_kind_has_settings_and_a_builder():
    assert set(CLASSES) == set(OPTIMIZERS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_is_bit_equal(kind, dtype, tmp_path):
    start = Toy(settings(kind), dtype).weights
    whole = Toy(settings(kind), dtype).train(range(6))
    half = Toy(settings(kind), dtype).train(range(3))
    save(half, tmp_path)
    resumed = Toy(settings(kind), dtype)
    load(resumed, tmp_path)
    for parameter, state in half.optimizer.state.items():
        number = next(n for n, p in enumerate(half.parameters) if p is parameter)
        for name, value in state.items():
            found = resumed.optimizer.state[resumed.parameters[number]][name]
            assert type(found) is type(value)
            if isinstance(value, torch.Tensor):
                assert (found.dtype, found.shape) == (value.dtype, value.shape)
                assert torch.equal(found, value)
    resumed.train(range(3, 6))
    assert torch.equal(resumed.weights, whole.weights)
    assert not torch.equal(whole.weights, start)
    assert whole.weights.dtype == dtype


@pytest.mark.parametrize("kind", KINDS)
def test_averages_of_bfloat16_weights_are_float32(kind):
    toy = Toy(settings(kind), torch.bfloat16).train(range(2))
    tensors = save_state(toy.optimizer)[1].values()
    assert torch.bfloat16 not in {tensor.dtype for tensor in tensors}


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_part_keeps_its_weights_and_the_other_goes_on(kind):
    toy = Toy(settings(kind)).train(range(2))
    before = [p.detach().clone() for p in toy.parameters]
    for parameter in toy.parts["denoiser"]:
        parameter.requires_grad_(False)
    for step in range(2, 5):
        set_group_rates(toy.optimizer, {"text_encoder_1": rate(kind)})
        toy.train([step])
    frozen = len(toy.parts["denoiser"])
    for parameter, old in list(zip(toy.parameters, before, strict=True))[:frozen]:
        assert torch.equal(parameter, old)
    for parameter, old in list(zip(toy.parameters, before, strict=True))[frozen:]:
        assert not torch.equal(parameter, old)


EXTREME = {
    "betas": (0.5, 0.6, 0.7),
    "adamw_betas": (0.5, 0.6),
    "beta3": 0.5,
    "beta1": 0.5,
    "growth_rate": 1.000001,
    "t_alpha_beta3": 50,
    "decay_rate": -0.1,
    "d0": 1e-3,
    "xi": 1.0,
    "k": 0,
    "prodigy_steps": 2,
    "initial_accumulator": 1.0,
    "initial_accumulator_value": 1.0,
    "weight_lr_power": 0.5,
}
BASE = {
    ("sgd", "dampening"): {"momentum": 0.9},
    ("sgd", "nesterov"): {"momentum": 0.9},
    ("adafactor", "eps"): {"scale_parameter": True},
    ("prodigy_plus", "split_groups_mean"): {"split_groups": True},
    ("adamuon", "eps"): {},
}
FALLING = ("weight_lr_power", "safeguard_warmup")
"""They only matter where the rate changes."""


def effects():
    for kind in KINDS:
        for name, field in CLASSES[kind].model_fields.items():
            if name == "kind":
                continue
            default = field.default
            if isinstance(default, tuple):
                for place in range(len(default)):
                    values = list(default)
                    values[place] = EXTREME[name][place] if "betas" in name else 0.5
                    yield kind, name, tuple(values)
            elif isinstance(default, bool):
                yield kind, name, not default
            elif name in EXTREME:
                yield kind, name, EXTREME[name]
            elif isinstance(default, int):
                yield kind, name, default + 1
            elif "eps" in name:
                yield kind, name, 0.5
            else:
                yield kind, name, default * 0.5 or 0.5


@pytest.mark.parametrize(("kind", "name", "value"), list(effects()))
def test_every_setting_has_an_effect(kind, name, value):
    base = BASE.get((kind, name), {})
    found = []
    for chosen in (settings(kind, **base), settings(kind, **base, **{name: value})):
        toy = Toy(chosen)
        for step in range(12):
            factor = (step + 1) / 12 if name in FALLING else 1.0
            set_group_rates(toy.optimizer, dict.fromkeys(toy.parts, rate(kind) * factor))
            toy.train([step])
        found.append(toy.weights)
    assert found[1].isfinite().all()
    assert not torch.equal(*found)
