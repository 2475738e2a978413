"""What a step asks of the model: timesteps, noise, loss, masks."""

from collections.abc import Iterable
from typing import Any

from tasks.onetrainer.model_rows import family_of, is_lora
from tasks.onetrainer.rows import (
    Answer,
    Left,
    Put,
    Row,
    Table,
    View,
    choice,
    later,
    only,
    same,
    taken,
    unlike,
)

DISTRIBUTIONS = {
    "UNIFORM": "uniform",
    "SIGMOID": "sigmoid",
    "LOGIT_NORMAL": "logit_normal",
    "HEAVY_TAIL": "heavy_tail",
    "COS_MAP": "cos_map",
    "INVERTED_PARABOLA": "inverted_parabola",
    "BETA": "beta",
}
BIASED = ("SIGMOID", "LOGIT_NORMAL", "INVERTED_PARABOLA")
"""Distributions that read `noising_bias` as we do: both count it from the middle."""
WEIGHTINGS = {
    "CONSTANT": "constant",
    "MIN_SNR_GAMMA": "min_snr_gamma",
    "DEBIASED_ESTIMATION": "debiased",
    "P2": "p2",
    "SIGMA": "sigma",
}
SCALERS = {
    "NONE": "none",
    "BATCH": "batch",
    "GLOBAL_BATCH": "global_batch",
    "GRADIENT_ACCUMULATION": "accumulation",
    "BOTH": "both",
    "GLOBAL_BOTH": "global_both",
}
"""`learning_rate_scaler` and `loss_scaler`, which mean the same here."""


def _distribution(value: Any, view: View) -> Iterable[Answer]:
    weight, bias = float(view["noising_weight"]), float(view["noising_bias"])
    if value not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        return [Left("unknown", f"no such distribution; known: {known}")]
    if value == "BETA" and weight != bias:
        why = (
            "beta is symmetric here: noising_weight and noising_bias, its two parameters, must be "
            "equal; uniform stands in its place"
        )
        return [Left("different", why)]
    answers: list[Answer] = [Put("train.timesteps.distribution", DISTRIBUTIONS[value])]
    if value == "LOGIT_NORMAL":
        note = f"noising_weight {weight:g} + 1" if weight else ""
        answers.append(Put("train.timesteps.scale", weight + 1, note))
    elif value not in ("UNIFORM", "COS_MAP"):
        answers.append(Put("train.timesteps.scale", weight))
    if value in BIASED:
        answers.append(Put("train.timesteps.bias", bias))
    return answers


def _is_flow(view: View) -> bool:
    """Whether the model's family is a flow; so is every one that is not there yet."""
    family = family_of(view)
    return family is None or family.objective == "flow"


def _is_diffusion(view: View) -> bool:
    return not _is_flow(view)


def _perturbation(value: Any, view: View) -> Iterable[Answer]:
    note = "the target stays the plain noise; in OneTrainer it is moved too" if value else ""
    return [Put("train.noise.perturbation", value, note)]


def _weighting(value: Any, view: View) -> Iterable[Answer]:
    if value not in WEIGHTINGS:
        return [Left("unknown", f"no such function; known: {', '.join(WEIGHTINGS)}")]
    note = "(SNR + 1)^-gamma; for v OneTrainer has SNR + 2" if value == "P2" else ""
    answers = [Put("train.loss.weighting", WEIGHTINGS[value], note)]
    if value in ("MIN_SNR_GAMMA", "P2"):
        answers.append(Put("train.loss.gamma", view["loss_weight_strength"]))
    return answers


def _masked(value: Any, view: View) -> Iterable[Answer]:
    if not value:
        return [Put("train.mask.enabled", False)]
    note = "NAME-masklabel.png beside NAME.jpg"
    return [
        Put("train.mask.enabled", True),
        Put("concepts.*.image.mask_source", "file", note),
    ]


def _is_masked(view: View) -> bool:
    return bool(view["masked_training"])


def _paints(view: View) -> bool:
    """Whether the model is told a mask, the only kind that reads `unmasked_probability`."""
    return _is_masked(view) and "INPAINT" in str(view["model_type"])


def _has_offset(view: View) -> bool:
    return bool(view["offset_noise_weight"])


def _variance(value: Any, view: View) -> Iterable[Answer]:
    if not value or view["model_type"] != "PIXART_ALPHA":
        return []
    return [Left("different", "the variance that the model also predicts is not trained")]


OBJECTIVE: Table = {
    "timestep_distribution": Row("UNIFORM", _distribution),
    "noising_weight": taken(0.0),
    "noising_bias": taken(0.0),
    "min_noising_strength": same("train.timesteps.min", 0.0),
    "max_noising_strength": same("train.timesteps.max", 1.0),
    "timestep_shift": same("train.timesteps.shift", 1.0),
    "dynamic_timestep_shifting": only(_is_flow, same("train.timesteps.dynamic_shift", False)),
    "offset_noise_weight": same("train.noise.offset", 0.0),
    "generalized_offset_noise": only(
        _has_offset, later(False, "offset noise is equally strong at all timesteps")
    ),
    "perturbation_noise_weight": Row(0.0, _perturbation),
    "rescale_noise_scheduler_to_zero_terminal_snr": only(
        _is_diffusion, same("train.noise.zero_terminal_snr", False)
    ),
    "force_v_prediction": unlike(False, "what a model predicts is read from its scheduler"),
    "force_epsilon_prediction": unlike(False, "what a model predicts is read from its scheduler"),
    "mse_strength": same("train.loss.mse", 1.0),
    "mae_strength": same("train.loss.mae", 0.0),
    "log_cosh_strength": same("train.loss.log_cosh", 0.0),
    "huber_strength": same("train.loss.huber", 0.0),
    "huber_delta": same("train.loss.huber_delta", 1.0),
    "vb_loss_strength": Row(1.0, _variance),
    "loss_weight_fn": Row("CONSTANT", _weighting),
    "loss_weight_strength": taken(5.0),
    "cep_gamma": later(0.0, "only in versions of OneTrainer that this import does not know"),
    "loss_scaler": choice("train.loss_scaler", "NONE", SCALERS),
    "masked_training": Row(False, _masked),
    "unmasked_weight": only(_is_masked, same("train.mask.unmasked_weight", 0.1)),
    "unmasked_probability": only(_paints, same("train.mask.unmasked_probability", 0.1)),
    "normalize_masked_area_loss": only(_is_masked, same("train.mask.normalize", False)),
    "masked_prior_preservation_weight": only(
        lambda view: _is_masked(view) and is_lora(view), same("train.mask.prior_weight", 0.0)
    ),
}
