"""Which output formats can hold what a training method makes of a family, and why others cannot.

Facts only: the writers are in `tasks/train/formats`.
"""

from collections.abc import Mapping

from tasks.families.base import Family

FORMAT_METHODS: Mapping[str, tuple[str, ...]] = {
    "diffusers": ("full",),
    "single_file": ("full",),
    "kohya_lora": ("lora", "loha", "lokr"),
    "diffusers_lora": ("lora",),
    "embedding": ("embedding",),
}
"""Output format to the kinds of `[train.method]` whose result it holds."""

SINGLE_FILE_PIPELINES: Mapping[str, str] = {
    "StableDiffusionPipeline": "whole model",
    "StableDiffusionInpaintPipeline": "whole model",
    "StableDiffusionXLPipeline": "whole model",
    "StableDiffusionXLInpaintPipeline": "whole model",
    "StableDiffusion3Pipeline": "transformer",
    "FluxPipeline": "transformer",
    "ChromaPipeline": "transformer",
}
"""Pipeline to what its single file in the original layout holds. Transformers are published
without their text encoders and VAE."""

_HOLDS = {
    "diffusers": "a whole model",
    "single_file": "a whole model",
    "kohya_lora": "adapters",
    "diffusers_lora": "LoRA adapters",
    "embedding": "trained words",
}


def allowed_formats(family: Family, method_kind: str) -> list[str]:
    """The output formats for this family and `train.method.kind`, the usual one first."""
    return [name for name in FORMAT_METHODS if why_not(family, method_kind, name) is None]


def why_not(family: Family, method_kind: str, output_format: str) -> str | None:
    """Why a format cannot hold what the method makes of this family; None when it can."""
    if method_kind in ("loha", "lokr") and output_format == "diffusers_lora":
        return f"stock diffusers loads no {method_kind} into a {family.pipeline}"
    if method_kind not in FORMAT_METHODS[output_format]:
        holds = _HOLDS[output_format]
        return f'it holds {holds}, not what train.method.kind = "{method_kind}" trains'
    if output_format == "single_file" and family.pipeline not in SINGLE_FILE_PIPELINES:
        return f"no single file in an original layout is known for {family.pipeline}"
    if output_format == "kohya_lora" and method_kind == "lora" and family.kohya_names is None:
        return f"kohya's tools have no LoRA layout for {family.name}"
    return None
