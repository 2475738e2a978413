"""OneTrainer's folder as its users have it: presets, concepts and samples, with its own keys."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.config.loading import load_config
from tasks.config.models import Config
from tasks.config.problems import ConfigError
from tasks.onetrainer.importing import Imported, import_file
from tests.tasks.onetrainer import onetrainer_keys

# Presets are short: they hold what differs from OneTrainer's defaults.
SD15_LORA = {
    "backup_after": 10,
    "base_model_name": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "batch_size": 4,
    "layer_filter_preset": "attn-mlp",
    "learning_rate": 0.0003,
    "model_type": "STABLE_DIFFUSION_15",
    "output_model_destination": "models/lora.safetensors",
    "output_model_format": "KOHYA_LORA",
    "resolution": "512",
    "training_method": "LORA",
    "vae": {"weight_dtype": "FLOAT_32"},
    "unet": {"weight_dtype": "FLOAT_16"},
    "text_encoder": {"weight_dtype": "FLOAT_16"},
}
SD15_FULL = {
    "base_model_name": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "batch_size": 4,
    "model_type": "STABLE_DIFFUSION_15",
    "output_model_destination": "models/model.safetensors",
    "output_model_format": "ORIGINAL_SINGLE_FILE",
    "resolution": "512",
    "training_method": "FINE_TUNE",
    "unet": {"train": True},
    "vae": {"weight_dtype": "FLOAT_32"},
}
SDXL_LORA = {
    "backup_after": 10,
    "base_model_name": "stabilityai/stable-diffusion-xl-base-1.0",
    "batch_size": 4,
    "learning_rate": 0.0003,
    "model_type": "STABLE_DIFFUSION_XL_10_BASE",
    "output_model_destination": "models/lora.safetensors",
    "output_model_format": "KOHYA_LORA",
    "resolution": "1024",
    "text_encoder": {"train": False},
    "text_encoder_2": {"train": False},
    "training_method": "LORA",
    "vae": {"weight_dtype": "FLOAT_32"},
}
FLUX_LORA = {
    "base_model_name": "black-forest-labs/FLUX.1-dev",
    "batch_size": 4,
    "dynamic_timestep_shifting": True,
    "learning_rate": 0.0003,
    "model_type": "FLUX_DEV_1",
    "output_model_destination": "models/lora.safetensors",
    "output_model_format": "DIFFUSERS_LORA",
    "resolution": "768",
    "text_encoder": {"train": False, "weight_dtype": "BFLOAT_16"},
    "text_encoder_2": {"train": False, "weight_dtype": "NFLOAT_4"},
    "timestep_distribution": "LOGIT_NORMAL",
    "train_dtype": "BFLOAT_16",
    "training_method": "LORA",
    "transformer": {"train": True, "weight_dtype": "NFLOAT_4"},
    "vae": {"weight_dtype": "FLOAT_32"},
}
# The layout before version 1: everything in one table.
SDXL_LORA_OLD = {
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_XL_10_BASE",
    "base_model_name": "stabilityai/stable-diffusion-xl-base-1.0",
    "extra_model_name": "",
    "weight_dtype": "FLOAT_16",
    "text_encoder_weight_dtype": "NONE",
    "unet_weight_dtype": "NONE",
    "vae_weight_dtype": "FLOAT_32",
    "output_model_format": "SAFETENSORS",
    "output_model_destination": "models/lora.safetensors",
    "circular_mask_generation": False,
    "latent_caching_epochs": 1,
    "optimizer": "ADAMW",
    "weight_decay": 0.02,
    "optimizer_beta1": 0.85,
    "learning_rate": 0.0003,
    "learning_rate_warmup_steps": 200,
    "epochs": 100,
    "train_text_encoder": True,
    "train_text_encoder_epochs": 30,
    "text_encoder_learning_rate": 0.0002,
    "train_unet": True,
    "train_unet_epochs": 100000,
    "unet_learning_rate": 0.0001,
    "offset_noise_weight": 0.05,
    "train_dtype": "FLOAT_16",
    "resolution": 1024,
    "token_count": 1,
    "initial_embedding_text": "*",
    "lora_rank": 16,
    "lora_alpha": 1.0,
    "attention_mechanism": "XFORMERS",
    "min_snr_gamma": 5.0,
    "noising_bias": 0.5,
    "noising_weight": 0.0,
    "gradient_checkpointing": False,
    "save_after": 0,
    "save_after_unit": "NEVER",
}


def concept(**said: Any) -> dict[str, Any]:
    """A concept with every key that OneTrainer saves; `image` and `text` are merged."""
    image = dict.fromkeys(onetrainer_keys.IMAGE, False)
    image |= {key: 0.0 for key in image if key.endswith(("angle", "strength"))}
    image |= {"enable_crop_jitter": True, "resolution_override": "512"}
    text = {
        "prompt_source": "sample",
        "prompt_path": "",
        "enable_tag_shuffling": False,
        "tag_delimiter": ",",
        "keep_tags_count": 1,
        "tag_dropout_enable": False,
        "tag_dropout_mode": "FULL",
        "tag_dropout_probability": 0.0,
        "tag_dropout_special_tags_mode": "NONE",
        "tag_dropout_special_tags": "",
        "tag_dropout_special_tags_regex": False,
        "caps_randomize_enable": False,
        "caps_randomize_mode": "capslock, title, first, random",
        "caps_randomize_probability": 0.0,
        "caps_randomize_lowercase": False,
    }
    saved = {
        "__version": 2,
        "name": "",
        "path": "photos",
        "seed": -123456789,
        "enabled": True,
        "type": "STANDARD",
        "include_subdirectories": False,
        "image_variations": 1,
        "text_variations": 1,
        "balancing": 1.0,
        "balancing_strategy": "REPEATS",
        "loss_weight": 1.0,
        "concept_stats": {},
    }
    image = {"__version": 0, **image, **said.pop("image", {})}
    text = {"__version": 0, **text, **said.pop("text", {})}
    return {**saved, **said, "image": image, "text": text}


def detail_crops(**said: Any) -> dict[str, Any]:
    """The fork's table, switched on, with the defaults that it saves."""
    saved = {
        "__version": 0,
        "enabled": True,
        "tile_resolution": 1024,
        "overlap": 128,
        "include_context_tiles": False,
        "include_full_images": True,
        "blank_std_threshold": 0.001,
        "blank_edge_threshold": 0.015,
        "parallel_workers": 0,
        "regenerate_each_epoch": False,
        "enable_captioning": False,
        "caption_probability": 0.2,
        "caption_model": "qwen2.5vl:3b",
        "caption_system_prompt": "You tag crops.",
        "caption_user_prompt": "{context}",
        "caption_endpoint": "http://localhost:11434",
        "caption_timeout": 120.0,
        "caption_max_retries": 4,
        "caption_auto_pull": True,
        "scales": [],
        "save_to_disk": False,
        "save_directory": "",
        "save_max_tiles_per_image": 0,
    }
    return {"detail_crops": {**saved, **said}}


@dataclass(frozen=True)
class Result:
    """An import, its text as data, and what Tilewright loads from it."""

    imported: Imported
    file: Path

    @property
    def text(self) -> str:
        return self.imported.text

    @property
    def toml(self) -> dict[str, Any]:
        return tomllib.loads(self.text)

    @property
    def config(self) -> Config:
        return load_config(self.file, env={}, checks=False)

    @property
    def checked(self) -> Config:
        """With all checks but that of the base model, which is not on this machine."""
        try:
            return load_config(self.file, env={})
        except ConfigError as error:
            assert [problem.key for problem in error.problems] == ["model.base"], str(error)
        return self.config

    @property
    def left(self) -> dict[str, str]:
        """Why, by OneTrainer's key."""
        return {one.key: f"{one.left.kind}: {one.left.why}" for one in self.imported.left}

    def comment(self, name: str) -> str:
        """What stands beside or above the line of a setting."""
        lines = self.text.splitlines()
        number = next(n for n, line in enumerate(lines) if line.startswith(f"{name} ="))
        above = []
        while (comment := lines[number - 1 - len(above)]).startswith("#"):
            above.append(comment.removeprefix("# "))
        beside = lines[number].partition("  # ")[2]
        return " ".join([*above[::-1], beside]).strip()


@dataclass(frozen=True)
class OneTrainer:
    """OneTrainer's folder."""

    folder: Path

    def photos(self) -> "OneTrainer":
        """The same, with the folder that concepts name."""
        (self.folder / "photos").mkdir(exist_ok=True)
        return self

    def preset(
        self,
        config: dict[str, Any],
        concepts: list[dict[str, Any]] | None = None,
        samples: list[dict[str, Any]] | None = None,
        name: str = "SD1.5/#sd 1.5 LoRA.json",
    ) -> Path:
        """Writes a preset and the files that it names; gives the preset's path."""
        file = self.write(f"training_presets/{name}", config)
        if concepts is not None:
            self.write("training_concepts/concepts.json", concepts)
        if samples is not None:
            self.write("training_samples/samples.json", samples)
        return file

    def write(self, name: str, data: Any) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, indent=4))
        return path

    def run_toml(self, file: Path, root: Path | None = None) -> Result:
        """The import of a file, with run.toml in OneTrainer's folder."""
        target = self.folder / "run.toml"
        imported = import_file(file, self.folder, root)
        target.write_text(imported.text)
        return Result(imported, target)

    def imported(
        self,
        config: dict[str, Any],
        concepts: list[dict[str, Any]] | None = None,
        samples: list[dict[str, Any]] | None = None,
    ) -> Result:
        """Preset and import in one."""
        listed = [concept(name="a")] if concepts is None else concepts
        return self.run_toml(self.preset(config, listed, samples))

    def concept(self, **said: Any) -> Result:
        """The import of one concept with the preset of SD 1.5."""
        return self.imported(SD15_LORA, [concept(**said)])
