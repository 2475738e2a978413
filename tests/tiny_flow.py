"""Tiny random-weight models of SD 3, FLUX.1, PixArt and Sana.

Narrow, but with every kind of layer of the real ones. T5 and Gemma have one token per character.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from deployments.demo.build_model import tiny_text_encoder, tiny_tokenizer, tiny_vae

T5_WIDTH = 96
"""More than both CLIP encoders of SD 3 together, as in the real one."""
_CHARACTERS = [chr(code) for code in range(33, 127)]


def build_sd3(folder: Path, seed: int) -> Path:
    """Three encoders, joint blocks."""
    return _saved(lambda: _sd3_pipeline(folder), folder, seed)


def build_sd35(folder: Path, seed: int) -> Path:
    """The same with normed queries and keys, and a block of dual attention as in medium."""
    settings = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}
    return _saved(lambda: _sd3_pipeline(folder, **settings), folder, seed + 1000)


def build_flux_dev(folder: Path, seed: int) -> Path:
    """Told its guidance."""
    return _saved(lambda: _flux_pipeline(folder, guidance_embeds=True), folder, seed)


def build_flux_schnell(folder: Path, seed: int) -> Path:
    """Not told any guidance."""
    return _saved(lambda: _flux_pipeline(folder, guidance_embeds=False), folder, seed + 1000)


def build_pixart_alpha(folder: Path, seed: int) -> Path:
    """The one for 1024 pixels, which is told the size of the image."""

    def build() -> Any:
        from diffusers import PixArtAlphaPipeline

        return PixArtAlphaPipeline(**_pixart_parts())

    return _saved(build, folder, seed)


def build_pixart_sigma(folder: Path, seed: int) -> Path:
    """Not told any size."""

    def build() -> Any:
        from diffusers import PixArtSigmaPipeline

        return PixArtSigmaPipeline(**_pixart_parts(use_additional_conditions=False))

    return _saved(build, folder, seed + 1000)


def build_sana(folder: Path, seed: int) -> Path:
    """An autoencoder that divides edges by 32, a Gemma 2, linear and cross attention."""

    def build() -> Any:
        from diffusers import (
            AutoencoderDC,
            FlowMatchEulerDiscreteScheduler,
            SanaPipeline,
            SanaTransformer2DModel,
        )

        return SanaPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=AutoencoderDC(
                latent_channels=8, attention_head_dim=8, scaling_factor=0.41407,
                encoder_block_types=("ResBlock",) * 5 + ("EfficientViTBlock",),
                decoder_block_types=("ResBlock",) * 5 + ("EfficientViTBlock",),
                encoder_block_out_channels=(8, 8, 8, 16, 16, 16),
                decoder_block_out_channels=(8, 8, 8, 16, 16, 16),
                encoder_layers_per_block=(1,) * 6, decoder_layers_per_block=(1,) * 6,
                encoder_qkv_multiscales=((),) * 5 + ((5,),),
                decoder_qkv_multiscales=((),) * 5 + ((5,),),
                downsample_block_type="conv", upsample_block_type="interpolate",
            ),
            text_encoder=_gemma(),
            tokenizer=_gemma_tokenizer(),
            transformer=SanaTransformer2DModel(
                in_channels=8, out_channels=8, num_layers=2, num_attention_heads=2,
                attention_head_dim=16, num_cross_attention_heads=2, cross_attention_head_dim=16,
                cross_attention_dim=32, caption_channels=32, sample_size=32,
            ),
        )  # fmt: skip

    return _saved(build, folder, seed)


BUILDERS: Mapping[str, Callable[[Path, int], Path]] = {
    "sd3": build_sd3,
    "sd35": build_sd35,
    "flux_dev": build_flux_dev,
    "flux_schnell": build_flux_schnell,
    "pixart_alpha": build_pixart_alpha,
    "pixart_sigma": build_pixart_sigma,
    "sana": build_sana,
}


def _saved(build: Callable[[], Any], folder: Path, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = build()
    pipeline.save_pretrained(folder)
    return folder


def _sd3_pipeline(folder: Path, **settings: Any) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    return StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=tiny_text_encoder(width=32, projection=32),
        tokenizer=tiny_tokenizer(folder / "tokenizer"),
        text_encoder_2=tiny_text_encoder(width=48, projection=48),
        tokenizer_2=tiny_tokenizer(folder / "tokenizer_2", pad_token="!"),
        text_encoder_3=_t5(),
        tokenizer_3=_t5_tokenizer(),
        # The last block gives no text, so there are two for one of the usual kind.
        transformer=SD3Transformer2DModel(
            sample_size=32, patch_size=2, in_channels=16, out_channels=16, num_layers=2,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=T5_WIDTH,
            caption_projection_dim=32, pooled_projection_dim=80, pos_embed_max_size=24, **settings,
        ),
    )  # fmt: skip


def _flux_pipeline(folder: Path, guidance_embeds: bool) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    shift: dict[str, Any] = {"shift": 3.0, "use_dynamic_shifting": True} if guidance_embeds else {}
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shift),
        vae=_vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=tiny_text_encoder(width=32),
        tokenizer=tiny_tokenizer(folder / "tokenizer"),
        text_encoder_2=_t5(),
        tokenizer_2=_t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=2, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=T5_WIDTH, pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8), guidance_embeds=guidance_embeds,
        ),
    )  # fmt: skip


def _pixart_parts(**settings: Any) -> dict[str, Any]:
    from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel

    return {
        "scheduler": DPMSolverMultistepScheduler(
            beta_start=0.0001, beta_end=0.02, beta_schedule="linear"
        ),
        "vae": tiny_vae(),
        "text_encoder": _t5(),
        "tokenizer": _t5_tokenizer(),
        "transformer": PixArtTransformer2DModel(
            sample_size=128, in_channels=4, out_channels=8, num_layers=2, num_attention_heads=4,
            attention_head_dim=12, cross_attention_dim=48, caption_channels=T5_WIDTH, **settings,
        ),
    }  # fmt: skip


def _vae(**settings: Any) -> Any:
    """16 channels and no convolutions around the latents."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=16,
        sample_size=128,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **settings,
    )


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=128, d_model=T5_WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config)


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab = special + [(character, -3.0) for character in _CHARACTERS]
    return T5Tokenizer(vocab=vocab, extra_ids=4, model_max_length=512)


def _gemma() -> Any:
    from transformers import Gemma2Config, Gemma2Model

    config = Gemma2Config(
        vocab_size=104, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16,
    )  # fmt: skip
    return Gemma2Model(config)


def _gemma_tokenizer() -> Any:
    from transformers import GemmaTokenizer

    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *_CHARACTERS]
    vocab = {word: number for number, word in enumerate(words)}
    return GemmaTokenizer(
        vocab=vocab, merges=[], add_bos_token=True, padding_side="right", model_max_length=8192
    )
