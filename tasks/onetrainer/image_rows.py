"""The images of a concept: augmentation, resolution override, and the fork's detail crops."""

from collections.abc import Callable, Iterable
from typing import Any

from tasks.onetrainer.data_rows import first_edge, resolution_text
from tasks.onetrainer.paths import WINDOWS
from tasks.onetrainer.rows import Answer, Left, Put, Row, Table, View, later, only, same

_CROPS = "image.detail_crops."
_FORK = "only in a fork of OneTrainer"


def _flip(value: Any, view: View) -> Iterable[Answer]:
    note = "" if view.says("image.enable_random_flip") else "not in the file; older versions: true"
    return [Put("image.enable_random_flip", bool(value), note)]


def _rotate(key: str) -> Row:
    def convert(value: Any, _: View) -> Iterable[Answer]:
        note = "corners are mirrored, not black" if value else ""
        return [Put(f"image.{key}", bool(value), note)]

    return Row(False, convert)


def _override(value: Any, view: View) -> Iterable[Answer]:
    enabled = bool(view["image.enable_resolution_override"])
    if not value and not enabled:
        return []
    ours, note = resolution_text(value, view.facts["multiple"])
    return [Put("image.resolution_override", ours, note, always=enabled)]


def _has_crops(view: View) -> bool:
    """Whether the fork's table says anything; a file of OneTrainer's own has none."""
    said = [key for key in view.given if key.startswith(_CROPS) and key in view.rows]
    geometry = [key for key in said if not key.startswith(f"{_CROPS}caption_")]
    return any(view.given[key] != view.rows[key].default for key in geometry)


def _crops(key: str, default: Any, convert: Callable[[Any, View], Put]) -> dict[str, Row]:
    row = Row(default, lambda value, view: [convert(value, view)])
    return {f"{_CROPS}{key}": only(_has_crops, row)}


def _same_crops(key: str, default: Any) -> dict[str, Row]:
    return {f"{_CROPS}{key}": only(_has_crops, same(f"{_CROPS}{key}", default))}


def _tile(view: View) -> int:
    """The edge of the tiles in pixels, as the fork reads it and rounded as it must be here."""
    wanted = int(view[f"{_CROPS}tile_resolution"]) or 1024
    multiple: int = view.facts["multiple"]
    return max(multiple, round(wanted / multiple) * multiple)


def _tile_resolution(value: Any, view: View) -> Put:
    tile = _tile(view)
    note = "" if tile == value else f"was {value}"
    if not note and tile != _training_edge(view):
        note = "tiles train at this size; the fork resampled them to the training resolution"
    return Put(f"{_CROPS}tile_resolution", tile, note, always=True)


def _overlap(value: Any, view: View) -> Put:
    if value:
        return Put(f"{_CROPS}overlap", int(value), always=True)
    return Put(f"{_CROPS}overlap", 128, "was 0, which the fork reads as 128")


def _scales(value: Any, view: View) -> Put:
    factor = _tile(view) / _training_edge(view)
    ours = [float(f"{float(scale) * factor:.6g}") for scale in value]
    note = ""
    if ours and factor != 1:
        theirs = ", ".join(f"{scale:g}" for scale in value)
        edge = _training_edge(view)
        note = f"was {theirs} x tile; here it multiplies the training resolution, {edge}"
    return Put(f"{_CROPS}scales", ours, note, always=True)


def _training_edge(view: View) -> int:
    """The training resolution of the concept, of which scales are multiples."""
    text, multiple = view.facts["resolution"], view.facts["multiple"]
    if view["image.enable_resolution_override"]:
        text = view["image.resolution_override"]
    return first_edge(resolution_text(text, multiple)[0])


def _blank_std(value: Any, view: View) -> Put:
    grey = float(value) or 10.0
    ours = float(f"{grey / 255:.4g}")
    return Put(f"{_CROPS}blank_std_threshold", ours, f"{grey:g} of 255 grey levels")


def _blank_edge(value: Any, view: View) -> Put:
    pixels = int(float(value)) if value else 50
    ours = float(f"{pixels / _tile(view) ** 2:.4g}")
    note = f"{pixels} edge pixels of a tile" if pixels else f"{value} counts as 0 edge pixels: off"
    return Put(f"{_CROPS}blank_edge_threshold", ours, note)


def _enabled(value: Any, view: View) -> Iterable[Answer]:
    answers: list[Answer] = [Put(f"{_CROPS}enabled", bool(value), always=True)]
    if value:
        note = 'the fork trains every tile on the empty prompt; "empty" does so here'
        answers.append(Put(f"{_CROPS}uncaptioned_prompt", "inherit", note))
    return answers


def _regenerate(value: Any, view: View) -> Put:
    note = "really a new grid per epoch; in the fork it had no effect" if value else ""
    return Put(f"{_CROPS}regenerate_each_epoch", bool(value), note)


def _directory(value: Any, view: View) -> Iterable[Answer]:
    if value:
        note = "what is in it stays; the fork deletes it at the start"
        if view.paths.note(str(value)) == WINDOWS:
            note = WINDOWS
        return [Put(f"{_CROPS}save_directory", view.paths.written(str(value)), note)]
    if not view[f"{_CROPS}save_to_disk"]:
        return []
    return [Put(f"{_CROPS}save_directory", f"tiles/{view.facts['folder']}", "was empty")]


def _augmentations() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for effect in ("brightness", "contrast", "saturation", "hue"):
        for switch in (f"enable_random_{effect}", f"enable_fixed_{effect}"):
            rows[f"image.{switch}"] = same(f"image.{switch}", False)
        strength = f"image.random_{effect}_max_strength"
        rows[strength] = same(strength, 0.0)
    return rows


def _fork_only(defaults: dict[str, Any], switch: str) -> dict[str, Row]:
    """Effects that a fork added, told where they are switched on."""

    def wanted(view: View) -> bool:
        return bool(view[f"image.{switch}"])

    def convert(value: Any, _: View) -> Iterable[Answer]:
        return [Left("not yet", f"{_FORK}; there are no plans for it")] if value else []

    rows = {
        f"image.{key}": only(wanted, Row(default, convert)) for key, default in defaults.items()
    }
    return {**rows, f"image.{switch}": Row(False, convert)}


IMAGE: Table = {
    "image.enable_crop_jitter": same("image.enable_crop_jitter", True),
    "image.enable_random_flip": Row(False, _flip),
    "image.enable_fixed_flip": same("image.enable_fixed_flip", False),
    "image.enable_random_rotate": _rotate("enable_random_rotate"),
    "image.enable_fixed_rotate": _rotate("enable_fixed_rotate"),
    "image.random_rotate_max_angle": same("image.random_rotate_max_angle", 0.0),
    **_augmentations(),
    "image.enable_resolution_override": same("image.enable_resolution_override", False),
    "image.resolution_override": Row("512", _override),
    "image.enable_random_circular_mask_shrink": later(False, "changes of masks"),
    "image.enable_random_mask_rotate_crop": later(False, "changes of masks"),
    **_fork_only(
        {"luma_target_mean": 0.5, "luma_target_std": 0.25, "luma_mix": 1.0},
        "enable_luma_normalize",
    ),
    **_fork_only(
        {
            "style_focus_mode": "downup",
            "style_focus_short_side": 128,
            "style_focus_blur_sigma": 3.0,
            "style_focus_mix": 0.7,
            "style_focus_color_mean": 0.5,
        },
        "enable_style_focus",
    ),
    **_fork_only(
        {"random_noise_max_strength": 0.0, "random_noise_min_strength": 0.0}, "enable_random_noise"
    ),
    **_fork_only({}, "enable_fixed_noise"),
}

CROPS: Table = {
    f"{_CROPS}enabled": only(_has_crops, Row(False, _enabled)),
    **_crops("tile_resolution", 1024, _tile_resolution),
    **_crops("overlap", 128, _overlap),
    **_crops("scales", [], _scales),
    **_same_crops("include_context_tiles", False),
    **_same_crops("include_full_images", True),
    **_crops("blank_std_threshold", 0.001, _blank_std),
    **_crops("blank_edge_threshold", 0.015, _blank_edge),
    **_crops("regenerate_each_epoch", False, _regenerate),
    **_same_crops("parallel_workers", 0),
    **_same_crops("save_to_disk", False),
    f"{_CROPS}save_directory": only(_has_crops, Row("", _directory)),
    **_same_crops("save_max_tiles_per_image", 0),
}
"""The fork's `image.detail_crops`. Its thresholds have other units, its scales another base."""
