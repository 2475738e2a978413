"""The optimizer: each of OneTrainer's hundred options counts only where the chosen one reads it."""

import math
from collections.abc import Iterable
from typing import Any

from tasks.config.optimizers.adapted import ONE_RATE, SCHEDULE_FREE
from tasks.onetrainer.optimizer_kinds import OPTIMIZERS, SERIES, SOURCES, Ours
from tasks.onetrainer.rows import Answer, Left, Put, Row, Table, View, later, unneeded

USUAL = "adamw"
"""What run.toml need not say."""


def ours_of(view: View) -> Ours | None:
    """Our optimizer for the file's; None where there is none, and AdamW stands in its place."""
    return OPTIMIZERS.get(str(view["optimizer.optimizer"]))


def is_free(view: View) -> bool:
    """Whether the optimizer averages weights instead of lowering the rate."""
    ours = ours_of(view)
    return ours is not None and ours.kind in SCHEDULE_FREE


def has_one_rate(view: View) -> bool:
    """Whether the optimizer finds one learning rate for all parts."""
    ours = ours_of(view)
    return ours is not None and ours.kind in ONE_RATE


def steps_by_itself(view: View) -> bool:
    """Whether Adafactor takes its relative step, which is a schedule here."""
    return view["optimizer.optimizer"] == "ADAFACTOR" and bool(view["optimizer.relative_step"])


def _optimizer(value: Any, view: View) -> Iterable[Answer]:
    ours = ours_of(view)
    if ours is None:
        return [Left("not yet", "this optimizer is not there; AdamW stands in its place")]
    put = Put("train.optimizer.kind", ours.kind, always=ours.kind != USUAL)
    return [put, Left("different", ours.told)] if ours.told else [put]


def _option(key: str, default: Any) -> Row:
    """An option: a setting of the chosen optimizer, something without a place, or not read."""

    def convert(value: Any, view: View) -> Iterable[Answer]:
        ours = ours_of(view)
        if ours is None:
            return []
        names = [name for name in ours.options if _source(ours, name) == key]
        if names:
            return [put for name in names for put in _puts(name, ours.options[name], key, view)]
        if key in ours.untaken and value not in (None, ours.untaken[key]):
            return [Left("not yet", f"{ours.kind} has no such option here")]
        return []

    return Row(default, convert)


def _source(ours: Ours, name: str) -> str:
    return ours.sources.get(name, SOURCES.get(name, name))


def _puts(name: str, fallback: Any, key: str, view: View) -> Iterable[Answer]:
    """A setting from a file's value, or from what null means there."""
    place = f"train.optimizer.{name}"
    if isinstance(fallback, tuple):
        keys = SERIES[key][: len(fallback)]
        pairs = zip(keys, fallback, strict=True)
        return [Put(place, [_said(one, other, view) for one, other in pairs])]
    value = _said(key, fallback, view)
    if name == "adamw_rate":
        return _share(place, float(value), float(view["learning_rate"]))
    # No limit of growth is infinity there and left out here.
    return [] if value is None or value == math.inf else [Put(place, value)]


def _share(place: str, rate: float, of: float) -> Iterable[Answer]:
    """A rate that is said as a share of the learning rate here."""
    if not of:
        return []
    note = f"{rate:g} / {of:g}; it multiplies train.learning_rate"
    return [Put(place, float(f"{rate / of:.6g}"), note)]


def _said(key: str, fallback: Any, view: View) -> Any:
    value = view[f"optimizer.{key}"]
    return fallback if value is None else value


_OFF = (
    *("adam_w_mode", "amsgrad", "bias_correction", "centered", "decouple", "nesterov", "no_prox"),
    *("relative_step", "safeguard_warmup", "scale_parameter", "use_bias_correction"),
    *("warmup_init", "decoupled_decay", "fixed_decay", "weight_decouple", "rectify"),
    *("degenerated_to_sgd", "ams_bound", "adanorm", "adam_debias", "cautious", "use_speed"),
    *("use_cautious", "use_grams", "use_adopt", "use_orthograd", "nnmf_factor", "use_atan2"),
    *("kourkoutas_beta", "MuonWithAuxAdam", "muon_adam_regex", "normuon_variant"),
    *("low_rank_ortho", "accelerated_ns", "cautious_wd", "approx_mars", "compile"),
    *("auto_kappa_p", "spectral_normalization", "stochastic_sign", "factored_2nd", "fisher_wd"),
    *("orthogonal_sinkhorn", "normed_momentum", "snr_cond", "geometric_wd", "use_focus"),
    *("use_AdEMAMix", "Simplified_AdEMAMix", "cautious_mask", "grams_moment"),
)
_ON = (
    *("weight_decay_by_lr", "split_groups", "split_groups_mean", "factored", "factored_fp32"),
    *("use_stableadamw", "d_limiter", "use_schedulefree", "rms_rescaling"),
)
_UNSET = (
    *("alpha", "beta1", "beta2", "beta3", "clip_threshold", "d0", "d_coef", "dampening", "eps"),
    *("eps2", "decay_rate", "growth_rate", "initial_accumulator_value", "initial_accumulator"),
    *("lr_decay", "max_unorm", "min_8bit_size", "momentum", "r", "weight_decay"),
    *("weight_lr_power", "k", "xi", "n_sma_threshold", "prodigy_steps", "beta1_warmup"),
    *("min_beta1", "schedulefree_c", "ns_steps", "muon_hidden_layers", "muon_adam_lr"),
    *("muon_te1_adam_lr", "muon_te2_adam_lr", "beta2_normuon", "ortho_rank"),
    *("sinkhorn_iterations", "nesterov_coef", "beta3_ema", "alpha_grad"),
)
_VALUES = {
    "muon_adam_config": {},
    "orthogonal_gradient": "disabled",
    "centered_wd": 0.0,
    "centered_wd_mode": "full",
    "state_precision": "auto",
}
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(_OFF, False),
    **dict.fromkeys(_ON, True),
    **dict.fromkeys(_UNSET),
    **_VALUES,
}
"""Options that some optimizer's update depends on, with OneTrainer's defaults."""
_ONLY_SPEED = {
    **dict.fromkeys(("foreach", "capturable", "use_triton", "is_paged", "fsdp_in_use"), False),
    "block_wise": False,
    "fused": False,
    "differentiable": False,
    **dict.fromkeys(("optim_bits", "quant_block_size", "slice_p", "log_every")),
}
_FALLBACK = "torch and bitsandbytes choose; it changes speed or memory, not what is learnt"

OPTIMIZER: Table = {
    "optimizer.optimizer": Row("ADAMW", _optimizer),
    "optimizer.stochastic_rounding": unneeded(
        True, "weights in bfloat16 are always rounded so, and float32 needs it not", quiet=(False,)
    ),
    "optimizer.fused_back_pass": later(False, "the optimizer step inside the backward pass"),
    "optimizer.maximize": unneeded(False, "a loss is never maximised here"),
    "optimizer.percentile_clipping": later(None, "clipping by past gradients", quiet=(100,)),
    "optimizer_defaults": unneeded(
        {}, "what OneTrainer's window remembers of other optimizers", quiet=(None,)
    ),
    **{
        f"optimizer.{key}": unneeded(default, _FALLBACK, quiet=(True, 32, 8, 0, 1, 11, 2048))
        for key, default in _ONLY_SPEED.items()
    },
    **{f"optimizer.{key}": _option(key, default) for key, default in _DEFAULTS.items()},
}
