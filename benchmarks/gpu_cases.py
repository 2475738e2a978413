"""The trainings that `benchmarks.gpu` measures: SDXL and FLUX in their real sizes, and tiny."""

from dataclasses import replace

from benchmarks.training_data import Shapes
from benchmarks.training_models import FULL, LORA, Architecture, Case

SDXL = Architecture(
    family="sdxl",
    model="UNet2DConditionModel",
    config={
        "sample_size": 128,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    shapes=Shapes(
        latent=(4, 128, 128),
        texts={
            "text_encoder_1": {"hidden": (77, 768)},
            "text_encoder_2": {"hidden": (77, 1280), "pooled": (1280,)},
        },
    ),
    scaling={"scaling_factor": 0.13025},
)
FLUX = Architecture(
    family="flux_dev",
    model="FluxTransformer2DModel",
    config={
        "in_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
        "axes_dims_rope": (16, 56, 56),
    },
    shapes=Shapes(
        latent=(16, 128, 128),
        texts={
            "text_encoder_1": {"pooled": (768,)},
            "text_encoder_2": {"hidden": (512, 4096)},
        },
    ),
    scaling={"scaling_factor": 0.3611, "shift_factor": 0.1159},
    depths=("num_layers", "num_single_layers"),
)
CASES = (
    Case(name="SDXL, LoRA", architecture=SDXL, method=LORA, batch_size=4),
    Case(name="SDXL, full", architecture=SDXL, method=FULL, batch_size=4),
    Case(name="FLUX, LoRA", architecture=FLUX, method=LORA, batch_size=1),
    Case(name="FLUX, full", architecture=FLUX, method=FULL, batch_size=1),
    Case(name="FLUX, LoRA on int8", architecture=FLUX, method=LORA, batch_size=1, base="int8"),
    Case(name="FLUX, LoRA, compiled", architecture=FLUX, method=LORA, batch_size=1, compile=True),
)

TINY_SDXL = replace(
    SDXL,
    config={
        **SDXL.config,
        "sample_size": 16,
        "block_out_channels": (8, 16, 32),
        "norm_num_groups": 4,
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (1, 2, 4),
        "cross_attention_dim": 48,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 32 + 6 * 8,
    },
    shapes=Shapes(
        latent=(4, 16, 16),
        texts={
            "text_encoder_1": {"hidden": (77, 16)},
            "text_encoder_2": {"hidden": (77, 32), "pooled": (32,)},
        },
    ),
)
TINY_FLUX = replace(
    FLUX,
    config={
        **FLUX.config,
        "num_layers": 2,
        "num_single_layers": 4,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 16,
        "axes_dims_rope": (4, 6, 6),
    },
    shapes=Shapes(
        latent=(16, 16, 16),
        texts={"text_encoder_1": {"pooled": (16,)}, "text_encoder_2": {"hidden": (32, 32)}},
    ),
)
_TINY = {"sdxl": TINY_SDXL, "flux_dev": TINY_FLUX}
TINY_CASES = tuple(
    replace(case, name=f"tiny {case.name}", architecture=_TINY[case.architecture.family])
    for case in CASES
)
