import math

import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR
from transformers import get_scheduler
from transformers.optimization import get_cosine_schedule_with_warmup

from tasks.config.optimizers import Schedule
from tasks.train.schedules import SCHEDULES, rate_factor, set_group_rates, warmup_steps

TOTAL, WARMUP, PEAK = 60, 7, 3e-4


def stock_rates(make, steps=TOTAL):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def our_rates(schedule, total=TOTAL, **numbers):
    return [PEAK * rate_factor(schedule, step, total, **numbers) for step in range(total)]


def transformers(name, **options):
    def make(optimizer):
        return get_scheduler(name, optimizer, WARMUP, TOTAL, scheduler_specific_kwargs=options)

    return make


STOCK = {
    "constant": ({}, transformers("constant_with_warmup")),
    "linear": ({}, transformers("linear")),
    "cosine": ({}, transformers("cosine")),
    "cosine with a floor": (
        {"kind": "cosine", "min_factor": 0.1},
        transformers("cosine_with_min_lr", min_lr_rate=0.1),
    ),
    "cosine_with_restarts": (
        {"cycles": 2},
        lambda optimizer: get_cosine_schedule_with_warmup(optimizer, WARMUP, TOTAL, 2.5),
    ),
    "cosine_with_hard_restarts": (
        {"cycles": 3},
        transformers("cosine_with_restarts", num_cycles=3),
    ),
    "polynomial": ({"power": 2.0}, transformers("polynomial", power=2.0, lr_end=0.0)),
    "polynomial with a floor": (
        {"kind": "polynomial", "power": 1.5, "min_factor": 0.2},
        transformers("polynomial", power=1.5, lr_end=PEAK * 0.2),
    ),
    "inverse_sqrt": ({}, transformers("inverse_sqrt")),
}


@pytest.mark.parametrize("name", STOCK)
def test_a_schedule_is_that_of_transformers_but_for_its_first_steps(name):
    options, make = STOCK[name]
    ours = our_rates(Schedule(**({"kind": name, "warmup_steps": WARMUP} | options)))
    stock = stock_rates(make)
    assert ours[WARMUP:] == pytest.approx(stock[WARMUP:], rel=1e-9, abs=1e-15)
    # transformers trains the first step with rate 0; here the warm-up is one step ahead.
    assert ours[: WARMUP - 1] == pytest.approx(stock[1:WARMUP])
    assert len(set(stock[WARMUP:])) > 1 or name == "constant"


def test_inverse_sqrt_without_warm_up_counts_in_ten_thousands():
    stock = stock_rates(lambda one: get_scheduler("inverse_sqrt", one, num_warmup_steps=0))
    assert our_rates(Schedule(kind="inverse_sqrt")) == pytest.approx(stock)


def test_rex_stays_high_and_falls_at_the_end():
    # Of OneTrainer's formula: (1 - p) / (0.1 + 0.9 (1 - p)).
    rates = [rate_factor(Schedule(kind="rex"), step, 100) for step in (0, 50, 90, 99, 100)]
    assert rates == pytest.approx([1, 0.5 / 0.55, 0.1 / 0.19, 0.01 / 0.109, 0])


def test_adafactor_falls_from_ten_thousand_steps_on():
    schedule = Schedule(kind="adafactor")
    found = [1e-2 * rate_factor(schedule, step - 1, 10**6) for step in (1, 10_000, 40_000)]
    assert found == pytest.approx([1e-2, 1e-2, 1 / math.sqrt(40_000)])


def test_warm_up_is_a_number_of_steps_or_a_share_of_them():
    share = Schedule(warmup_fraction=0.25)
    assert warmup_steps(share, 40) == 10
    assert our_rates(share, 40) == our_rates(Schedule(warmup_steps=10), 40)
    rates = [rate_factor(Schedule(warmup_steps=4), step, 6) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    with pytest.raises(ValidationError, match="warmup_steps or warmup_fraction, not both"):
        Schedule(warmup_steps=1, warmup_fraction=0.1)


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if kind != "constant"])
def test_a_floor_is_where_a_schedule_ends_and_never_undercut(kind):
    schedule = Schedule(kind=kind, min_factor=0.1)
    rates = [rate_factor(schedule, step, TOTAL) for step in range(TOTAL + 1)]
    bare = [rate_factor(Schedule(kind=kind), step, TOTAL) for step in range(TOTAL + 1)]
    assert rates[0] == 1
    assert min(rates) >= 0.1
    assert rates == pytest.approx([0.1 + 0.9 * rate for rate in bare])


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_schedules.py").write_text(
        "from torch.optim.lr_scheduler import StepLR\n"
        "def falling(step, total_steps, power=1.0, per_epoch=1):\n"
        "    return (1 - step / total_steps) ** power / per_epoch\n"
        "class Halving(StepLR):\n"
        "    def __init__(self, optimizer, epochs):\n"
        "        super().__init__(optimizer, step_size=epochs, gamma=0.5)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def custom(function, warmup=0, **params):
    return Schedule(kind="custom", function=function, params=params, warmup_steps=warmup)


def test_an_own_function_is_asked_after_the_warm_up(own_module):
    schedule = custom("own_schedules:falling", warmup=10, power=2, per_epoch="%STEPS_PER_EPOCH%")
    found = [rate_factor(schedule, step, 60, epochs=30) for step in (0, 9, 10, 35)]
    assert found == [0.1, 1.0, 0.5, 0.125]


TORCH = {
    "CosineAnnealingLR": (
        {"T_max": "%TOTAL_STEPS%", "eta_min": 1e-5},
        lambda one: CosineAnnealingLR(one, T_max=TOTAL, eta_min=1e-5),
    ),
    "OneCycleLR": (
        {"max_lr": "%LR%", "total_steps": 61},
        lambda one: OneCycleLR(one, max_lr=PEAK, total_steps=61),
    ),
    "StepLR": ({"step_size": "%STEPS_PER_EPOCH%"}, lambda one: StepLR(one, step_size=20)),
}


@pytest.mark.parametrize("name", TORCH)
def test_a_scheduler_of_torch_gives_its_rates_at_any_step(name):
    params, make = TORCH[name]
    schedule = custom(f"torch.optim.lr_scheduler:{name}", **params)
    stock = stock_rates(make)
    numbers = {"learning_rate": PEAK, "epochs": 3}
    # First the end, as a resumed run asks for it.
    late = PEAK * rate_factor(schedule, TOTAL - 1, TOTAL, **numbers)
    assert late == pytest.approx(stock[-1])
    assert our_rates(schedule, **numbers) == pytest.approx(stock)


def test_an_own_scheduler_class_works_like_those_of_torch(own_module):
    schedule = custom("own_schedules:Halving", epochs="%EPOCHS%")
    found = [rate_factor(schedule, step, 60, epochs=3) for step in range(7)]
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("function", "params", "told"),
    [
        ("nowhere_at_all:f", {}, "'nowhere_at_all:f' cannot be imported.*PYTHONPATH"),
        ("math:nothing", {}, "cannot be imported"),
        ("torch.optim.lr_scheduler:StepLR", {}, "step_size"),
        ("torch.optim.lr_scheduler:StepLR", {"stp_size": 3}, "stp_size"),
        ("torch.optim.lr_scheduler:ReduceLROnPlateau", {}, "metrics"),
        ("math:pi", {}, "not callable"),
    ],
)
def test_a_custom_schedule_that_does_not_fit_is_explained(function, params, told):
    with pytest.raises(ValueError, match=told):
        rate_factor(custom(function, **params), 3, 60)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kind": "custom"}, "custom.*needs function"),
        ({"kind": "custom", "function": "no colon"}, "pattern"),
        ({"kind": "custom", "function": "a:b", "params": {"x": "%NOPE%"}}, "%NOPE%.*%LR%"),
    ],
)
def test_a_wrong_table_is_refused(values, told):
    with pytest.raises(ValidationError, match=told):
        Schedule(**values)


def test_rates_are_set_by_name_and_share():
    groups = [
        {"name": name, "params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1.0, "share": share}
        for name, share in (("denoiser", 1.0), ("denoiser", 0.5), ("text_encoder_1", 1.0))
    ]
    optimizer = torch.optim.SGD(groups)
    set_group_rates(optimizer, {"denoiser": 0.2, "text_encoder_1": 0.1})
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1, 0.1]
    set_group_rates(optimizer, {"text_encoder_1": 0.1})
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05, 0.1]
