"""Build a tiny Stable Diffusion 1.5 with random weights: `python -m deployments.demo.build_model`.

The architecture is the real one, only narrow, and the VAE halves its input three times as the real
one does, so everything can be tried in seconds on a CPU and without a network. Its images are
noise: nobody has trained it. One seed always gives the same bytes.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from tasks.families.loading import quiet_libraries

MAX_TOKENS = 77
START, END = "<|startoftext|>", "<|endoftext|>"
_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def build_demo_model(folder: Path, seed: int = 0, prediction_type: str = "epsilon") -> Path:
    """Write the model as a diffusers folder, 1.4 MB, and give that folder back."""
    import torch

    with quiet_libraries(), torch.random.fork_rng(devices=[]):
        from diffusers import DDIMScheduler, StableDiffusionPipeline

        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            vae=tiny_vae(),
            text_encoder=tiny_text_encoder(width=32),
            tokenizer=tiny_tokenizer(folder / "tokenizer"),
            unet=tiny_unet(cross_attention_dim=32),
            scheduler=DDIMScheduler(
                clip_sample=False,
                set_alpha_to_one=False,
                prediction_type=prediction_type,
                **_SCHEDULE,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(folder)
    return folder


def tiny_tokenizer(folder: Path, pad_token: str = END) -> Any:
    """A byte-level CLIP tokenizer without merges: one token per byte of (lower-cased) text."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    symbols = _byte_symbols()
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), START, END]
    vocab = {word: index for index, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_TOKENS, pad_token=pad_token)


def tiny_text_encoder(width: int, projection: int | None = None) -> Any:
    """A CLIP text encoder of two layers; with a projection, the second encoder of SDXL."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        hidden_act="quick_gelu" if projection is None else "gelu",
        projection_dim=projection or width,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return CLIPTextModel(config) if projection is None else CLIPTextModelWithProjection(config)


def tiny_vae(scaling_factor: float = 0.18215) -> Any:
    """An AutoencoderKL with four latent channels that halves its input three times."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=128,
        scaling_factor=scaling_factor,
    )


def tiny_unet(cross_attention_dim: int, **settings: Any) -> Any:
    """A UNet of two levels (16 and 32 channels) with cross-attention; `settings` override."""
    from diffusers import UNet2DConditionModel

    config: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**config | settings, cross_attention_dim=cross_attention_dim)


def _byte_symbols() -> list[str]:
    """CLIP's printable stand-ins for the 256 bytes, in its own order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(hidden))]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the model is written")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    written = build_demo_model(arguments.folder, arguments.seed)
    logging.info("wrote a tiny Stable Diffusion 1.5 to %s", written)


if __name__ == "__main__":
    main()
