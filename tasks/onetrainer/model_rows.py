"""Model and output: `model_type`, `base_model_name`, `output_model_format` and the like."""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from tasks.config.layers import SCHEME
from tasks.onetrainer.paths import HUB_NAME, is_there
from tasks.onetrainer.rows import Answer, Left, Put, Row, Table, View, unlike, unneeded

if TYPE_CHECKING:
    from tasks.families.base import Family

FAMILIES = {
    "STABLE_DIFFUSION_15": "sd15",
    "STABLE_DIFFUSION_15_INPAINTING": "sd15_inpaint",
    "STABLE_DIFFUSION_20": "sd2",
    "STABLE_DIFFUSION_20_BASE": "sd2",
    "STABLE_DIFFUSION_21": "sd2",
    "STABLE_DIFFUSION_21_BASE": "sd2",
    "STABLE_DIFFUSION_XL_10_BASE": "sdxl",
    "STABLE_DIFFUSION_XL_10_BASE_INPAINTING": "sdxl_inpaint",
    "STABLE_DIFFUSION_3": "sd3",
    "STABLE_DIFFUSION_35": "sd35",
    "FLUX_DEV_1": "flux_dev",
    "FLUX_2": "flux2",
    "PIXART_ALPHA": "pixart_alpha",
    "PIXART_SIGMA": "pixart_sigma",
    "SANA": "sana",
    "CHROMA_1": "chroma",
    "QWEN": "qwen_image",
    "Z_IMAGE": "z_image",
}
"""OneTrainer's model types as families of ours, where there are such."""
BY_NAME = {("flux_dev", "schnell"): "flux_schnell", ("flux2", "klein"): "flux2_klein"}
"""Families that OneTrainer takes for another: by that one and a part of the base model's name."""

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

FORMATS = {
    "DIFFUSERS": "diffusers",
    "ORIGINAL_SINGLE_FILE": "single_file",
    "ORIGINAL_TRANSFORMER": "single_file",
    "COMFY_TRANSFORMER": "single_file",
    "LEGACY_SAFETENSORS": "single_file",
    "SAFETENSORS": "embedding",
    "KOHYA_LORA": "kohya_lora",
    "DIFFUSERS_LORA": "diffusers_lora",
}
DTYPES = {"FLOAT_32": "float32", "FLOAT_16": "float16", "BFLOAT_16": "bfloat16"}
KINDS = {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr"}
METHODS = {"LORA": "lora", "FINE_TUNE": "full", "EMBEDDING": "embedding"}


def parts_of(model_type: str) -> tuple[str, ...]:
    """The parts that a model type has, under OneTrainer's names."""
    found = (parts for start, parts in _PARTS.items() if model_type.startswith(start))
    return next(found, ("text_encoder", "transformer", "vae"))


def denoiser_of(view: View) -> str:
    """OneTrainer's name of the part that Tilewright calls the denoiser."""
    parts = parts_of(str(view["model_type"]))
    return next(part for part in parts if part in ("unet", "transformer", "prior"))


def method_of(view: View) -> str | None:
    """Our `train.method.kind`; None where OneTrainer trains something that is not trained here."""
    if not is_lora(view):
        return METHODS.get(str(view["training_method"]))
    return KINDS.get(str(view["peft_type"]), "lora")


def is_lora(view: View) -> bool:
    """Whether the file trains an adapter."""
    return bool(view["training_method"] == "LORA")


def family_of(view: View) -> "Family | None":
    """Our family of the file's model; None where it is not there yet."""
    from tasks.families import FAMILIES as OURS

    name = FAMILIES.get(str(view["model_type"]), "")
    base = str(view["base_model_name"]).lower()
    for (family, part), own in BY_NAME.items():
        if family == name and part in base:
            name = own
    return OURS.get(name)


def _family(value: Any, view: View) -> Iterable[Answer]:
    from tasks.families import FAMILIES as OURS

    if (family := family_of(view)) is not None:
        return [Put("model.family", family.name, always=True)]
    known = ", ".join(sorted(OURS))
    why = (
        f"this version trains {known}; the file keeps everything else, and commands refuse it "
        "until the family is there"
    )
    return [Put("model.family", str(value).lower(), "not there yet"), Left("not yet", why)]


def _base(value: Any, view: View) -> Iterable[Answer]:
    text = str(value)
    is_hub_name = HUB_NAME.fullmatch(text) and not is_there(view.paths.real(text))
    if not text or is_hub_name or SCHEME.match(text):
        return [Put("model.base", text, always=True)]
    return [Put("model.base", view.paths.written(text), view.paths.note(text), always=True)]


def output_format(view: View) -> str | None:
    """Our format of what the file trains: the one it names, else the usual one of the method."""
    from tasks.families.output_formats import allowed_formats

    kind, family = method_of(view), family_of(view)
    if kind is None:
        return None
    wanted = FORMATS.get(str(view["output_model_format"]), "")
    if is_lora(view) and wanted == "diffusers":
        wanted = "diffusers_lora"
    usual = {"full": ["diffusers"], "embedding": ["embedding"]}.get(kind, ["kohya_lora"])
    if family is None and is_lora(view):
        usual = ["kohya_lora", "diffusers_lora"]
    allowed = usual if family is None else allowed_formats(family, kind)
    return wanted if wanted in allowed else next(iter(allowed), None)


def _format(value: Any, view: View) -> Iterable[Answer]:
    ours = output_format(view)
    if ours is None:
        return []
    if FORMATS.get(str(value)) == ours or (is_lora(view) and value == "DIFFUSERS"):
        return [Put("model.output_format", ours)]
    if method_of(view) == "full":
        why = "a single file of this family is not written; diffusers reads the folder"
        return [Put("model.output_format", ours, f"was {value}"), Left("not yet", why)]
    readers = {"kohya_lora": "the layout that WebUI, Forge and ComfyUI read"}
    return [
        Put("model.output_format", ours, f"was {value}; {readers.get(ours, 'its layout here')}")
    ]


def _output(value: Any, view: View) -> Iterable[Answer]:
    text = view.paths.written(str(value))
    path = PurePosixPath(text)
    if output_format(view) == "diffusers" or _trains_several_words(view):
        note = "a folder" if path.suffix in (".safetensors", ".ckpt") else ""
        return [Put("model.output", str(path.with_suffix("")) if note else text, note, always=True)]
    if path.suffix == ".safetensors":
        return [Put("model.output", text, always=True)]
    stem = path.with_suffix("") if path.suffix == ".ckpt" else path
    return [Put("model.output", f"{stem}.safetensors", f"was {value}", always=True)]


def _trains_several_words(view: View) -> bool:
    """Whether words are all that is trained, and more than one."""
    return view["training_method"] == "EMBEDDING" and bool(view["additional_embeddings"])


def _output_dtype(value: Any, view: View) -> Iterable[Answer]:
    if value in DTYPES:
        return [Put("model.output_dtype", DTYPES[value])]
    why = "weights come out as float32, float16 or bfloat16"
    return [Put("model.output_dtype", "float16", f"was {value}"), Left("not yet", why)]


MODEL: Table = {
    "model_type": Row("STABLE_DIFFUSION_15", _family),
    "base_model_name": Row("stable-diffusion-v1-5/stable-diffusion-v1-5", _base),
    "output_model_format": Row("SAFETENSORS", _format),
    "output_model_destination": Row("models/model.safetensors", _output),
    "output_dtype": Row("FLOAT_32", _output_dtype),
    "include_train_config": unlike(
        "NONE", "the model's header names the run and the dataset; their settings are in the store"
    ),
    "save_filename_prefix": unlike("", "models in between are in folders named by their step"),
    "prevent_overwrites": unneeded(
        False, "a file that Tilewright did not write is never overwritten"
    ),
}
