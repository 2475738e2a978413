import json
import math
from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers.optimization import Adafactor

from tasks.config.optimizers import Optimizer, Schedule
from tasks.train.noise import draw_seed
from tasks.train.optimizer_state import load_state, save_state
from tasks.train.optimizers import (
    EIGHT_BIT,
    OPTIMIZERS,
    build_optimizer,
    learning_rate_scale,
    library,
    loss_scale,
    weights_for_use,
)
from tasks.train.rounding import round_stochastically, step_one_by_one, update_weights
from tasks.train.schedules import rate_factor, set_group_rates

SETTINGS = TypeAdapter(Optimizer)
KINDS = [kind for kind in OPTIMIZERS if kind not in EIGHT_BIT]
FINDS_RATE = ("prodigy", "prodigy_plus", "dadapt")
SCALER = torch.amp.GradScaler("cpu", enabled=False)
CLASSES = {one.model_fields["kind"].default: one for one in get_args(get_args(Optimizer)[0])}


def settings(kind, **values):
    if kind.startswith(FINDS_RATE):
        # From the usual 1e-6 a search takes more steps than a test should.
        values = {"d0": 1e-2} | values
    return SETTINGS.validate_python({"kind": kind} | values)


def rate(kind):
    return 1.0 if kind.startswith(FINDS_RATE) else 1e-2


class Toy:
    """Two parts with matrices, a convolution, vectors and single numbers, and a loss of them."""

    def __init__(self, chosen, dtype=torch.float32, learning_rate=None, build=build_optimizer):
        generator = torch.Generator().manual_seed(3)
        shapes = {"denoiser": [(36, 5), (5,), (4, 3, 2, 2)], "text_encoder_1": [(7, 3), (3,)]}
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
        self.optimizer = build(groups, chosen)

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


# prodigy_plus stores where it started and how far it came in bfloat16, whatever the weights are.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "prodigy_plus"])
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
    ("adopt", "weight_decouple"): {"weight_decay": 0.1},
    ("prodigy", "weight_decouple"): {"weight_decay": 0.1},
    ("dadapt_adam", "weight_decouple"): {"weight_decay": 0.1},
    ("prodigy_plus", "beta3"): {"d_limiter": False},
    ("prodigy_plus", "split_groups"): {"d_limiter": False},
    ("prodigy_plus", "split_groups_mean"): {"d_limiter": False},
}
FALLING = ("weight_lr_power", "safeguard_warmup")
"""They only matter where the rate changes."""


def effects(kinds):
    for kind in kinds:
        for name, field in CLASSES[kind].model_fields.items():
            if name == "kind":
                continue
            default = field.default
            if isinstance(default, tuple):
                for place in range(len(default)):
                    values = list(default)
                    values[place] = EXTREME[name][place] if "betas" in name else 5.0
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


@pytest.mark.parametrize(("kind", "name", "value"), list(effects(KINDS)))
def test_every_setting_has_an_effect(kind, name, value):
    assert_effect(kind, name, value, BASE.get((kind, name), {}))


def assert_effect(kind, name, value, base, build=build_optimizer):
    found = []
    for chosen in (settings(kind, **base), settings(kind, **(base | {name: value}))):
        toy = Toy(chosen, build=build)
        for step in range(12):
            factor = (step + 1) / 12 if name in FALLING else 1.0
            set_group_rates(toy.optimizer, dict.fromkeys(toy.parts, rate(kind) * factor))
            toy.train([step])
        found.append(toy.weights)
    assert found[1].isfinite().all()
    assert not torch.equal(*found)


def test_settings_that_need_another_are_refused():
    with pytest.raises(ValueError, match="nesterov needs a momentum"):
        settings("sgd", nesterov=True)
    with pytest.raises(ValueError, match="dampening needs a momentum"):
        settings("sgd", dampening=0.5)


@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_8_bit_optimizers_say_what_they_need(kind):
    other = kind.removesuffix("_8bit")
    assert other in OPTIMIZERS
    with pytest.raises(ValueError, match=f'"{kind}" needs an NVIDIA GPU.*Use "{other}"'):
        Toy(settings(kind))


def build_8_bit(groups, chosen):
    """Without asking for a GPU: bitsandbytes itself has the same arithmetic on a CPU."""
    pytest.importorskip("bitsandbytes")
    return library(EIGHT_BIT[chosen.kind], lr=1e-2)(groups, chosen)


SMALL = {"min_8bit_size": 16}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_an_8_bit_optimizer_resumes_bit_equal(kind, dtype, tmp_path):
    whole, half, resumed = (
        Toy(settings(kind, **SMALL), dtype, build=build_8_bit) for _ in range(3)
    )
    start = whole.weights
    whole.train(range(6))
    save(half.train(range(3)), tmp_path)
    load(resumed, tmp_path)
    assert torch.equal(resumed.train(range(3, 6)).weights, whole.weights)
    assert not torch.equal(whole.weights, start)
    dtypes = {tensor.dtype for tensor in save_state(resumed.optimizer)[1].values()}
    assert torch.uint8 in dtypes
    assert torch.bfloat16 not in dtypes


@pytest.mark.parametrize(("kind", "name", "value"), list(effects(EIGHT_BIT)))
def test_every_setting_of_an_8_bit_optimizer_has_an_effect(kind, name, value):
    if name == "min_8bit_size":
        value = 10_000
    assert_effect(kind, name, value, SMALL, build_8_bit)


def twin(parameters, make):
    copies = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    return copies, make(copies)


STOCK = {
    "adamw": lambda ps: torch.optim.AdamW(ps, lr=1e-2),
    "adam": lambda ps: torch.optim.Adam(ps, lr=1e-2),
    "sgd": lambda ps: torch.optim.SGD(ps, lr=1e-2),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, lr=1e-2),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, lr=1e-2),
}


@pytest.mark.parametrize("kind", STOCK)
def test_a_kind_is_the_stock_optimizer(kind):
    toy = Toy(settings(kind))
    copies, stock = twin(toy.parameters, STOCK[kind])
    for step in range(5):
        toy.backward(step)
        for copy, parameter in zip(copies, toy.parameters, strict=True):
            copy.grad = parameter.grad.clone()
        stock.step()
        update_weights(toy.optimizer, SCALER, step)
        toy.optimizer.zero_grad()
    assert torch.equal(toy.weights, torch.cat([copy.detach().flatten() for copy in copies]))


@pytest.mark.parametrize("warmup_init", [False, True])
def test_the_schedule_adafactor_is_its_relative_step(warmup_init):
    schedule = Schedule(kind="adafactor", warmup_steps=10_000 if warmup_init else 0)
    toy = Toy(settings("adafactor", scale_parameter=True))
    copies, stock = twin(
        toy.parameters,
        lambda ps: Adafactor(ps, relative_step=True, warmup_init=warmup_init),
    )
    start = toy.weights
    for step in range(5):
        toy.backward(step)
        for copy, parameter in zip(copies, toy.parameters, strict=True):
            copy.grad = parameter.grad.clone()
        stock.step()
        factor = rate_factor(schedule, step, 100_000)
        set_group_rates(toy.optimizer, dict.fromkeys(toy.parts, 1e-2 * factor))
        toy.optimizer.step()
        toy.optimizer.zero_grad()
    found = torch.cat([copy.detach().flatten() for copy in copies])
    assert not torch.equal(start, found)
    torch.testing.assert_close(toy.weights - start, found - start, rtol=1e-3, atol=1e-6)


def test_muon_trains_what_is_no_matrix_by_adamw_at_a_share_of_the_rate():
    toy = Toy(settings("muon"), learning_rate=2e-2)
    vectors = [p for p in toy.parameters if p.ndim < 2]
    copies, stock = twin(
        vectors,
        lambda ps: torch.optim.AdamW(
            ps, lr=0.015 * 2e-2, betas=(0.9, 0.95), eps=1e-10, weight_decay=0
        ),
    )
    toy.backward(0)
    for copy, parameter in zip(copies, vectors, strict=True):
        copy.grad = parameter.grad.clone()
    stock.step()
    set_group_rates(toy.optimizer, dict.fromkeys(toy.parts, 2e-2))
    before = toy.parts["denoiser"][0].detach().clone()
    toy.optimizer.step()
    for copy, parameter in zip(copies, vectors, strict=True):
        torch.testing.assert_close(parameter, copy)
    # A step of Muon has singular values near 1, times the rate and the shape's factor.
    step = before - toy.parts["denoiser"][0].detach()
    values = torch.linalg.svdvals(step) / (2e-2 * math.sqrt(36 / 5))
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("kind", ["muon", "adamuon"])
def test_muon_leaves_words_to_adamw(kind):
    groups = [
        {"name": name, "params": [torch.nn.Parameter(torch.ones(2, 4))], "lr": 0.1}
        for name in ("denoiser", "embedding.<x>")
    ]
    optimizer = build_optimizer(groups, settings(kind))
    found = {group["name"]: group["use_muon"] for group in optimizer.param_groups}
    assert found == {"denoiser": True, "embedding.<x>": False}


SCHEDULE_FREE = ["schedule_free_adamw", "schedule_free_sgd", "prodigy_plus"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", SCHEDULE_FREE)
def test_averaged_weights_are_used_and_training_goes_on_as_if_nothing_was(kind, dtype):
    whole = Toy(settings(kind), dtype).train(range(6))
    toy = Toy(settings(kind), dtype).train(range(3))
    trained = toy.weights.clone()
    with weights_for_use(toy.optimizer):
        assert not torch.equal(toy.weights, trained)
        assert toy.weights.dtype == dtype
    assert torch.equal(toy.weights, trained)
    assert torch.equal(toy.train(range(3, 6)).weights, whole.weights)


def test_averaged_weights_are_the_mean_of_the_fast_ones():
    chosen = settings("schedule_free_sgd", weight_decay=0.0, weight_lr_power=0.0)
    toy, seen = Toy(chosen, learning_rate=1e-3), []
    for step in range(5):
        toy.train([step])
        seen.append(torch.cat([toy.optimizer.state[p]["z"].flatten() for p in toy.parameters]))
    with weights_for_use(toy.optimizer):
        # Defazio et al. 2024, with c = 1 / t.
        torch.testing.assert_close(toy.weights, torch.stack(seen).mean(0))


def test_without_averaging_nothing_is_switched():
    toy = Toy(settings("adamw")).train(range(2))
    before = toy.weights
    with weights_for_use(toy.optimizer):
        assert torch.equal(toy.weights, before)


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.startswith(FINDS_RATE)])
def test_one_parameter_after_the_other_is_one_step_for_all(kind):
    whole, apart = Toy(settings(kind)), Toy(settings(kind))
    for step in range(4):
        for toy in (whole, apart):
            toy.backward(step)
        whole.optimizer.step()
        step_one_by_one(apart.optimizer, {})
        for toy in (whole, apart):
            toy.optimizer.zero_grad()
    assert torch.equal(whole.weights, apart.weights)
    assert save_state(whole.optimizer)[0] == save_state(apart.optimizer)[0]


def test_rounding_keeps_the_mean_and_gives_neighbours():
    values = torch.tensor([1.0, 1.001, -1.001, 3.0e-5, -7.77, 1e-40, 250.3])
    many = values.repeat(40_000, 1)
    rounded = round_stochastically(many, torch.Generator().manual_seed(0))
    assert rounded.dtype == torch.bfloat16
    spacing = (values.abs() * 2**-7).clamp(min=2**-133)
    assert ((rounded.float() - many).abs() <= spacing).all()
    error = rounded.double().mean(0) - values.double()
    # The mean of 40,000 draws strays by at most spacing / 2 / 200; five of these.
    assert (error.abs() <= spacing.double() * 5 / 400).all()
    assert (rounded[:, 0] == 1).all()
    assert len(rounded[:, 1].unique()) == 2


def test_rounding_leaves_what_is_no_number():
    values = torch.tensor([math.inf, -math.inf, math.nan])
    odd = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)
    rounded = round_stochastically(torch.cat([values, odd]), torch.Generator().manual_seed(0))
    assert rounded[:2].tolist() == [math.inf, -math.inf]
    assert rounded[2:].isnan().all()


def test_small_updates_are_not_lost_in_bfloat16():
    learning_rate, steps = 1e-5, 300
    wide = Toy(settings("sgd"), torch.float32, learning_rate)
    narrow = Toy(settings("sgd"), torch.bfloat16, learning_rate)
    nearest = Toy(settings("sgd"), torch.bfloat16, learning_rate)
    with torch.no_grad():
        for one, other in zip(wide.parameters, narrow.parameters, strict=True):
            one.copy_(other)
    start = wide.weights
    wide.train(range(steps))
    narrow.train(range(steps))
    for step in range(steps):
        nearest.backward(step)
        nearest.optimizer.step()
        nearest.optimizer.zero_grad()

    def share(toy):
        way = wide.weights - start
        return (torch.dot(toy.weights.float() - start, way) / torch.dot(way, way)).item()

    assert abs(share(narrow) - 1) < 0.1
    assert share(nearest) < 0.7


def test_random_bits_depend_on_the_seed_of_the_step_alone():
    one, two, other = (Toy(settings("adamw"), torch.bfloat16) for _ in range(3))
    for toy, seed in ((one, 5), (two, 5), (other, 6)):
        toy.backward(0)
        torch.rand(3)
        update_weights(toy.optimizer, SCALER, seed)
    assert torch.equal(one.weights, two.weights)
    assert not torch.equal(one.weights, other.weights)


def test_state_of_other_parameters_is_refused(tmp_path):
    values, tensors = save_state(Toy(settings("adamw")).train(range(1)).optimizer)
    groups = [{"name": "denoiser", "params": [torch.nn.Parameter(torch.zeros(3))], "lr": 1.0}]
    with pytest.raises(ValueError, match=r"\[3, 2\] parameters per group.*\[1\]"):
        load_state(build_optimizer(groups, settings("adamw")), values, tensors)


def test_what_is_neither_value_nor_tensor_is_refused():
    optimizer = Toy(settings("adamw")).optimizer
    optimizer.param_groups[0]["odd"] = object()
    with pytest.raises(TypeError, match=r"param_groups\|0\|odd.*object"):
        save_state(optimizer)


def test_nested_state_comes_back_as_it_was(tmp_path):
    toy = Toy(settings("sgd"))
    first = toy.parameters[0]
    group = {"t": torch.tensor(2.5, dtype=torch.bfloat16), "none": None, "pair": (1, [True, {}])}
    state = {"list": [torch.arange(3), 1.5], "map": {3: "x", "y": (torch.int8, math.inf)}}
    toy.optimizer.param_groups[1].update(group)
    toy.optimizer.state[first] = state
    save(toy, tmp_path)
    again = Toy(settings("sgd"))
    load(again, tmp_path)
    found = again.optimizer.param_groups[1]
    assert (found["t"].dtype, found["t"].item()) == (torch.bfloat16, 2.5)
    assert (found["none"], found["pair"]) == (None, (1, [True, {}]))
    back = again.optimizer.state[again.parameters[0]]
    assert torch.equal(back["list"][0], torch.arange(3))
    assert back["list"][0].dtype == torch.int64
    assert (back["list"][1], back["map"]) == (1.5, state["map"])


@pytest.mark.parametrize(
    ("kind", "samples"),
    [
        ("none", 1),
        ("batch", 4),
        ("global_batch", 12),
        ("accumulation", 2),
        ("both", 8),
        ("global_both", 24),
    ],
)
def test_scalers_count_samples(kind, samples):
    assert loss_scale(kind, batch_size=4, accumulation=2, world=3) == samples
    assert learning_rate_scale(kind, 4, 2, 3) == math.sqrt(samples)
