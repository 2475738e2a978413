"""Tiny random-weight models of the newer families: Chroma, Qwen-Image, Z-Image and FLUX.2.

Narrow, but with every kind of layer of the real ones; text encoders are as deep as the layers that
the pipelines read. Tokenizers have one token per byte or character.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tasks.families.loading import quiet_libraries

LATENT_CHANNELS = 4
WIDTH = 32
"""Of every text encoder."""
_CHAT_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
_MISTRAL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>", "[IMG]", "[IMG_BREAK]", "[IMG_END]")
_MISTRAL_TEMPLATE = (
    "<s>{% for message in messages %}[{{ message.role }}]{% for part in message.content %}"
    "{{ part.text }}{% endfor %}[/{{ message.role }}]{% endfor %}"
)
_QWEN: dict[str, Any] = {
    "bos_token_id": 0,
    "eos_token_id": 0,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def build_chroma(folder: Path, seed: int) -> Path:
    """A T5 encoder, two-stream and single-stream blocks."""

    def build() -> Any:
        from diffusers import ChromaPipeline, ChromaTransformer2DModel
        from transformers import T5Config, T5EncoderModel

        config = T5Config(
            vocab_size=512, d_model=WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
            feed_forward_proj="gated-gelu",
        )  # fmt: skip
        return ChromaPipeline(
            scheduler=_scheduler(),
            vae=_vae(scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=T5EncoderModel(config),
            tokenizer=_t5_tokenizer(),
            transformer=ChromaTransformer2DModel(
                in_channels=4 * LATENT_CHANNELS, num_layers=1, num_single_layers=2,
                attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDTH,
                axes_dims_rope=(4, 4, 8), approximator_num_channels=64,
                approximator_hidden_dim=32, approximator_layers=2,
            ),
        )  # fmt: skip

    return _saved(build, folder, seed)


def build_qwen_image(folder: Path, seed: int) -> Path:
    """A Qwen2.5-VL with its eyes, a video VAE with statistics per channel, two-stream blocks."""

    def build() -> Any:
        from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel

        return QwenImagePipeline(
            scheduler=_scheduler(),
            vae=AutoencoderKLQwenImage(
                base_dim=8, z_dim=LATENT_CHANNELS, dim_mult=[1, 2, 2, 2], num_res_blocks=1,
                latents_mean=[-0.75, -0.7, 0.1, 1.5], latents_std=[2.8, 1.4, 1.2, 0.8],
            ),
            text_encoder=_qwen_vl(),
            tokenizer=_qwen_tokenizer(),
            transformer=QwenImageTransformer2DModel(
                in_channels=4 * LATENT_CHANNELS, out_channels=LATENT_CHANNELS, num_layers=2,
                attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDTH,
                axes_dims_rope=(4, 4, 8),
            ),
        )  # fmt: skip

    return _saved(build, folder, seed)


def build_z_image(folder: Path, seed: int) -> Path:
    """A Qwen3 without a head, and a transformer with both refiners."""

    def build() -> Any:
        from diffusers import ZImagePipeline, ZImageTransformer2DModel
        from transformers import Qwen3Config, Qwen3Model

        transformer = ZImageTransformer2DModel(
            in_channels=LATENT_CHANNELS, dim=WIDTH, n_layers=2, n_refiner_layers=1, n_heads=2,
            n_kv_heads=2, cap_feat_dim=WIDTH, axes_dims=[4, 4, 8],
        )  # fmt: skip
        # Their padding tokens are made as zeros; trained ones are not.
        torch.nn.init.normal_(transformer.x_pad_token)
        torch.nn.init.normal_(transformer.cap_pad_token)
        tokenizer = _qwen_tokenizer()
        return ZImagePipeline(
            scheduler=_scheduler(shift=3.0),
            vae=_vae(scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=Qwen3Model(_qwen3(Qwen3Config, len(tokenizer), layers=3)),
            tokenizer=tokenizer,
            transformer=transformer,
        )

    return _saved(build, folder, seed)


def build_flux2(folder: Path, seed: int) -> Path:
    """Dev: a Mistral with eyes and 31 thin layers, told its guidance."""

    def build() -> Any:
        from diffusers import Flux2Pipeline

        tokenizer = _mistral_tokenizer()
        return Flux2Pipeline(
            scheduler=_scheduler(),
            vae=_flux2_vae(),
            text_encoder=_mistral(len(tokenizer)),
            tokenizer=tokenizer,
            transformer=_flux2_transformer(guidance_embeds=True),
        )

    _saved(build, folder, seed)
    # The real one is a processor of text and images, which cannot be made without torchvision.
    index = folder / "model_index.json"
    facts = json.loads(index.read_text())
    facts["tokenizer"] = ["transformers", "PixtralProcessor"]
    index.write_text(json.dumps(facts, indent=2) + "\n")
    return folder


def build_flux2_klein(folder: Path, seed: int) -> Path:
    """Klein: a Qwen3 of 28 thin layers, not told any guidance."""

    def build() -> Any:
        from diffusers import Flux2KleinPipeline
        from transformers import Qwen3Config, Qwen3ForCausalLM

        tokenizer = _qwen_tokenizer()
        return Flux2KleinPipeline(
            scheduler=_scheduler(),
            vae=_flux2_vae(),
            text_encoder=Qwen3ForCausalLM(_qwen3(Qwen3Config, len(tokenizer), layers=28)),
            tokenizer=tokenizer,
            transformer=_flux2_transformer(guidance_embeds=False),
        )

    return _saved(build, folder, seed)


BUILDERS: Mapping[str, Callable[[Path, int], Path]] = {
    "chroma": build_chroma,
    "qwen_image": build_qwen_image,
    "z_image": build_z_image,
    "flux2": build_flux2,
    "flux2_klein": build_flux2_klein,
}


def _saved(build: Callable[[], Any], folder: Path, seed: int) -> Path:
    with quiet_libraries(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build().save_pretrained(folder)
    return folder


def _scheduler(shift: float = 1.0) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=shift)


def _vae(**settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        **_vae_shape(), use_quant_conv=False, use_post_quant_conv=False, **settings
    )


def _flux2_vae() -> Any:
    from diffusers import AutoencoderKLFlux2

    vae = AutoencoderKLFlux2(**_vae_shape())
    torch.nn.init.normal_(vae.bn.running_mean)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    return vae


def _vae_shape() -> dict[str, Any]:
    return {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": LATENT_CHANNELS,
        "sample_size": 128,
    }


def _flux2_transformer(guidance_embeds: bool) -> Any:
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        in_channels=4 * LATENT_CHANNELS, num_layers=1, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=3 * WIDTH, timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guidance_embeds,
    )  # fmt: skip


def _qwen3(config: Any, vocab_size: int, layers: int) -> Any:
    return config(vocab_size=vocab_size, num_hidden_layers=layers, head_dim=8, **_QWEN)


def _qwen_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    text = {"vocab_size": 300, "num_hidden_layers": 2, "rope_parameters": rope, **_QWEN}
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2,
        "out_hidden_size": WIDTH, "fullatt_block_indexes": [0],
    }  # fmt: skip
    ids = {"image": 290, "video": 291, "vision_start": 292, "vision_end": 293}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            **{f"{name}_token_id": number for name, number in ids.items()},
        )
    )


def _mistral(vocab_size: int) -> Any:
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    text = {
        "model_type": "mistral", "vocab_size": vocab_size, "num_hidden_layers": 31, "head_dim": 8,
        **_QWEN,
    }  # fmt: skip
    vision = {
        "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 32, "head_dim": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 16,
    }  # fmt: skip
    config = Mistral3Config(
        text_config=text, vision_config=vision, image_token_index=_MISTRAL_TOKENS.index("[IMG]")
    )
    return Mistral3ForConditionalGeneration(config)


def _t5_tokenizer() -> Any:
    """One token per character."""
    from transformers import T5Tokenizer

    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    characters = [(chr(code), -3.0) for code in range(33, 127)]
    return T5Tokenizer(vocab=special + characters, extra_ids=4, model_max_length=512)


def _qwen_tokenizer() -> Any:
    """One token per byte."""
    from transformers import Qwen2Tokenizer

    words = [*_bytes(), *_CHAT_TOKENS]
    return Qwen2Tokenizer(
        vocab={word: number for number, word in enumerate(words)},
        merges=[],
        eos_token="<|im_end|>",
        extra_special_tokens=list(_CHAT_TOKENS[1:]),
        chat_template=_CHAT_TEMPLATE,
        model_max_length=2048,
    )


def _mistral_tokenizer() -> Any:
    """One token per byte, padded on the left."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*_MISTRAL_TOKENS, *_bytes()]
    inner = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="<pad>", padding_side="left", model_max_length=2048,
        extra_special_tokens=list(_MISTRAL_TOKENS[4:]), chat_template=_MISTRAL_TEMPLATE,
    )  # fmt: skip


def _bytes() -> list[str]:
    """The printable stand-ins of the 256 bytes, in a fixed order."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())
