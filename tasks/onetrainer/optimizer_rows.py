"""The optimizer and its options; a hundred of them belong to optimizers that come later."""

from collections.abc import Iterable
from typing import Any

from tasks.onetrainer.rows import Answer, Left, Put, Row, Table, View, later, only, taken, unneeded

ADAMW_LIKE = {
    "ADAMW": "",
    "ADAM": "AdamW with this weight decay is Adam only where the decay is 0",
    "ADAMW_8BIT": "the same update; its memory is float32 here, not 8 bit",
    "ADAMW_ADV": "the same update without its extras",
    "SCHEDULE_FREE_ADAMW": "AdamW with a schedule stands in its place",
}
"""Optimizers whose learning rate suits AdamW, with what differs."""

WEIGHT_DECAY = {"ADAM": 0.0, "ADAMW_ADV": 0.0}
BETA2 = {"ADAMW_ADV": 0.99}
"""OneTrainer's defaults where they are not AdamW's."""


def _optimizer(value: Any, view: View) -> Iterable[Answer]:
    if value not in ADAMW_LIKE:
        return [Left("not yet", "this version has AdamW, which stands in its place")]
    if value == "ADAM" and not _decay(view["optimizer.weight_decay"], view):
        return []
    return [Left("not yet", ADAMW_LIKE[value])] if ADAMW_LIKE[value] else []


def _betas(value: Any, view: View) -> Iterable[Answer]:
    name, second = view["optimizer.optimizer"], view["optimizer.beta2"]
    if name not in ADAMW_LIKE:
        return []
    second = BETA2.get(name, 0.999) if second is None else second
    return [Put("train.optimizer.betas", [0.9 if value is None else value, second])]


def _eps(value: Any, view: View) -> Iterable[Answer]:
    if view["optimizer.optimizer"] not in ADAMW_LIKE:
        return []
    return [Put("train.optimizer.eps", 1e-8 if value is None else value)]


def _weight_decay(value: Any, view: View) -> Iterable[Answer]:
    if view["optimizer.optimizer"] not in ADAMW_LIKE:
        return []
    return [Put("train.optimizer.weight_decay", _decay(value, view))]


def _decay(value: Any, view: View) -> Any:
    return WEIGHT_DECAY.get(view["optimizer.optimizer"], 0.01) if value is None else value


def _has_options(view: View) -> bool:
    """Adam and AdamW read none of the options of others, which a saved file holds all the same."""
    return view["optimizer.optimizer"] not in ("ADAM", "ADAMW")


def _others(defaults: dict[str, Any]) -> dict[str, Row]:
    why = "an option of an optimizer that this version does not have"
    rows = {key: later(value, why, quiet=(False,)) for key, value in defaults.items()}
    return {f"optimizer.{key}": only(_has_options, row) for key, row in rows.items()}


OPTIMIZER: Table = {
    "optimizer.optimizer": Row("ADAMW", _optimizer),
    "optimizer.beta1": Row(None, _betas),
    "optimizer.beta2": taken(),
    "optimizer.eps": Row(None, _eps),
    "optimizer.weight_decay": Row(None, _weight_decay),
    "optimizer.stochastic_rounding": unneeded(
        True, "trained weights are float32 here, so nothing is rounded", quiet=(False,)
    ),
    "optimizer.fused": unneeded(False, "only speed; torch chooses", quiet=(True,)),
    "optimizer.foreach": unneeded(False, "only speed; torch chooses", quiet=(True,)),
    "optimizer.capturable": unneeded(False, "only speed"),
    "optimizer.differentiable": unneeded(False, "nothing here differentiates an optimizer"),
    "optimizer.fused_back_pass": later(False, "the optimizer step inside the backward pass"),
    "optimizer.amsgrad": later(False, "the AMSGrad variant"),
    "optimizer.maximize": unneeded(False, "a loss is never maximised here"),
    "optimizer_defaults": unneeded(
        {}, "what OneTrainer's window remembers of other optimizers", quiet=(None,)
    ),
    **_others(
        {
            **dict.fromkeys(
                (
                    *("adam_w_mode", "bias_correction", "block_wise", "centered", "decouple"),
                    *("fsdp_in_use", "is_paged", "nesterov", "no_prox", "relative_step"),
                    *("safeguard_warmup", "scale_parameter", "use_bias_correction", "use_triton"),
                    *("warmup_init", "decoupled_decay", "fixed_decay", "weight_decouple"),
                    *("rectify", "degenerated_to_sgd", "ams_bound", "adanorm", "adam_debias"),
                    *("cautious", "use_speed", "use_cautious", "use_grams", "use_adopt"),
                    *("use_orthograd", "nnmf_factor", "use_atan2", "kourkoutas_beta"),
                    *("MuonWithAuxAdam", "muon_adam_regex", "normuon_variant", "low_rank_ortho"),
                    *("accelerated_ns", "cautious_wd", "approx_mars", "compile", "auto_kappa_p"),
                    *("spectral_normalization", "stochastic_sign", "factored_2nd", "fisher_wd"),
                    *("orthogonal_sinkhorn", "normed_momentum", "snr_cond", "geometric_wd"),
                    *("use_focus", "use_AdEMAMix", "Simplified_AdEMAMix", "cautious_mask"),
                    "grams_moment",
                ),
                False,
            ),
            **dict.fromkeys(
                (
                    *("weight_decay_by_lr", "split_groups", "split_groups_mean", "factored"),
                    *("factored_fp32", "use_stableadamw", "d_limiter", "use_schedulefree"),
                    "rms_rescaling",
                ),
                True,
            ),
            **dict.fromkeys(
                (
                    *("alpha", "beta3", "clip_threshold", "d0", "d_coef", "dampening"),
                    *("decay_rate", "eps2", "growth_rate", "initial_accumulator_value"),
                    *("initial_accumulator", "log_every", "lr_decay", "max_unorm"),
                    *("min_8bit_size", "quant_block_size", "momentum", "optim_bits"),
                    *("percentile_clipping", "r", "weight_lr_power", "k", "xi"),
                    *("n_sma_threshold", "slice_p", "prodigy_steps", "beta1_warmup", "min_beta1"),
                    *("schedulefree_c", "ns_steps", "muon_hidden_layers", "muon_adam_lr"),
                    *("muon_te1_adam_lr", "muon_te2_adam_lr", "beta2_normuon", "ortho_rank"),
                    *("sinkhorn_iterations", "nesterov_coef", "beta3_ema", "alpha_grad"),
                ),
            ),
            "muon_adam_config": {},
            "orthogonal_gradient": "disabled",
            "centered_wd": 0.0,
            "centered_wd_mode": "full",
            "state_precision": "auto",
        }
    ),
}
