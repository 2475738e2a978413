"""What is trained: the method, kinds of adapters and their options, and filters of layers."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from tasks.onetrainer.model_rows import is_lora, method_of
from tasks.onetrainer.rows import (
    Answer,
    Left,
    Put,
    Row,
    Table,
    View,
    later,
    only,
    same,
    taken,
    unlike,
    unneeded,
)

_FLUX = {"attn-mlp": ("attn", r"ff\.net"), "attn-only": ("attn",), "blocks": ("transformer_block",)}
LAYERS: dict[str, dict[str, tuple[str, ...]]] = {
    "STABLE_DIFFUSION_3": _FLUX,
    "STABLE_DIFFUSION_": {"attn-mlp": ("attentions",), "attn-only": ("attn",)},
    "FLUX_2": {"blocks": ("transformer_block",)},
    "FLUX_": _FLUX,
    "CHROMA_1": _FLUX,
    "PIXART_": {**_FLUX, "attn-mlp": ("attn[12]", r"ff\.net"), "attn-only": ("attn[12]",)},
    "SANA": {
        "attn-mlp": ("attn[12]", r"ff\.conv_(inverted|point)"),
        "attn-only": ("attn[12]",),
        "blocks": ("transformer_block(?!.*conv_depth)",),
        "full": ("^(?!.*conv_depth)",),
    },
    "QWEN": {**_FLUX, "attn-mlp": ("attn", "img_mlp", "txt_mlp")},
    "Z_IMAGE": {
        "attn-mlp": ("^(?!.*refiner).*attention", "^(?!.*refiner).*feed_forward"),
        "attn-only": ("^(?!.*refiner).*attention",),
        "blocks": ("layers",),
    },
}
"""What OneTrainer's presets of layers look for in names, by the start of the model type.

peft has no LoRA for convolutions in groups, so Sana's `conv_depth` is left out.
"""
ALL = "."
"""As a filter: an adapter sits on every layer that it can."""
USUAL = ["attentions"]
"""These are the layers that a LoRA of a UNet has here anyway."""

_LOKR = "peft's LoKr has no such option"
_OFT = "an option of OFT, which is not there"


def _method(value: Any, view: View) -> Iterable[Answer]:
    if (kind := method_of(view)) is not None:
        return [Put("train.method.kind", kind, always=True)]
    # The denoiser stays as it is in these methods, and commands refuse a file that says so.
    frozen = Put("parts.denoiser.train", False, f"{value} trains something else, which is not yet")
    why = "this version trains no VAE; commands refuse the file"
    return [frozen, Left("not yet", why)]


def _peft(value: Any, view: View) -> Iterable[Answer]:
    if value in ("LORA", "LOHA", "LOKR"):
        return []
    return [Left("not yet", "LoRA, LoHa and LoKr are there; a LoRA stands in its place")]


def _initial(value: Any, view: View) -> Iterable[Answer]:
    text = str(value)
    if not text:
        return []
    if not text.endswith(".safetensors"):
        return [Left("different", "an adapter to go on from must be a .safetensors file")]
    note = view.paths.note(text) or "of this kind and rank, in diffusers' or kohya's layout"
    return [Put("train.method.initial", view.paths.written(text), note)]


def _layers(value: Any, view: View) -> Iterable[Answer]:
    if method_of(view) in (None, "embedding"):
        return []
    filters = _filters(str(value), view)
    if filters is None:
        why = "the import does not know these layers; name them in train.method.layers"
        return [Left("different", why)]
    if is_lora(view):
        filters = [] if filters == USUAL else filters or [ALL]
    return [Put("train.method.layers", filters)]


def _filters(preset: str, view: View) -> list[str] | None:
    """The regular expressions that choose layers, none for all; None: they are not known.

    For a preset OneTrainer's window repeats in `layer_filter` what it looks for.
    """
    parts = [part.strip() for part in str(view["layer_filter"]).split(",")]
    own = [part for part in parts if part]
    if not view["layer_filter_regex"]:
        own = [re.escape(part) for part in own]
    if preset == "custom" or not view.says("layer_filter_preset"):
        return [_pattern(part) for part in own]
    presets = (LAYERS[one] for one in LAYERS if str(view["model_type"]).startswith(one))
    known = next(presets, {}).get(preset)
    if preset == "full":
        return list(known) if known and is_lora(view) else []
    return list(known) if known else own or None


def _pattern(text: str) -> str:
    """The text; ValueError where it is no regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None
    return text


def trained_dtype(value: Any, view: View) -> Iterable[Answer]:
    """What the data type of trained weights becomes."""
    if value not in ("FLOAT_32", "NONE", "BFLOAT_16"):
        return [Left("different", "trained weights are float32 or bfloat16")]
    if value == "BFLOAT_16" and view["train_dtype"] == "FLOAT_16":
        why = "beside a forward pass in float16 they stay float32; or set train_dtype to bfloat16"
        return [Left("different", why)]
    note = "rounded stochastically" if value == "BFLOAT_16" else ""
    dtype = "bfloat16" if value == "BFLOAT_16" else "float32"
    return [Put("train.weight_dtype", dtype, note)]


def _dropout(value: Any, view: View) -> Iterable[Answer]:
    if not value:
        return []
    if method_of(view) != "lora":
        return [Left("not yet", "drop-out inside LoHa and LoKr")]
    note = "of an adapter's inputs; OneTrainer's is between its two matrices"
    return [Put("train.method.dropout", value, note)]


def _dora(value: Any, view: View) -> Iterable[Answer]:
    if not value:
        return []
    axis = view["lora_decompose_output_axis"]
    note = "" if axis else "one magnitude per output, where OneTrainer has one per input"
    return [Put("train.method.dora", True, note)]


def _kind(*kinds: str) -> Callable[[View], bool]:
    """Whether the file trains an adapter of one of these kinds of OneTrainer's."""
    return lambda view: is_lora(view) and str(view["peft_type"]) in kinds


def _where(kind: str, rows: dict[str, Row]) -> dict[str, Row]:
    return {key: only(_kind(kind), row) for key, row in rows.items()}


METHOD: Table = {
    "training_method": Row("FINE_TUNE", _method),
    "peft_type": only(is_lora, Row("LORA", _peft)),
    "lora_rank": only(_kind("LORA", "LOHA", "OFT_2"), same("train.method.rank", 16)),
    "lora_alpha": only(is_lora, same("train.method.alpha", 1.0)),
    "lora_model_name": only(is_lora, Row("", _initial)),
    "lora_weight_dtype": only(is_lora, Row("FLOAT_32", trained_dtype)),
    "dropout_probability": only(is_lora, Row(0.0, _dropout)),
    "lora_decompose": only(_kind("LORA"), Row(False, _dora)),
    "lora_decompose_norm_epsilon": unneeded(
        True, "peft guards the division by itself", quiet=(False,)
    ),
    "lora_decompose_output_axis": taken(False),
    "layer_filter_preset": Row("full", _layers),
    "layer_filter": taken(""),
    "layer_filter_regex": taken(False),
    **_where(
        "LOKR",
        {
            "lokr_dim": same("train.method.rank", 16),
            "lokr_decompose_factor": same("train.method.factor", -1),
            "lokr_decompose_both": later(False, _LOKR),
            "lokr_use_tucker": later(False, _LOKR),
            "lokr_weight_decompose": later(False, "DoRA of a LoKr"),
            "lokr_dora_on_output": taken(True),
            "lokr_full_matrix": unlike(
                False, "a rank that is larger than the layer makes the matrix a full one"
            ),
            "lokr_vec_trick": unneeded(True, "only speed", quiet=(False,)),
        },
    ),
    **_where(
        "OFT_2",
        {
            "oft_block_size": later(32, _OFT),
            "oft_block_share": later(False, _OFT),
            "dora_oft": later(False, _OFT),
            "oft_scaled": later(False, _OFT),
            "oft_clipped_norm": later(0.95, _OFT),
            "oft_cans": later(False, _OFT),
        },
    ),
}
