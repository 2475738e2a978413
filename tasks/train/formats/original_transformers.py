"""diffusers' transformers in the layout that their makers published, as tables.

A row gives a module of the original and diffusers' modules whose outputs it holds, one behind the
other. `{}` is the number of a block. Sources: the released checkpoints of Stability AI (SD 3) and
Black Forest Labs (FLUX.1), and Chroma's, as diffusers reads them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one architecture is laid out."""

    modules: Mapping[str, tuple[str, ...]]
    """Original module to diffusers' modules."""
    tensors: Mapping[str, str]
    """The same for tensors that are no weight and bias of a module."""


def _qkv(attention: str) -> tuple[str, str, str]:
    return f"{attention}.to_q", f"{attention}.to_k", f"{attention}.to_v"


def _added_qkv(attention: str) -> tuple[str, str, str]:
    return tuple(f"{attention}.add_{one}_proj" for one in "qkv")  # type: ignore[return-value]


_JOINT = "transformer_blocks.{}"
_X, _CONTEXT = "joint_blocks.{}.x_block", "joint_blocks.{}.context_block"
_EMBEDDERS = "time_text_embed"

SD3 = Layout(
    modules={
        "x_embedder.proj": ("pos_embed.proj",),
        "t_embedder.mlp.0": (f"{_EMBEDDERS}.timestep_embedder.linear_1",),
        "t_embedder.mlp.2": (f"{_EMBEDDERS}.timestep_embedder.linear_2",),
        "y_embedder.mlp.0": (f"{_EMBEDDERS}.text_embedder.linear_1",),
        "y_embedder.mlp.2": (f"{_EMBEDDERS}.text_embedder.linear_2",),
        "context_embedder": ("context_embedder",),
        f"{_X}.attn.qkv": _qkv(f"{_JOINT}.attn"),
        f"{_X}.attn.proj": (f"{_JOINT}.attn.to_out.0",),
        f"{_X}.attn2.qkv": _qkv(f"{_JOINT}.attn2"),
        f"{_X}.attn2.proj": (f"{_JOINT}.attn2.to_out.0",),
        f"{_X}.mlp.fc1": (f"{_JOINT}.ff.net.0.proj",),
        f"{_X}.mlp.fc2": (f"{_JOINT}.ff.net.2",),
        f"{_X}.adaLN_modulation.1": (f"{_JOINT}.norm1.linear",),
        f"{_CONTEXT}.attn.qkv": _added_qkv(f"{_JOINT}.attn"),
        f"{_CONTEXT}.attn.proj": (f"{_JOINT}.attn.to_add_out",),
        f"{_CONTEXT}.mlp.fc1": (f"{_JOINT}.ff_context.net.0.proj",),
        f"{_CONTEXT}.mlp.fc2": (f"{_JOINT}.ff_context.net.2",),
        f"{_CONTEXT}.adaLN_modulation.1": (f"{_JOINT}.norm1_context.linear",),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    },
    tensors={
        "pos_embed": "pos_embed.pos_embed",
        f"{_X}.attn.ln_q.weight": f"{_JOINT}.attn.norm_q.weight",
        f"{_X}.attn.ln_k.weight": f"{_JOINT}.attn.norm_k.weight",
        f"{_X}.attn2.ln_q.weight": f"{_JOINT}.attn2.norm_q.weight",
        f"{_X}.attn2.ln_k.weight": f"{_JOINT}.attn2.norm_k.weight",
        f"{_CONTEXT}.attn.ln_q.weight": f"{_JOINT}.attn.norm_added_q.weight",
        f"{_CONTEXT}.attn.ln_k.weight": f"{_JOINT}.attn.norm_added_k.weight",
    },
)

_DOUBLE, _SINGLE = "double_blocks.{}", "single_blocks.{}"
_ALONE = "single_transformer_blocks.{}"

FLUX = Layout(
    modules={
        "img_in": ("x_embedder",),
        "txt_in": ("context_embedder",),
        "time_in.in_layer": (f"{_EMBEDDERS}.timestep_embedder.linear_1",),
        "time_in.out_layer": (f"{_EMBEDDERS}.timestep_embedder.linear_2",),
        "vector_in.in_layer": (f"{_EMBEDDERS}.text_embedder.linear_1",),
        "vector_in.out_layer": (f"{_EMBEDDERS}.text_embedder.linear_2",),
        "guidance_in.in_layer": (f"{_EMBEDDERS}.guidance_embedder.linear_1",),
        "guidance_in.out_layer": (f"{_EMBEDDERS}.guidance_embedder.linear_2",),
        f"{_DOUBLE}.img_mod.lin": (f"{_JOINT}.norm1.linear",),
        f"{_DOUBLE}.txt_mod.lin": (f"{_JOINT}.norm1_context.linear",),
        f"{_DOUBLE}.img_attn.qkv": _qkv(f"{_JOINT}.attn"),
        f"{_DOUBLE}.txt_attn.qkv": _added_qkv(f"{_JOINT}.attn"),
        f"{_DOUBLE}.img_attn.proj": (f"{_JOINT}.attn.to_out.0",),
        f"{_DOUBLE}.txt_attn.proj": (f"{_JOINT}.attn.to_add_out",),
        f"{_DOUBLE}.img_mlp.0": (f"{_JOINT}.ff.net.0.proj",),
        f"{_DOUBLE}.img_mlp.2": (f"{_JOINT}.ff.net.2",),
        f"{_DOUBLE}.txt_mlp.0": (f"{_JOINT}.ff_context.net.0.proj",),
        f"{_DOUBLE}.txt_mlp.2": (f"{_JOINT}.ff_context.net.2",),
        f"{_SINGLE}.modulation.lin": (f"{_ALONE}.norm.linear",),
        f"{_SINGLE}.linear1": (*_qkv(f"{_ALONE}.attn"), f"{_ALONE}.proj_mlp"),
        f"{_SINGLE}.linear2": (f"{_ALONE}.proj_out",),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    },
    tensors={
        f"{_DOUBLE}.img_attn.norm.query_norm.scale": f"{_JOINT}.attn.norm_q.weight",
        f"{_DOUBLE}.img_attn.norm.key_norm.scale": f"{_JOINT}.attn.norm_k.weight",
        f"{_DOUBLE}.txt_attn.norm.query_norm.scale": f"{_JOINT}.attn.norm_added_q.weight",
        f"{_DOUBLE}.txt_attn.norm.key_norm.scale": f"{_JOINT}.attn.norm_added_k.weight",
        f"{_SINGLE}.norm.query_norm.scale": f"{_ALONE}.attn.norm_q.weight",
        f"{_SINGLE}.norm.key_norm.scale": f"{_ALONE}.attn.norm_k.weight",
    },
)

_GUIDANCE = "distilled_guidance_layer"

CHROMA = Layout(
    modules={
        # FLUX.1 without its modulations, in the place of which stands one guidance layer.
        **FLUX.modules,
        f"{_GUIDANCE}.in_proj": (f"{_GUIDANCE}.in_proj",),
        f"{_GUIDANCE}.out_proj": (f"{_GUIDANCE}.out_proj",),
        f"{_GUIDANCE}.layers.{{}}.in_layer": (f"{_GUIDANCE}.layers.{{}}.linear_1",),
        f"{_GUIDANCE}.layers.{{}}.out_layer": (f"{_GUIDANCE}.layers.{{}}.linear_2",),
    },
    tensors={
        **FLUX.tensors,
        f"{_GUIDANCE}.norms.{{}}.scale": f"{_GUIDANCE}.norms.{{}}.weight",
    },
)

LAYOUTS: Mapping[str, Layout] = {
    "StableDiffusion3Pipeline": SD3,
    "FluxPipeline": FLUX,
    "ChromaPipeline": CHROMA,
}
"""Pipeline to the layout of its transformer."""


def original_modules(layout: Layout, modules: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Original module to diffusers' modules, for the modules that there are."""
    found = {}
    for original, parts in layout.modules.items():
        for number in range(_count(parts[0], modules)):
            names = tuple(part.format(number) for part in parts)
            if names[0] in modules:
                found[original.format(number)] = names
    return found


def original_transformer(layout: Layout, state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The state dict in the original layout; ValueError for a tensor that has no place in it."""
    import torch

    modules = {name.rpartition(".")[0] for name in state}
    used, found = set(), {}
    for original, parts in original_modules(layout, modules).items():
        is_swapped = has_swapped_halves(original, state[f"{parts[0]}.weight"].shape)
        for kind in ("weight", "bias"):
            names = [f"{part}.{kind}" for part in parts if f"{part}.{kind}" in state]
            if names:
                used.update(names)
                joined = torch.cat([state[name] for name in names])
                halves = joined.chunk(2)
                found[f"{original}.{kind}"] = torch.cat(halves[::-1]) if is_swapped else joined
    for original, name in layout.tensors.items():
        for number in range(_count(name, modules)):
            if name.format(number) in state:
                used.add(name.format(number))
                found[original.format(number)] = state[name.format(number)]
    if left := sorted(state.keys() - used):
        raise ValueError(f"{left[0]!r}: no tensor that has a place in the original layout")
    return found


def has_swapped_halves(original: str, shape: Sequence[int]) -> bool:
    """Whether a module is a modulation (shift, scale) there and (scale, shift) in diffusers."""
    return "adaLN" in original and shape[0] == 2 * shape[-1]


def _count(name: str, modules: Collection[str]) -> int:
    """How many blocks there may be; 1 for a name without number."""
    head, number, _ = name.partition("{}")
    if not number:
        return 1
    return 1 + max(
        (int(one[len(head) :].split(".")[0]) for one in modules if one.startswith(head)), default=-1
    )
