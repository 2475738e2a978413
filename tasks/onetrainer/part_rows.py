"""The settings that each part of a model has: `unet.train`, `text_encoder.learning_rate`, ..."""

from collections.abc import Callable, Iterable
from typing import Any

from tasks.onetrainer.model_rows import DTYPES, METHODS, is_quantized, parts_of
from tasks.onetrainer.rows import (
    Answer,
    Left,
    Put,
    Row,
    Table,
    View,
    later,
    only,
    taken,
    unlike,
    unneeded,
)

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")
DENOISERS = ("unet", "transformer", "prior")
OTHERS = (
    *("unconditional_transformer", "effnet_encoder", "decoder", "decoder_text_encoder"),
    "decoder_vqgan",
)

_OFFLOADING = "offloading to main memory; gradient_checkpointing saves memory already"
_ENCODED = "text encoders are in memory only while text is encoded, not while training"
_OWN_MODEL = "a part from another file than model.base"


def _denoiser_trains(value: Any, view: View) -> Iterable[Answer]:
    if view["training_method"] not in METHODS:
        return []  # whatever the file says, it is something else that is trained
    return [Put("parts.denoiser.train", bool(value))]


def _stops(part: str) -> Callable[[Any, View], Iterable[Answer]]:
    def convert(value: Any, view: View) -> Iterable[Answer]:
        unit = view[f"{part}.stop_training_after_unit"]
        if not value or unit == "NEVER" or (unit == "EPOCH" and value >= view["epochs"]):
            return []
        return [Left("not yet", "a part trains to the end; set train.epochs or train.max_steps")]

    return convert


def _checkpointing(value: Any, view: View) -> Iterable[Answer]:
    return [Put("train.gradient_checkpointing", bool(value))]


def _denoiser_dtype(value: Any, view: View) -> Iterable[Answer]:
    if is_quantized(value):
        return [Left("not yet", "quantised weights; frozen weights have the type train_dtype")]
    if value in ("FLOAT_32", "NONE") or DTYPES.get(value) == DTYPES.get(view["train_dtype"]):
        return []
    return [Left("different", "trained weights are float32, frozen ones have the type train_dtype")]


def _encoder_trains(value: Any, view: View) -> Iterable[Answer]:
    if not value or view["training_method"] not in METHODS:
        return []
    return [Left("not yet", "text encoders are not trained; only the denoiser is")]


def _is_trained(part: str) -> Callable[[View], bool]:
    return lambda view: bool(view[f"{part}.train"])


def _caption_dropout(value: Any, view: View) -> Iterable[Answer]:
    encoders = [part for part in parts_of(str(view["model_type"])) if part in ENCODERS]
    shares = {view[f"{part}.dropout_probability"] for part in encoders}
    if len(shares) > 1:
        why = "one share for all text encoders, since a dropped prompt is the empty one for all"
        return [Left("different", f"{why}; set train.caption_dropout")]
    note = "the prompt is left empty; OneTrainer blanks what the encoder made" if value else ""
    return [Put("train.caption_dropout", value, note)]


def _vae_dtype(value: Any, view: View) -> Iterable[Answer]:
    if value in DTYPES:
        return [Put("data.encode_dtype", DTYPES[value])]
    return [Left("not yet", "images and text are encoded in float32, float16 or bfloat16")]


def _part(name: str, rows: dict[str, Row]) -> dict[str, Row]:
    """The rows of one part, which count only where the model has it."""

    def has_it(view: View) -> bool:
        return name in parts_of(str(view["model_type"]))

    return {f"{name}.{key}": only(has_it, row) for key, row in rows.items()}


def _common(encoder: bool = False) -> dict[str, Row]:
    """What is the same for every part."""
    need = unneeded if encoder else later
    return {
        "model_name": later("", _OWN_MODEL),
        "include": later(True, "a model without one of its parts"),
        "train_embedding": later(True, "embeddings (textual inversion) are not trained"),
        "attention_mask": later(False, "belongs to families that this version does not have"),
        "guidance_scale": later(1.0, "belongs to families that this version does not have"),
        "offload_fraction": need(0.0, _ENCODED if encoder else _OFFLOADING),
        "activation_offloading": need(False, _ENCODED if encoder else _OFFLOADING),
    }


def _denoiser(name: str) -> dict[str, Row]:
    return {
        "train": Row(True, _denoiser_trains),
        "stop_training_after": Row(0, _stops(name)),
        "stop_training_after_unit": taken("NEVER"),
        "learning_rate": taken(),
        "weight_dtype": Row("FLOAT_32", _denoiser_dtype),
        "dropout_probability": unneeded(0.0, "only text encoders read it"),
        "gradient_checkpointing": Row(True, _checkpointing),
        **_common(),
    }


def _encoder(name: str) -> dict[str, Row]:
    trained = _is_trained(name)
    rate = later(None, "text encoders are not trained; only the denoiser is")
    dtype = unlike("FLOAT_32", "data.encode_dtype is the type for VAE and text encoders", ("NONE",))
    first = name == ENCODERS[0]
    return {
        "train": Row(True, _encoder_trains),
        "stop_training_after": taken(30),
        "stop_training_after_unit": taken("EPOCH"),
        "learning_rate": only(trained, rate),
        "weight_dtype": dtype,
        "dropout_probability": Row(0.0, _caption_dropout) if first else taken(0.0),
        "gradient_checkpointing": unneeded(True, _ENCODED, quiet=(False,)),
        **_common(encoder=True),
    }


def _frozen() -> dict[str, Row]:
    """The VAE and the parts of other families, of which nothing trains."""
    return {
        "train": unneeded(True, "this part is never trained", quiet=(False,)),
        "stop_training_after": unneeded(None, "this part is never trained", quiet=(0,)),
        "stop_training_after_unit": unneeded("NEVER", "this part is never trained"),
        "learning_rate": unneeded(None, "this part is never trained"),
        "weight_dtype": later("FLOAT_32", "belongs to families that this version does not have"),
        "dropout_probability": unneeded(0.0, "only text encoders read it"),
        "gradient_checkpointing": unneeded(True, "this part is never trained", quiet=(False,)),
        **_common(),
    }


PARTS: Table = {
    **{key: row for name in DENOISERS for key, row in _part(name, _denoiser(name)).items()},
    **{key: row for name in ENCODERS for key, row in _part(name, _encoder(name)).items()},
    **{key: row for name in OTHERS for key, row in _part(name, _frozen()).items()},
    **_part("vae", {**_frozen(), "weight_dtype": Row("FLOAT_32", _vae_dtype)}),
    "text_encoder_layer_skip": later(0, "clip skip; text encoders give their usual layer"),
    "text_encoder_2_layer_skip": later(0, "clip skip; text encoders give their usual layer"),
    "text_encoder_3_layer_skip": later(0, "clip skip; text encoders give their usual layer"),
    "text_encoder_4_layer_skip": later(0, "clip skip; text encoders give their usual layer"),
    "text_encoder_sequence_length": later(512, "prompts have the family's usual length", (77,)),
    "text_encoder_2_sequence_length": later(77, "prompts have the family's usual length"),
}
"""All parts of all models; `denoiser_of` names the one whose rows fill our `parts.denoiser`."""
