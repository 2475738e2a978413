"""OneTrainer's optimizers as ours: which kind, and where its settings come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Ours:
    """One optimizer of ours, for one of OneTrainer's."""

    kind: str
    options: Mapping[str, Any]
    """Our settings, with what OneTrainer takes where a file says null. A tuple is read from as many
    of its keys."""
    told: str = ""
    """What differs; empty: it is the same optimizer."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where a setting of ours does not come from its usual key."""
    untaken: Mapping[str, Any] = field(default_factory=dict)
    """Options of OneTrainer's that have no place here, with the value that needs none."""


SOURCES = {
    "betas": "beta1",
    "beta": "beta1",
    "eps1": "eps",
    "weight_decouple": "decouple",
    "bias_correction": "use_bias_correction",
    "adamw_rate": "muon_adam_lr",
}
"""The keys of our settings in OneTrainer's files; others have the same name."""
SERIES = {"beta1": ("beta1", "beta2", "beta3"), "eps": ("eps", "eps2")}
"""What a tuple that starts with a key is read from."""

_ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
_ADAMW = {**_ADAM, "weight_decay": 0.01}
_LION: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": 0.0}
_SGD: dict[str, Any] = {"momentum": 0.0, "weight_decay": 0.0}
_LARS = {**_SGD, "dampening": 0.0, "nesterov": False}
_ADEMAMIX = {**_ADAMW, "betas": (0.9, 0.999, 0.9999), "alpha": 5.0}
_CAME = {"betas": (0.9, 0.999, 0.9999), "eps1": 1e-30, "eps2": 1e-16, "weight_decay": 0.01}
_RMSPROP = {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0}
_FREE = {"r": 0.0, "weight_lr_power": 2.0, "weight_decay": 0.01}
_FOUND: dict[str, Any] = {"d0": 1e-6, "growth_rate": None, "weight_decay": 0.0}
_PRODIGY = {**_FOUND, **_ADAM, "beta3": None, "d_coef": 1.0}
_MUON = {"ns_steps": 5, "weight_decay": 0.0, "adamw_rate": 3e-4}
_DECOUPLED = {"decoupled_decay": True, "fixed_decay": False}
_SMALL = {"min_8bit_size": 4096}
_ADVANCED = "the same optimizer without the extras of its advanced form"
_BY_LAYER = "without bitsandbytes' limit of an update's size, max_unorm"
_MATRICES = "matrices train by it and all else by AdamW; OneTrainer chooses by names of layers"

OPTIMIZERS: dict[str, Ours] = {
    "ADAMW": Ours("adamw", {**_ADAMW, "amsgrad": False}),
    "ADAM": Ours("adam", {**_ADAM, "amsgrad": False}),
    "ADAMW_8BIT": Ours("adamw_8bit", {**_ADAMW, **_SMALL}),
    "ADAM_8BIT": Ours("adam_8bit", {**_ADAM, **_SMALL}),
    "ADAMW_ADV": Ours("adamw", {**_ADAM, "betas": (0.9, 0.99)}, _ADVANCED),
    "AdEMAMix": Ours("ademamix", _ADEMAMIX),
    "AdEMAMix_8BIT": Ours("ademamix_8bit", {**_ADEMAMIX, **_SMALL}),
    "SIMPLIFIED_AdEMAMix": Ours("ademamix", {}, "the full AdEMAMix, with its usual settings"),
    "ADOPT": Ours(
        "adopt",
        {**_ADAM, "betas": (0.9, 0.9999), "eps": 1e-6, "weight_decouple": False},
        sources={"weight_decouple": "decoupled_decay"},
        untaken={"cautious": False, "fixed_decay": False},
    ),
    "ADOPT_ADV": Ours("adopt", {**_ADAM, "betas": (0.9, 0.9999), "eps": 1e-6}, _ADVANCED),
    "ADAGRAD": Ours(
        "adagrad",
        {"lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10, "weight_decay": 0.0},
    ),
    "ADAGRAD_8BIT": Ours(
        "adagrad_8bit",
        {"eps": 1e-10, "weight_decay": 0.0, **_SMALL},
        untaken={"lr_decay": 0, "initial_accumulator_value": 0},
    ),
    "RMSPROP": Ours("rmsprop", {**_RMSPROP, "momentum": 0.0, "centered": False}),
    "RMSPROP_8BIT": Ours(
        "rmsprop_8bit", {**_RMSPROP, **_SMALL}, untaken={"momentum": 0, "centered": False}
    ),
    "LION": Ours("lion", _LION),
    "LION_8BIT": Ours("lion_8bit", {**_LION, "betas": (0.9, 0.999), **_SMALL}),
    "LION_ADV": Ours("lion", _LION, _ADVANCED),
    "LARS": Ours("lars", _LARS, _BY_LAYER),
    "LARS_8BIT": Ours(
        "lars_8bit",
        {**_SGD, "max_unorm": 0.02, **_SMALL},
        untaken={"dampening": 0, "nesterov": False},
    ),
    "LAMB": Ours(
        "lamb",
        _ADAM,
        _BY_LAYER,
        untaken={"amsgrad": False, "adam_w_mode": True, "bias_correction": True},
    ),
    "LAMB_8BIT": Ours("lamb", _ADAM, f"its averages are float32 here; {_BY_LAYER}"),
    "SGD": Ours("sgd", _LARS),
    "SGD_8BIT": Ours("sgd_8bit", {**_SGD, **_SMALL}, untaken={"dampening": 0, "nesterov": False}),
    "SIGNSGD_ADV": Ours("sign_sgd", {**_SGD, "momentum": 0.95}, _ADVANCED),
    "SCHEDULE_FREE_ADAMW": Ours("schedule_free_adamw", {**_ADAMW, **_FREE}),
    "SCHEDULE_FREE_SGD": Ours("schedule_free_sgd", {**_FREE, "momentum": 0.0, "weight_decay": 0.0}),
    "DADAPT_ADA_GRAD": Ours("dadapt_adagrad", {**_FOUND, "momentum": 0.0, "eps": 0.0}),
    "DADAPT_ADAM": Ours(
        "dadapt_adam", {**_FOUND, **_ADAM, "weight_decouple": False, "bias_correction": False}
    ),
    "DADAPT_ADAN": Ours(
        "dadapt_adan",
        {**_FOUND, "betas": (0.98, 0.92, 0.99), "eps": 1e-8, "weight_decay": 0.02},
        untaken={"no_prox": False},
    ),
    "DADAPT_LION": Ours("dadapt_lion", {"betas": (0.9, 0.999), "d0": 1e-6, "weight_decay": 0.0}),
    "DADAPT_SGD": Ours("dadapt_sgd", {**_FOUND, "momentum": 0.0}),
    "PRODIGY": Ours(
        "prodigy",
        {
            **_PRODIGY,
            "weight_decouple": True,
            "bias_correction": False,
            "safeguard_warmup": False,
        },
    ),
    "PRODIGY_ADV": Ours("prodigy", {**_PRODIGY, "betas": (0.9, 0.99)}, _ADVANCED),
    "PRODIGY_PLUS_SCHEDULE_FREE": Ours(
        "prodigy_plus",
        {
            "betas": (0.9, 0.99),
            "beta3": None,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "d0": 1e-6,
            "d_coef": 1.0,
            "d_limiter": True,
            "prodigy_steps": 0,
            "use_speed": False,
            "split_groups": True,
            "split_groups_mean": True,
            "factored": True,
            "use_stableadamw": True,
            "use_cautious": False,
            "use_bias_correction": False,
            "schedulefree_c": 0.0,
        },
        untaken={
            "use_schedulefree": True,
            "weight_decay_by_lr": True,
            "factored_fp32": True,
            "use_grams": False,
            "use_adopt": False,
            "use_orthograd": False,
        },
    ),
    "ADAFACTOR": Ours(
        "adafactor",
        {
            "eps": (1e-30, 1e-3),
            "clip_threshold": 1.0,
            "decay_rate": -0.8,
            "beta1": None,
            "scale_parameter": True,
            "weight_decay": 0.0,
        },
    ),
    "CAME": Ours("came", {**_CAME, "weight_decay": 0.0}, untaken={"use_cautious": False}),
    "CAME_8BIT": Ours(
        "came", {**_CAME, "weight_decay": 0.0}, "the same update; its averages are float32 here"
    ),
    "MUON": Ours("muon", {**_MUON, "momentum": 0.95}, _MATRICES, untaken={"muon_adam_config": {}}),
    "MUON_ADV": Ours(
        "muon",
        {**_MUON, "momentum": 0.9, "nesterov": True, "adamw_rate": 1e-6, "use_adjusted_lr": True},
        f"{_ADVANCED}; {_MATRICES}",
        sources={"momentum": "beta1", "use_adjusted_lr": "rms_rescaling"},
    ),
    "ADAMUON_ADV": Ours(
        "adamuon",
        {**_MUON, "betas": (0.95, 0.95), "eps": 1e-8, "adamw_rate": 1e-6},
        f"{_ADVANCED}; {_MATRICES}",
    ),
    "ADABELIEF": Ours(
        "adabelief",
        {**_ADAM, "eps": 1e-16, "rectify": True},
        untaken={**_DECOUPLED, "amsgrad": False, "degenerated_to_sgd": True},
    ),
    "TIGER": Ours("tiger", {"beta": 0.965, "weight_decay": 0.01}, untaken=_DECOUPLED),
    "AIDA": Ours(
        "aida",
        {**_ADAM, "k": 2, "xi": 1e-20, "rectify": False},
        untaken={
            "decoupled_decay": False,
            "fixed_decay": False,
            "ams_bound": False,
            "adanorm": False,
            "adam_debias": False,
        },
    ),
    "YOGI": Ours(
        "yogi",
        {**_ADAM, "eps": 1e-3, "initial_accumulator": 1e-6},
        untaken={**_DECOUPLED, "adanorm": False, "adam_debias": False},
    ),
}
