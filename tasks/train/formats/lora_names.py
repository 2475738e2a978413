"""Names of adapted modules in LoRA files, both ways, made from the names in the base model.

kohya's rule, which A1111, Forge and ComfyUI read: `lora_unet_`, `lora_te_` (one text encoder) or
`lora_te1_`, `lora_te2_`, ..., then the module's path with `_` for `.`; of the UNet it is diffusers'
path for SD 1 and 2, and that of the original layout for SDXL and for transformers, which have
several of diffusers' modules in one of theirs. LyCORIS' rule for transformers: `lycoris_`, then
diffusers' path.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.families.base import Family
from tasks.families.sources import ModelSource, read_config
from tasks.train.formats.original_names import original_unet_name
from tasks.train.formats.original_transformers import (
    LAYOUTS,
    has_swapped_halves,
    original_modules,
)
from tasks.train.formats.skeleton import adaptable_shapes, build_skeleton

DENOISER = "denoiser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """What one name in a LoRA file stands for."""

    part: str
    """denoiser, text_encoder_1, ..."""
    modules: tuple[str, ...]
    """Several: their outputs behind each other are the output of the one original module."""
    sizes: tuple[int, ...]
    """Their numbers of outputs."""
    has_swapped_halves: bool = False


def kohya_names(family: Family, source: ModelSource, *, fused: bool = True) -> dict[str, Adapted]:
    """The names that a file in kohya's layout can have to what they stand for in this model.

    Without `fused` the modules of transformers have LyCORIS' names, each by itself.
    """
    names = _denoiser_names(family, source, fused)
    for encoder in family.text_encoders:
        if encoder.lora_targets:
            prefix = _encoder_prefix(family, source, encoder.name)
            shapes = adaptable_shapes(build_skeleton(source, encoder.model))
            for module, shape in shapes.items():
                path = encoder_path(source, encoder.model, module)
                names[prefix + _flat(path)] = _single(encoder.name, module, shape)
    return names


def encoder_path(source: ModelSource, component: str, module: str) -> str:
    """A text encoder's module as files name it: CLIP's lost `text_model.` in transformers 5.6."""
    if read_config(source, component).get("model_type") != "clip_text_model":
        return module
    is_outside = module.startswith(("text_model.", "text_projection"))
    return module if is_outside else f"text_model.{module}"


def diffusers_prefixes(family: Family) -> dict[str, str]:
    """Part to the first component of its names in diffusers' layout."""
    return {DENOISER: family.denoiser, **{one.name: one.model for one in family.text_encoders}}


def _denoiser_names(family: Family, source: ModelSource, fused: bool) -> dict[str, Adapted]:
    shapes = adaptable_shapes(build_skeleton(source, family.denoiser))
    config = read_config(source, family.denoiser)
    if family.denoiser != "unet":
        layout = LAYOUTS.get(family.pipeline) if fused and family.kohya_names else None
        if layout is None:
            return {f"lycoris_{_flat(one)}": _single(DENOISER, one, shapes[one]) for one in shapes}
        return {
            f"lora_unet_{_flat(original)}": Adapted(
                part=DENOISER,
                modules=modules,
                sizes=tuple(shapes[module][0] for module in modules),
                has_swapped_halves=has_swapped_halves(original, shapes[modules[0]]),
            )
            for original, modules in original_modules(layout, shapes).items()
        }
    is_original = family.kohya_names == "original"
    return {
        f"lora_unet_{_flat(original_unet_name(one, config) if is_original else one)}": _single(
            DENOISER, one, shapes[one]
        )
        for one in shapes
    }


def _encoder_prefix(family: Family, source: ModelSource, name: str) -> str:
    if len(family.text_encoders) == 1:
        return "lora_te_"
    numbers: Mapping[str, int] = {
        one.name: number for number, one in enumerate(family.text_encoders, start=1)
    }
    component = next(one.model for one in family.text_encoders if one.name == name)
    # T5 is the third one in all of kohya's tools, also where there is no second.
    is_t5 = read_config(source, component).get("model_type") == "t5"
    return f"lora_te{3 if is_t5 else numbers[name]}_"


def _single(part: str, module: str, shape: tuple[int, ...]) -> Adapted:
    return Adapted(part=part, modules=(module,), sizes=(shape[0],))


def _flat(path: str) -> str:
    return path.replace(".", "_")
