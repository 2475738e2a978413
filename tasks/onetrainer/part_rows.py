"""The settings that each part of a model has: `unet.train`, `text_encoder.learning_rate`, ..."""

from collections.abc import Callable, Iterable
from typing import Any

from tasks.onetrainer.method_rows import trained_dtype
from tasks.onetrainer.model_rows import DTYPES, family_of, is_lora, method_of, parts_of
from tasks.onetrainer.optimizer_rows import has_one_rate, steps_by_itself
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
from tasks.onetrainer.units import stop_after

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")
DENOISERS = ("unet", "transformer", "prior")
OTHERS = (
    *("unconditional_transformer", "effnet_encoder", "decoder", "decoder_text_encoder"),
    "decoder_vqgan",
)
OURS = {
    **dict.fromkeys(DENOISERS, "denoiser"),
    "text_encoder": "text_encoder_1",
    "text_encoder_2": "text_encoder_2",
    "text_encoder_3": "text_encoder_3",
}
"""OneTrainer's parts as those of `[parts]`."""
QUANTIZED = {
    "FLOAT_8": "float8",
    "FLOAT_W8A8": "float8",
    "INT_8": "int8",
    "INT_W8A8": "int8",
    "NFLOAT_4": "int8",
}
"""Data types of frozen weights as our `train.base_weights`, the nearest that there is."""
_ACTIVATIONS = Left("different", "activations keep the type train_dtype here")
TOLD = {
    "FLOAT_W8A8": _ACTIVATIONS,
    "INT_W8A8": _ACTIVATIONS,
    "NFLOAT_4": Left("not yet", "4 bits per weight; 8 bits stand in their place, twice the memory"),
}

_OFFLOADING = "offloading to main memory; gradient_checkpointing saves memory already"
_ENCODED = "text encoders are in memory only while text is encoded, unless they train"
_OWN_MODEL = "a part from another file than model.base"
_ELSEWHERE = "belongs to a family that is not there"


def _trains_parts(view: View) -> bool:
    """Whether the method trains parts of a model, not only words or a VAE."""
    return method_of(view) not in (None, "embedding")


def _denoiser_trains(value: Any, view: View) -> Iterable[Answer]:
    # Whatever else the file says, it is something else that is trained.
    return [Put("parts.denoiser.train", bool(value))] if _trains_parts(view) else []


def _encoder_trains(part: str) -> Callable[[Any, View], Iterable[Answer]]:
    def convert(value: Any, view: View) -> Iterable[Answer]:
        if part not in OURS or not _trains_parts(view):
            return [Left("not yet", "this text encoder is not trained")] if _lost(view) else []
        if value and _has_no_adapter(part, view):
            return [Left("not yet", "no adapter is known for this text encoder; it stays as it is")]
        return [Put(f"parts.{OURS[part]}.train", bool(value))]

    def _lost(view: View) -> bool:
        return _trains_parts(view) and bool(view[f"{part}.train"])

    return convert


def _has_no_adapter(part: str, view: View) -> bool:
    family = family_of(view)
    if family is None or not is_lora(view):
        return False
    targets = {one.name: one.lora_targets for one in family.text_encoders}
    return not targets.get(OURS[part])


def _trains(part: str) -> Callable[[View], bool]:
    return lambda view: part in OURS and _trains_parts(view) and bool(view[f"{part}.train"])


def _stops(part: str) -> Callable[[Any, View], Iterable[Answer]]:
    def convert(value: Any, view: View) -> Iterable[Answer]:
        if _has_no_adapter(part, view) and part in ENCODERS:
            return []
        stop = stop_after(value, str(view[f"{part}.stop_training_after_unit"]), view)
        if stop is None or isinstance(stop, Left):
            return [] if stop is None else [stop]
        place = f"parts.{OURS[part]}.stop_after"
        return [Put(f"{place}.n", stop.n, stop.note), Put(f"{place}.unit", stop.unit)]

    return convert


def _rate(part: str) -> Callable[[Any, View], Iterable[Answer]]:
    def convert(value: Any, view: View) -> Iterable[Answer]:
        if value is None or steps_by_itself(view) or value == view["learning_rate"]:
            return []
        if _has_no_adapter(part, view) and part in ENCODERS:
            return []
        if has_one_rate(view):
            return [Left("different", "this optimizer finds one learning rate for all parts")]
        return [Put(f"parts.{OURS[part]}.learning_rate", value)]

    return convert


def _checkpointing(value: Any, view: View) -> Iterable[Answer]:
    return [Put("train.gradient_checkpointing", bool(value))]


def _denoiser_dtype(value: Any, view: View) -> Iterable[Answer]:
    if method_of(view) == "full" and value not in QUANTIZED:
        return trained_dtype(value, view)
    if value in QUANTIZED:
        return _quantized(str(value), view)
    plain = Put("train.base_weights", "train_dtype")
    if value in ("FLOAT_32", "NONE") or DTYPES.get(value) == DTYPES.get(view["train_dtype"]):
        return [plain]
    if value in DTYPES:
        return [plain, Left("different", "frozen weights have the type train_dtype")]
    return [Left("not yet", "GGUF and other types of weights; train.base_weights has int8, float8")]


def _quantized(value: str, view: View) -> Iterable[Answer]:
    if not is_lora(view):
        return [Left("different", "only weights that stay as they are can have fewer bits here")]
    put = Put("train.base_weights", QUANTIZED[value], f"was {value}" if value in TOLD else "")
    return [put, TOLD[value]] if value in TOLD else [put]


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
        "train_embedding": only(_has_words, later(True, "words train in all text encoders")),
        "attention_mask": unlike(False, "tokens behind a prompt are hidden as diffusers does it"),
        "guidance_scale": unlike(1.0, "a distilled model is trained with its guidance at 1"),
        "offload_fraction": need(0.0, _ENCODED if encoder else _OFFLOADING),
        "activation_offloading": need(False, _ENCODED if encoder else _OFFLOADING),
    }


def _has_words(view: View) -> bool:
    return method_of(view) == "embedding" or bool(view["additional_embeddings"])


def _denoiser(name: str) -> dict[str, Row]:
    return {
        "train": Row(True, _denoiser_trains),
        "stop_training_after": only(_trains(name), Row(0, _stops(name))),
        "stop_training_after_unit": taken("NEVER"),
        "learning_rate": only(_trains(name), Row(None, _rate(name))),
        "weight_dtype": Row("FLOAT_32", _denoiser_dtype),
        "dropout_probability": unneeded(0.0, "only text encoders read it"),
        "gradient_checkpointing": Row(True, _checkpointing),
        **_common(),
    }


def _encoder(name: str) -> dict[str, Row]:
    dtype = unlike("FLOAT_32", "data.encode_dtype is the type for VAE and text encoders", ("NONE",))
    first = name == ENCODERS[0]
    return {
        "train": Row(True, _encoder_trains(name)),
        "stop_training_after": only(_trains(name), Row(30, _stops(name))),
        "stop_training_after_unit": taken("EPOCH"),
        "learning_rate": only(_trains(name), Row(None, _rate(name))),
        "weight_dtype": dtype,
        "dropout_probability": Row(0.0, _caption_dropout) if first else taken(0.0),
        "gradient_checkpointing": unneeded(
            True, "train.gradient_checkpointing is for all parts", quiet=(False,)
        ),
        **_common(encoder=True),
    }


def _frozen() -> dict[str, Row]:
    """The VAE and the parts of other families, of which nothing trains."""
    return {
        "train": unneeded(True, "this part is never trained", quiet=(False,)),
        "stop_training_after": unneeded(None, "this part is never trained", quiet=(0,)),
        "stop_training_after_unit": unneeded("NEVER", "this part is never trained"),
        "learning_rate": unneeded(None, "this part is never trained"),
        "weight_dtype": later("FLOAT_32", _ELSEWHERE),
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
