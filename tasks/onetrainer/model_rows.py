"""Model, method and output: `model_type`, `training_method`, `output_model_format` and the like."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from tasks.config.layers import SCHEME
from tasks.onetrainer.paths import HUB_NAME, is_fixed, is_there
from tasks.onetrainer.rows import Answer, Left, Put, Row, Table, View, later, unlike, unneeded

FAMILIES = {
    "STABLE_DIFFUSION_15": "sd15",
    "STABLE_DIFFUSION_20": "sd2",
    "STABLE_DIFFUSION_20_BASE": "sd2",
    "STABLE_DIFFUSION_21": "sd2",
    "STABLE_DIFFUSION_21_BASE": "sd2",
    "STABLE_DIFFUSION_XL_10_BASE": "sdxl",
}
"""OneTrainer's model types that Tilewright trains."""

PRESETS = {
    ("sd15", "lora"): "sd15-lora",
    ("sd2", "lora"): "sd15-lora",
    ("sdxl", "lora"): "sdxl-lora",
}
"""The preset that fits a family and a method."""

METHODS = {"LORA": "lora", "FINE_TUNE": "full"}

_TWO = ("text_encoder", "text_encoder_2")
_THREE = (*_TWO, "text_encoder_3")
_WUERSTCHEN = ("text_encoder", "prior", "effnet_encoder", "decoder", "decoder_vqgan")
_PARTS = {
    "STABLE_DIFFUSION_3": (*_THREE, "transformer", "vae"),
    "STABLE_DIFFUSION_35": (*_THREE, "transformer", "vae"),
    "STABLE_DIFFUSION_XL": (*_TWO, "unet", "vae"),
    "STABLE_DIFFUSION_1": ("text_encoder", "unet", "vae"),
    "STABLE_DIFFUSION_2": ("text_encoder", "unet", "vae"),
    "WUERSTCHEN_2": (*_WUERSTCHEN, "decoder_text_encoder"),
    "STABLE_CASCADE_1": _WUERSTCHEN,
    "FLUX_2": ("text_encoder", "transformer", "vae"),
    "FLUX_": (*_TWO, "transformer", "vae"),
    "HUNYUAN_VIDEO": (*_TWO, "transformer", "vae"),
    "HI_DREAM_FULL": (*_THREE, "text_encoder_4", "transformer", "vae"),
}
"""The parts of a model by the start of its type's name, the first that fits; others have one text
encoder and a transformer. A saved file holds settings of all parts of all models."""

LORA_FORMATS = {
    "KOHYA_LORA": "kohya_lora",
    "DIFFUSERS_LORA": "diffusers_lora",
    "DIFFUSERS": "diffusers_lora",
}
DTYPES = {"FLOAT_32": "float32", "FLOAT_16": "float16", "BFLOAT_16": "bfloat16"}


def parts_of(model_type: str) -> tuple[str, ...]:
    """The parts that a model type has, under OneTrainer's names."""
    found = (parts for start, parts in _PARTS.items() if model_type.startswith(start))
    return next(found, ("text_encoder", "transformer", "vae"))


def denoiser_of(view: View) -> str:
    """OneTrainer's name of the part that Tilewright calls the denoiser."""
    parts = parts_of(str(view["model_type"]))
    return next(part for part in parts if part in ("unet", "transformer", "prior"))


def is_lora(view: View) -> bool:
    """Whether the file trains an adapter."""
    return bool(view["training_method"] == "LORA")


def is_quantized(dtype: Any) -> bool:
    """Whether a data type of OneTrainer's is one that Tilewright does not have yet."""
    return dtype not in (*DTYPES, "TFLOAT_32", "NONE")


def _family(value: Any, view: View) -> Iterable[Answer]:
    family = FAMILIES.get(value)
    if family is not None:
        return [Put("model.family", family, always=True)]
    known = ", ".join(sorted(set(FAMILIES.values())))
    note = f"not there yet; this version has {known}"
    why = (
        f"this version trains {known}; the file keeps everything else, and commands refuse it "
        "until the family is there"
    )
    return [Put("model.family", str(value).lower(), note), Left("not yet", why)]


def _method(value: Any, view: View) -> Iterable[Answer]:
    if value in METHODS:
        return [Put("train.method.kind", METHODS[value], always=True)]
    # The denoiser stays as it is in these methods, and commands refuse a file that says so.
    frozen = Put("parts.denoiser.train", False, f"{value} trains something else, which is not yet")
    why = "this version trains the denoiser, with a LoRA or in full; commands refuse the file"
    return [frozen, Left("not yet", why)]


def _base(value: Any, view: View) -> Iterable[Answer]:
    text = str(value)
    is_hub_name = HUB_NAME.fullmatch(text) and not is_there(view.paths.real(text))
    if not text or is_hub_name or SCHEME.match(text):
        return [Put("model.base", text, always=True)]
    return [Put("model.base", view.paths.written(text), view.paths.note(text), always=True)]


def _format(value: Any, view: View) -> Iterable[Answer]:
    method = METHODS.get(view["training_method"])
    if view["training_method"] == "EMBEDDING":
        return [Put("model.output_format", "embedding", "a later version has it")]
    if method is None:
        return []
    if method == "full":
        return _full_format(value)
    if value in LORA_FORMATS:
        return [Put("model.output_format", LORA_FORMATS[value])]
    note = f"was {value}; this is the layout that WebUI, Forge and ComfyUI read"
    return [Put("model.output_format", "kohya_lora", note)]


def _full_format(value: Any) -> Iterable[Answer]:
    if value == "DIFFUSERS":
        return [Put("model.output_format", "diffusers")]
    why = (
        "a full model comes out as a diffusers folder; a single file comes with a later version. "
        "diffusers and OneTrainer's convert tool turn the folder into one"
    )
    note = f"was {value}, which is not yet"
    return [Put("model.output_format", "diffusers", note), Left("not yet", why)]


def _output(value: Any, view: View) -> Iterable[Answer]:
    text = view.paths.written(str(value))
    path = PurePosixPath(text)
    if METHODS.get(view["training_method"]) == "full":
        note = "a folder" if path.suffix in (".safetensors", ".ckpt") else ""
        return [Put("model.output", str(path.with_suffix("")) if note else text, note, always=True)]
    if path.suffix == ".safetensors":
        return [Put("model.output", text, always=True)]
    stem = path.with_suffix("") if path.suffix == ".ckpt" else path
    return [Put("model.output", f"{stem}.safetensors", f"was {value}", always=True)]


def _output_dtype(value: Any, view: View) -> Iterable[Answer]:
    if value in DTYPES:
        return [Put("model.output_dtype", DTYPES[value])]
    why = "weights come out as float32, float16 or bfloat16"
    return [Put("model.output_dtype", "float16", f"was {value}"), Left("not yet", why)]


def _previous_lora(value: Any, view: View) -> Iterable[Answer]:
    if not value or not is_lora(view):
        return []
    where = value if is_fixed(str(value)) else view.paths.written(str(value))
    return [Left("not yet", f"training goes on from a backup of Tilewright's, not from {where}")]


MODEL: Table = {
    "model_type": Row("STABLE_DIFFUSION_15", _family),
    "training_method": Row("FINE_TUNE", _method),
    "base_model_name": Row("stable-diffusion-v1-5/stable-diffusion-v1-5", _base),
    "output_model_format": Row("SAFETENSORS", _format),
    "output_model_destination": Row("models/model.safetensors", _output),
    "output_dtype": Row("FLOAT_32", _output_dtype),
    "lora_model_name": Row("", _previous_lora),
    "include_train_config": unlike(
        "NONE", "the model's header names the run and the dataset; their settings are in the store"
    ),
    "save_filename_prefix": later("", "models in between are not saved, only backups"),
    "prevent_overwrites": unneeded(
        False, "a file that Tilewright did not write is never overwritten"
    ),
}
