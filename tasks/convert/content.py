"""Content: what a file or folder holds, by the names in it alone; no weights are read."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.families.sources import PIPELINE_FILE
from tasks.lineage.origin import METADATA_FILE
from tasks.train.formats.reading import adapter_layout

TARGETS: Mapping[str, tuple[str, ...]] = {
    "kohya_lora": ("kohya_lora", "diffusers_lora"),
    "diffusers_lora": ("diffusers_lora", "kohya_lora"),
    "diffusers": ("diffusers", "single_file"),
    "single_file": ("single_file", "diffusers"),
    "embedding": ("embedding",),
}
"""What is found to what can be made of it; the same again changes its data type."""

NAMES: Mapping[str, str] = {
    "kohya_lora": "an adapter in kohya's layout",
    "diffusers_lora": "a LoRA in diffusers' layout",
    "diffusers": "a diffusers folder",
    "single_file": "a model in the original layout",
    "embedding": "a word of textual inversion",
}

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_WORD_KEYS = {"emb_params", "clip_l", "clip_g", "t5xxl"}
_ORIGINAL = ("model.diffusion_model.", "first_stage_model.", "joint_blocks.", "double_blocks.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What was found."""

    layout: str
    """An output format."""
    dtype: str | None
    """float32, float16 or bfloat16: what most of it is; None: something else."""


def look_into(path: Path) -> Content:
    """What there is at a path; ValueError when it can be converted into nothing."""
    if path.is_dir():
        if not (path / PIPELINE_FILE).is_file():
            raise ValueError(f"{path} is a folder without {PIPELINE_FILE}, so no diffusers model")
        return Content(layout="diffusers", dtype=_folder_dtype(path))
    if not path.is_file():
        raise ValueError(f"nothing exists at {path}")
    if path.suffix == ".ckpt":
        return Content(layout="single_file", dtype=None)
    shapes, dtype = _header(path)
    layout = adapter_layout(shapes) or _whole_or_word(shapes)
    if layout is None:
        names = ", ".join(sorted(shapes)[:3])
        raise ValueError(
            f"{path} is no adapter, no model in the original layout and no word of textual "
            f"inversion; it has {len(shapes)} tensors such as {names}"
        )
    return Content(layout=layout, dtype=dtype)


def read_header(path: Path) -> dict[str, str]:
    """What a file or a folder says about itself; nothing where it says nothing."""
    from safetensors import safe_open

    if path.is_dir():
        told = path / METADATA_FILE
        return dict(json.loads(told.read_text(encoding="utf-8"))) if told.is_file() else {}
    if path.suffix == ".ckpt":
        return {}
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def _whole_or_word(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    if any(name.startswith(_ORIGINAL) for name in shapes):
        return "single_file"
    are_vectors = all(len(shape) in (1, 2) for shape in shapes.values())
    is_word = len(shapes) == 1 or shapes.keys() <= _WORD_KEYS
    return "embedding" if shapes and are_vectors and is_word else None


def _header(path: Path) -> tuple[dict[str, tuple[int, ...]], str | None]:
    """Names to shapes, and the most common data type."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            views = {name: file.get_slice(name) for name in file.offset_keys()}
            dtypes = Counter(view.get_dtype() for view in views.values())
            shapes = {name: tuple(view.get_shape()) for name, view in views.items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    return shapes, _DTYPES.get(dtypes.most_common(1)[0][0]) if dtypes else None


def _folder_dtype(folder: Path) -> str | None:
    """That of the denoiser."""
    files = [*folder.glob("unet/*.safetensors"), *folder.glob("transformer/*.safetensors")]
    return _header(min(files))[1] if files else None
