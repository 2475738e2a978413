"""Qwen-Image: a two-stream transformer on Qwen2.5-VL text, and a VAE made for video."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.families.base import Family, TextEncoder
from tasks.families.packing import needed, pack, unpack
from tasks.families.qwen import MAX_TOKENS, encode_described
from tasks.families.sd3 import JOINT_ATTENTION

if TYPE_CHECKING:
    from torch import Tensor


def _condition(
    texts: "Mapping[str, Mapping[str, Tensor]]", sizes: "Tensor | None"
) -> "dict[str, Tensor]":
    return dict(texts["text_encoder_1"])


def _predict(denoiser: Any, noisy: "Tensor", t: "Tensor", cond: "Mapping[str, Tensor]") -> "Tensor":
    batch, _, height, width = noisy.shape
    tokens = denoiser(
        hidden_states=pack(noisy),
        timestep=t / 1000,
        encoder_hidden_states=cond["hidden"],
        encoder_hidden_states_mask=needed(cond["mask"]),
        img_shapes=[[(1, height // 2, width // 2)]] * batch,
        return_dict=False,
    )[0]
    return unpack(tokens, height, width)


def _encode_image(vae: Any, pixels: "Tensor") -> "Tensor":
    # An image is a video of one frame: (B, 3, 1, H, W) to (B, C, 1, h, w).
    mean: Tensor = vae.encode(pixels.unsqueeze(2)).latent_dist.mean
    return mean.squeeze(2)


QWEN_IMAGE = Family(
    name="qwen_image",
    pipeline="QwenImagePipeline",
    denoiser="transformer",
    objective="flow",
    text_encoders=(
        TextEncoder(
            name="text_encoder_1",
            model="text_encoder",
            tokenizer="tokenizer",
            max_tokens=MAX_TOKENS,
            fields=("hidden", "mask"),
            encode=encode_described,
            mask="mask",
        ),
    ),
    lora_targets=(*JOINT_ATTENTION, "net.0.proj", "net.2"),
    layers={
        "attn-only": (r"\.attn\.",),
        "attn-mlp": (r"\.attn\.", r"\.(img|txt)_mlp\."),
        "blocks": (r"^transformer_blocks\.",),
        "full": ("",),
    },
    blocks=("transformer_blocks",),
    size_multiple=16,
    latent_factor=8,
    patch_cells=2,
    size_conditioned=False,
    architectures={"flow": "qwen-image"},
    base_model_versions={"flow": "qwen-image"},
    kohya_names=None,
    single_file_prefixes={},
    config_repo=None,
    condition=_condition,
    predict=_predict,
    encode_image=_encode_image,
)
