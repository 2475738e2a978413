"""What changing each setting makes anew: every setting there is, a change of it, and the measuring.

The table in docs/invalidation.md is made from this; the test beside it keeps the two equal.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.digest import digest_json, hexkey
from storage.fingerprint import table_digest
from storage.versions import Version
from tasks.config.models import Config
from tasks.dataset.assemble import dataset_rows
from tasks.dataset.settings import settings_digest
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageCounts
from tasks.train.runs import run_key
from tests.photos import make_photo
from tests.projects import Project, make_old, make_project

STAGE_NAMES = tuple(stage.name for stage in STAGES)
CONCEPT = """
[[concepts]]
name = "photos"
path = "photos"
image_variations = 2
text_variations = 2
[concepts.image]
enable_random_flip = true
enable_random_rotate = true
random_rotate_max_angle = 5.0
enable_random_brightness = true
random_brightness_max_strength = 0.1
enable_random_contrast = true
random_contrast_max_strength = 0.1
enable_random_saturation = true
random_saturation_max_strength = 0.1
enable_random_hue = true
random_hue_max_strength = 0.1
mask_source = "file"
resolution_override = "128"
[concepts.image.detail_crops]
enabled = true
scales = [2]
regenerate_each_epoch = true
grid_phases = 2
save_directory = "tiles"
enable_captioning = true
caption_probability = 0.3
caption_model = "tiny"
caption_endpoint = "ENDPOINT"
[concepts.text]
enable_tag_shuffling = true
tag_dropout_enable = true
tag_dropout_mode = "random"
tag_dropout_probability = 0.5
tag_dropout_special_tags_mode = "whitelist"
tag_dropout_special_tags = ["red sail"]
caps_randomize_enable = true
caps_randomize_probability = 0.5
"""
IMAGE, CROPS, TEXT = "concepts.0.image.", "concepts.0.image.detail_crops.", "concepts.0.text."

WORD = 'train.embeddings=[{placeholder="<x>"}]'

CHANGES: dict[str, str | tuple[str, ...]] = {
    "store.flush_seconds": "30",
    "model.family": "sd2",
    "model.base": "OTHER_MODEL",
    "model.output": "other.safetensors",
    "model.output_format": "diffusers_lora",
    "model.output_dtype": "float32",
    "data.name": "other",
    "data.resolution": "128",
    "data.aspect_ratio_bucketing": "false",
    "data.latent_caching": "false",
    "data.seed": "1",
    "data.max_pixels": "100000000",
    "data.decode_memory_mib": "500",
    "data.encode_dtype": "bfloat16",
    "data.encode_batch_size": "2",
    "data.threads": "1",
    "data.remainder": "drop",
    "concepts.0.name": "renamed",
    "concepts.0.path": "OTHER_PHOTOS",
    "concepts.0.enabled": "false",
    "concepts.0.type": "validation",
    "concepts.0.include_subdirectories": "true",
    "concepts.0.prompt_source": "filename",
    "concepts.0.prompt_path": (
        "concepts.0.prompt_source=text_file",
        "concepts.0.prompt_path=LINES",
    ),
    "concepts.0.multiline": "joined",
    "concepts.0.image_variations": "3",
    "concepts.0.text_variations": "3",
    "concepts.0.repeats": "2",
    "concepts.0.samples_per_epoch": "5",
    "concepts.0.loss_weight": "0.5",
    IMAGE + "enable_crop_jitter": "false",
    IMAGE + "enable_random_flip": "false",
    IMAGE + "enable_fixed_flip": (
        f"{IMAGE}enable_random_flip=false",
        f"{IMAGE}enable_fixed_flip=true",
    ),
    IMAGE + "enable_random_rotate": "false",
    IMAGE + "enable_fixed_rotate": (
        f"{IMAGE}enable_random_rotate=false",
        f"{IMAGE}enable_fixed_rotate=true",
    ),
    IMAGE + "random_rotate_max_angle": "10.0",
}
for effect in ("brightness", "contrast", "saturation", "hue"):
    CHANGES[f"{IMAGE}enable_random_{effect}"] = "false"
    CHANGES[f"{IMAGE}enable_fixed_{effect}"] = (
        f"{IMAGE}enable_random_{effect}=false",
        f"{IMAGE}enable_fixed_{effect}=true",
    )
    CHANGES[f"{IMAGE}random_{effect}_max_strength"] = "0.2"
CHANGES |= {
    IMAGE + "mask_source": "none",
    IMAGE + "enable_resolution_override": "true",
    IMAGE + "resolution_override": (
        f"{IMAGE}enable_resolution_override=true",
        f"{IMAGE}resolution_override=192",
    ),
    CROPS + "enabled": "false",
    CROPS + "tile_resolution": "96",
    CROPS + "overlap": "32",
    CROPS + "scales": "[2, 3]",
    CROPS + "include_context_tiles": "true",
    CROPS + "include_full_images": "false",
    CROPS + "blank_std_threshold": "0.2",
    CROPS + "blank_edge_threshold": "0.2",
    CROPS + "max_upscale": "1.0",
    CROPS + "regenerate_each_epoch": "false",
    CROPS + "grid_phases": "3",
    CROPS + "tiles_per_source_per_epoch": "4",
    CROPS + "uncaptioned_prompt": "empty",
    CROPS + "parallel_workers": "1",
    CROPS + "save_to_disk": "true",
    CROPS + "save_directory": "OTHER_TILES",
    CROPS + "save_max_tiles_per_image": "3",
    CROPS + "enable_captioning": "false",
    CROPS + "caption_full_images": "true",
    CROPS + "caption_probability": "0.6",
    CROPS + "caption_mode": "append",
    CROPS + "caption_protocol": "openai",
    CROPS + "caption_endpoint": "http://127.0.0.1:9",
    CROPS + "caption_model": "other",
    CROPS + "caption_system_prompt": "Be brief.",
    CROPS + "caption_user_prompt": "Seen: {context}",
    CROPS + "caption_image_px": "32",
    CROPS + "caption_max_tokens": "99",
    CROPS + "caption_temperature": "0.5",
    CROPS + "caption_json_schema": (
        """'{"type": "object", "properties": {"caption": {"type": "string"}}}'"""
    ),
    CROPS + "caption_timeout": "60",
    CROPS + "caption_max_retries": "1",
    CROPS + "caption_auto_pull": "false",
    CROPS + "caption_parallel": "2",
    CROPS + "caption_min_success": "0.5",
    TEXT + "prompt_template": "art, {prompt}",
    TEXT + "tag_delimiter": ";",
    TEXT + "keep_tags_count": "2",
    TEXT + "enable_tag_shuffling": "false",
    TEXT + "tag_dropout_enable": "false",
    TEXT + "tag_dropout_mode": "full",
    TEXT + "tag_dropout_probability": "1.0",
    TEXT + "tag_dropout_special_tags_mode": "none",
    TEXT + "tag_dropout_special_tags": '["sunset"]',
    TEXT + "tag_dropout_special_tags_path": "TAGS",
    TEXT + "tag_dropout_special_tags_regex": (
        f'{TEXT}tag_dropout_special_tags=["s.*"]',
        f"{TEXT}tag_dropout_special_tags_regex=true",
    ),
    TEXT + "caps_randomize_enable": "false",
    TEXT + "caps_randomize_mode": '["capslock"]',
    TEXT + "caps_randomize_probability": "1.0",
    TEXT + "caps_randomize_lowercase": "true",
    "parts.denoiser.train": ("parts.text_encoder_1.train=true", "parts.denoiser.train=false"),
    "parts.denoiser.learning_rate": "1e-3",
    "parts.denoiser.stop_after.n": (
        "parts.text_encoder_1.train=true",
        "parts.denoiser.stop_after={n=2}",
    ),
    "parts.denoiser.stop_after.unit": (
        "parts.text_encoder_1.train=true",
        'parts.denoiser.stop_after={n=2, unit="step"}',
    ),
    "parts.text_encoder_1.train": "true",
    "parts.text_encoder_1.learning_rate": "1e-3",
    "parts.text_encoder_1.stop_after.n": ("parts.text_encoder_1.stop_after={n=2}",),
    "parts.text_encoder_1.stop_after.unit": ('parts.text_encoder_1.stop_after={n=2, unit="step"}',),
    "train.method.kind": (
        'model.output_format="diffusers"',
        "model.output=out",
        "train.method.kind=full",
    ),
    "train.method.rank": "4",
    "train.method.alpha": "4.0",
    "train.method.layers": '["attn-only"]',
    "train.method.dora": "true",
    "train.method.dropout": "0.1",
    "train.method.factor": ("train.method.kind=lokr", "train.method.factor=4"),
    "train.embeddings.0.placeholder": (WORD.replace("<x>", "<y>"),),
    "train.embeddings.0.initial_text": (WORD, 'train.embeddings.0.initial_text="boat"'),
    "train.embeddings.0.num_vectors": (WORD, "train.embeddings.0.num_vectors=2"),
    "train.embeddings.0.learning_rate": (WORD, "train.embeddings.0.learning_rate=0.1"),
    "train.embeddings.0.stop_after.n": (WORD, "train.embeddings.0.stop_after={n=2}"),
    "train.embeddings.0.stop_after.unit": (
        WORD,
        'train.embeddings.0.stop_after={n=2, unit="step"}',
    ),
    "train.optimizer": '{kind="lion"}',
    "train.schedule.kind": "cosine",
    "train.schedule.warmup_steps": "10",
    "train.schedule.warmup_fraction": "0.1",
    "train.schedule.min_factor": ("train.schedule.kind=cosine", "train.schedule.min_factor=0.1"),
    "train.schedule.cycles": (
        "train.schedule.kind=cosine_with_restarts",
        "train.schedule.cycles=2",
    ),
    "train.schedule.power": ("train.schedule.kind=polynomial", "train.schedule.power=2.0"),
    "train.schedule.function": (
        "train.schedule.kind=custom",
        "train.schedule.function=math:sqrt",
    ),
    "train.schedule.params": (
        "train.schedule.kind=custom",
        "train.schedule.function=math:sqrt",
        "train.schedule.params={a=1}",
    ),
    "train.learning_rate": "1e-3",
    "train.learning_rate_scaler": "batch",
    "train.epochs": "3",
    "train.max_steps": "7",
    "train.batch_size": "3",
    "train.gradient_accumulation_steps": "2",
    "train.gradient_checkpointing": "true",
    "train.clip_grad_norm": "0.5",
    "train.train_dtype": "bfloat16",
    "train.weight_dtype": "bfloat16",
    "train.base_weights": "int8",
    "train.tf32": "false",
    "train.attention": "math",
    "train.compile": "true",
    "train.timesteps.distribution": "logit_normal",
    "train.timesteps.scale": "2.0",
    "train.timesteps.bias": "1.0",
    "train.timesteps.min": "0.1",
    "train.timesteps.max": "0.9",
    "train.timesteps.shift": "3.0",
    "train.noise.offset": "0.1",
    "train.noise.perturbation": "0.1",
    "train.loss.mse": ("train.loss.mae=1.0", "train.loss.mse=0.0"),
    "train.loss.mae": "1.0",
    "train.loss.huber": "1.0",
    "train.loss.huber_delta": "0.5",
    "train.loss.log_cosh": "1.0",
    "train.loss.weighting": "min_snr_gamma",
    "train.loss.gamma": "1.0",
    "train.loss_scaler": "batch",
    "train.mask.enabled": "true",
    "train.mask.unmasked_weight": "0.5",
    "train.mask.unmasked_probability": "0.5",
    "train.mask.normalize": "true",
    "train.mask.prior_weight": "0.5",
    "train.ema.kind": "cpu",
    "train.ema.decay": "0.9",
    "train.ema.update_every": "1",
    "train.caption_dropout": "0.5",
    "train.non_finite": "skip",
    "train.seed": "7",
    "train.processes": "2",
    "train.device": "cpu",
    "train.grace_seconds": "5.0",
    "train.timeout_hours": "9.0",
    "train.retries": "0",
    "train.halve_batch_on_oom": "true",
    "train.backup.every": "9",
    "train.backup.unit": "epoch",
    "train.backup.keep": "1",
    "train.save.every": "5",
    "train.save.unit": "epoch",
    "train.save.keep": "2",
    "train.save.skip_first": "1",
    "train.validation.every": "2",
    "train.validation.unit": "step",
    "train.validation.quantiles": "2",
    "train.sample.every": "2",
    "train.sample.unit": "epoch",
    "train.sample.skip_first": "1",
    "train.sample.prompts": '["a boat"]',
    "train.sample.negative_prompt": "blurry",
    "train.sample.steps": "3",
    "train.sample.guidance": "3.0",
    "train.sample.seed": "3",
    "train.sample.width": "64",
    "train.sample.height": "64",
    "workers.runner": "processes",
    "workers.count": ("workers.runner=processes", "workers.count=3"),
    "workers.address": ("workers.runner=dask", "workers.address=tcp://127.0.0.1:8786"),
    "workers.gpus": ("workers.runner=ray", "workers.gpus=0.5"),
    "workspace": "elsewhere",
    "refresh": '["latents"]',
    "review_captions": "true",
    "gpu_limit": "false",
    "deep": "true",
}
"""Setting to its new value, or to what must be set: first what makes it count, then itself."""

NOT_MEASURED = {
    "store.url": "another store has nothing yet: everything is made",
    "model.config_folder": "where the rest of a single file's model is; what it holds counts",
    "train.method.initial": "it names a file; training goes on from what the file holds",
    "train.timesteps.dynamic_shift": "is for flow models; it changes training alone",
    "train.noise.zero_terminal_snr": "is for models that predict v; it changes training alone",
    **{
        f"parts.text_encoder_{number}.{key}": "as for text_encoder_1, where the family has one"
        for number in (2, 3)
        for key in ("train", "learning_rate", "stop_after.n", "stop_after.unit")
    },
}


@dataclass(frozen=True)
class Effect:
    """What a change does: the counts of every stage, and what follows."""

    stages: dict[str, StageCounts]
    content: str
    """Digest of what training sees of the dataset."""
    run: str
    """The training's own key."""


def make_base(folder: Path, models: dict[str, Path], endpoint: str) -> Project:
    """A project in which as many settings as possible matter; a caption server is at `endpoint`."""
    project = make_project(folder, models["sd15"], num_photos=0)
    text = project.run_toml.read_text().partition("[[concepts]]")[0]
    other = '\n[[concepts]]\nname = "second"\npath = "second"\n'
    train = '[train]\ntrain_dtype = "float32"\nepochs = 1\nbatch_size = 2\n'
    train += '[train.method]\nkind = "lora"\nrank = 2\n'
    concept = CONCEPT.replace("ENDPOINT", endpoint)
    project.run_toml.write_text(text + concept + other + train)
    prompts = "boat, red sail, sunset, Calm sea\nanother view, blue sky, red sail"
    for number in range(3):
        project.add_photo(f"photo{number}", number, f"photo {number}, {prompts}", size=(200, 112))
    project.add_photo("low", 9, "fog, grey", size=(90, 70))
    (project.photos / "no-prompt.jpg").write_bytes(make_photo(200, 112, 11))
    _write_mask(project.photos / "photo0-masklabel.png")
    for number, place in enumerate(("other-photos", "photos/inner", "second")):
        (folder / place).mkdir()
        (folder / place / "inner.jpg").write_bytes(make_photo(200, 112, 5 + number))
    (folder / "lines.txt").write_text("first line\nsecond line\nthird line\n")
    (folder / "tags.txt").write_text("Calm sea\nsunset\n")
    for path in folder.rglob("*"):
        make_old(path)
    return project


def overrides(key: str, project: Project, models: dict[str, Path]) -> list[str]:
    """The `--set` values that change a setting of the base project."""
    change = CHANGES[key]
    lines = [f"{key}={change}"] if isinstance(change, str) else list(change)
    if key == "model.family":
        lines.append(f"model.base={models['sd2']}")
    places = {
        "OTHER_MODEL": models["other"],
        "OTHER_PHOTOS": project.folder / "other-photos",
        "OTHER_TILES": project.folder / "other-tiles",
        "LINES": project.folder / "lines.txt",
        "TAGS": project.folder / "tags.txt",
    }
    for name, place in places.items():
        lines = [line.replace(name, str(place)) for line in lines]
    return lines


def effect(config: Config) -> Effect:
    """Plans a configuration and says what it would make."""
    context = Context(config, dry_run=True)
    manifests: dict[str, pa.Table] = {}
    counts: dict[str, StageCounts] = {}
    ids: dict[str, str] = {}
    for stage in STAGES:
        wanted = stage.wanted(context, manifests)
        checked = stage.check(context, wanted)
        manifests[stage.name] = stage.manifest(context, checked)
        counts[stage.name], ids[stage.name] = checked.counts, wanted.stage_id
    content = _content(config, manifests, ids)
    version = Version("test", 1, "", content, 0, {"config": {"digest": settings_digest(config)}})
    return Effect(counts, content, run_key(config, version))


def _content(config: Config, manifests: dict[str, pa.Table], ids: dict[str, str]) -> str:
    """What training sees of the dataset: rows without paths and measures, and their encoders."""
    rows = dataset_rows(config, manifests)
    unseen = {"key", "logical", "group", "path", "luma_std", "edge_share", "dropped", "certain"}
    seen = rows.drop_columns([name for name in rows.column_names if name in unseen])
    encoders = sorted(set(manifests["text"]["encoder_stage_id"].to_pylist()))
    masks = manifests["masks"]["key"].to_pylist()
    facts: list[Any] = [hexkey(table_digest(seen.sort_by("row_id"))), ids["latents"], encoders]
    return hexkey(digest_json("content", [*facts, sorted(map(hexkey, masks))]))


def _write_mask(path: Path) -> None:
    from PIL import Image

    mask = Image.new("L", (200, 112), 0)
    mask.paste(255, (0, 0, 80, 112))
    mask.save(path)


def row(key: str, before: Effect, after: Effect) -> str:
    """The line of the table for one setting."""
    cells = [_cell(before.stages[name], after.stages[name]) for name in STAGE_NAMES]
    again = before.content != after.content or before.run != after.run
    shown = key.replace("concepts.0.", "concepts.")
    return f"| `{shown}` | {' | '.join(cells)} | {'yes' if again else '–'} |"


def _cell(before: StageCounts, after: StageCounts) -> str:
    if after.computed and after.computed == after.wanted:
        return "all"
    if after.computed:
        return "some"
    return "fewer" if after.wanted < before.wanted else "–"
