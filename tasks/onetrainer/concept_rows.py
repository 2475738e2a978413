"""A concept and its texts: `path`, `balancing`, `text.prompt_source`, `text.tag_dropout_mode`."""

from collections.abc import Iterable
from typing import Any

from tasks.onetrainer.model_rows import is_lora
from tasks.onetrainer.paths import HUB_NAME, MISSING
from tasks.onetrainer.rows import (
    Answer,
    Left,
    Put,
    Row,
    Table,
    View,
    choice,
    later,
    same,
    taken,
    unlike,
    unneeded,
)

CAPS = ("capslock", "title", "first", "random")
SOURCES = {"sample": "sidecar", "concept": "text_file", "filename": "filename"}
LISTS = (".txt", ".csv")


def _name(value: Any, view: View) -> Iterable[Answer]:
    return [Put("name", str(value))] if value else []


def _path(value: Any, view: View) -> Iterable[Answer]:
    text = str(value)
    if not text:
        return [Put("path", "name-its-folder", "the file names none", always=True)]
    note = view.paths.note(text)
    if note == MISSING and HUB_NAME.fullmatch(text):
        note = f"{MISSING}; if it is a Hugging Face dataset, download it and name its folder"
    return [Put("path", view.paths.written(text), note, always=True)]


def _enabled(value: Any, view: View) -> Iterable[Answer]:
    return [Put("enabled", False if _has_no_prior(view) else bool(value))]


def _has_no_prior(view: View) -> bool:
    """Whether there is no adapter that could be switched off to ask the model itself."""
    is_prior = view["type"] == "PRIOR_PREDICTION"
    return is_prior and view.run is not None and not is_lora(view.run)


def _type(value: Any, view: View) -> Iterable[Answer]:
    kind = str(value)
    if kind not in ("STANDARD", "VALIDATION", "PRIOR_PREDICTION"):
        return [Left("unknown", "no such type; known: STANDARD, VALIDATION, PRIOR_PREDICTION")]
    if _has_no_prior(view):
        why = (
            "only adapters can be switched off to ask the model itself; the concept is switched "
            "off so that it is not trained like the others"
        )
        return [Left("different", why)]
    return [Put("type", kind.lower())]


def _balancing(value: Any, view: View) -> Iterable[Answer]:
    if view["balancing_strategy"] == "SAMPLES":
        note = "a random choice each epoch; OneTrainer goes through the list in order"
        return [Put("samples_per_epoch", int(value), note)]
    note = "" if float(value).is_integer() else "the part is a random one, another each epoch"
    return [Put("repeats", float(value), note)]


def _strategy(value: Any, view: View) -> Iterable[Answer]:
    known = ("REPEATS", "SAMPLES")
    return [] if value in known else [Left("unknown", f"no such strategy; known: {known}")]


def _prompt_path(value: Any, view: View) -> Iterable[Answer]:
    if view["text.prompt_source"] != "concept" or not value:
        return []
    return [Put("prompt_path", view.paths.written(str(value)), view.paths.note(str(value)))]


def _dropout_mode(value: Any, view: View) -> Iterable[Answer]:
    modes = {"FULL": "full", "RANDOM": "random", "RANDOM WEIGHTED": "random_weighted"}
    if value in modes:
        return [Put("text.tag_dropout_mode", modes[value])]
    return [Left("unknown", f"no such mode; known: {', '.join(modes)}")]


def _special_tags(value: Any, view: View) -> Iterable[Answer]:
    text = str(value)
    if not text:
        return []
    if not text.endswith(LISTS):
        tags = [tag.strip() for tag in text.split(view["text.tag_delimiter"] or ",")]
        return [Put("text.tag_dropout_special_tags", [tag for tag in tags if tag])]
    note = view.paths.note(text)
    if text.endswith(".csv") and not note:
        note = "every column counts, where OneTrainer reads the first"
    return [Put("text.tag_dropout_special_tags_path", view.paths.written(text), note)]


def _caps_mode(value: Any, view: View) -> Iterable[Answer]:
    words = [word.strip() for word in str(value).split(",") if word.strip()]
    known = [word for word in CAPS if word in words]
    answers: list[Answer] = [Put("text.caps_randomize_mode", known)]
    if unknown := [word for word in words if word not in CAPS]:
        why = f"no such mode: {', '.join(unknown)}; known: {', '.join(CAPS)}"
        answers.append(Left("unknown", why))
    return answers


def _only_lowercase(view: View) -> bool:
    """Lower case counts in OneTrainer even while the capitals are not randomised."""
    on = bool(view["text.caps_randomize_enable"])
    return bool(view["text.caps_randomize_lowercase"]) and not on


def _caps_enable(value: Any, view: View) -> Iterable[Answer]:
    if _only_lowercase(view):
        note = "lower case needs it here, with a probability of 0"
        return [Put("text.caps_randomize_enable", True, note)]
    note = "kept tags keep their capitals; OneTrainer changes those too" if value else ""
    return [Put("text.caps_randomize_enable", bool(value), note)]


def _caps_probability(value: Any, view: View) -> Iterable[Answer]:
    return [Put("text.caps_randomize_probability", 0.0 if _only_lowercase(view) else value)]


CONCEPT: Table = {
    "name": Row("", _name),
    "path": Row("", _path),
    "seed": unneeded(
        None, "only a part of OneTrainer's cache key; draws depend on data.seed and train.seed"
    ),
    "enabled": Row(True, _enabled),
    "type": Row("STANDARD", _type),
    "include_subdirectories": same("include_subdirectories", False),
    "image_variations": same("image_variations", 1),
    "text_variations": same("text_variations", 1),
    "balancing": Row(1.0, _balancing),
    "balancing_strategy": Row("REPEATS", _strategy),
    "loss_weight": same("loss_weight", 1.0),
    "concept_stats": unneeded({}, "`tilewright plan` and the report count anew"),
    "text.prompt_source": choice("prompt_source", "sample", SOURCES),
    "text.prompt_path": Row("", _prompt_path),
    "text.enable_tag_shuffling": same("text.enable_tag_shuffling", False),
    "text.tag_delimiter": same("text.tag_delimiter", ","),
    "text.keep_tags_count": same("text.keep_tags_count", 1),
    "text.tag_dropout_enable": same("text.tag_dropout_enable", False),
    "text.tag_dropout_mode": Row("FULL", _dropout_mode),
    "text.tag_dropout_probability": same("text.tag_dropout_probability", 0.0),
    "text.tag_dropout_special_tags_mode": choice(
        "text.tag_dropout_special_tags_mode",
        "NONE",
        {"NONE": "none", "WHITELIST": "whitelist", "BLACKLIST": "blacklist"},
    ),
    "text.tag_dropout_special_tags": Row("", _special_tags),
    "text.tag_dropout_special_tags_regex": same("text.tag_dropout_special_tags_regex", False),
    "text.caps_randomize_enable": Row(False, _caps_enable),
    "text.caps_randomize_mode": Row(", ".join(CAPS), _caps_mode),
    "text.caps_randomize_probability": Row(0.0, _caps_probability),
    "text.caps_randomize_lowercase": same("text.caps_randomize_lowercase", False),
}

_SAMPLER = "samples are drawn with the model's own scheduler"
_HIDDEN = "tokens behind a prompt are hidden as diffusers does it"
_PAINTED = "samples are drawn from prompts alone"

SAMPLE: Table = {
    "enabled": taken(True),
    "prompt": taken(""),
    "negative_prompt": taken(""),
    "height": taken(512),
    "width": taken(512),
    "seed": taken(42),
    "diffusion_steps": taken(20),
    "cfg_scale": taken(7.0),
    "random_seed": unlike(False, "every prompt has a fixed seed (train.sample.seed)"),
    "noise_scheduler": unlike("DDIM", _SAMPLER),
    "frames": later(1, "there are no families for video"),
    "length": later(10.0, "there are no families for sound"),
    "text_encoder_1_layer_skip": later(0, "clip skip"),
    "text_encoder_2_layer_skip": later(0, "clip skip"),
    "text_encoder_3_layer_skip": later(0, "clip skip"),
    "text_encoder_4_layer_skip": later(0, "clip skip"),
    "transformer_attention_mask": unlike(False, _HIDDEN),
    "force_last_timestep": unlike(False, _SAMPLER),
    "prior_attention_mask": unlike(False, _HIDDEN),
    "sample_inpainting": later(False, _PAINTED),
    "base_image_path": later("", _PAINTED),
    "mask_image_path": later("", _PAINTED),
}
"""One entry of a samples file; `convert_samples` reads those that are taken."""
