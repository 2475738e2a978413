"""When something happens in a training: backups, saves, samples, validation."""

from collections.abc import Iterable
from typing import Any

from tasks.onetrainer.rows import Answer, Left, Put, Row, Table, View, only, taken, unlike, unneeded
from tasks.onetrainer.units import cadence, skip_first


def _keep(value: Any, view: View) -> Iterable[Answer]:
    if value:
        return [Put("train.backup.keep", view["rolling_backup_count"])]
    return [Left("different", "OneTrainer keeps all backups; here train.backup.keep are kept")]


def _validation(value: Any, view: View) -> Iterable[Answer]:
    if not value:
        return [Put("train.validation.every", 0)]
    note = "at the middle timestep alone, as OneTrainer does; 4 tells more"
    return [Put("train.validation.quantiles", 1, note)]


def _validates(view: View) -> bool:
    return bool(view["validation"])


def _has_held_out(view: View) -> bool:
    """Whether there are validation concepts, without which nothing is measured here or there."""
    return bool(view.facts.get("has_held_out"))


def _measures(view: View) -> bool:
    return _validates(view) and _has_held_out(view)


CADENCES: Table = {
    "backup_after": cadence("train.backup", 30, "backup_after_unit"),
    "backup_after_unit": taken("MINUTE"),
    "rolling_backup": Row(False, _keep),
    "rolling_backup_count": taken(3),
    "backup_before_save": unneeded(True, "a backup is always written at the end"),
    "save_every": cadence("train.save", 0, "save_every_unit"),
    "save_every_unit": taken("NEVER"),
    "save_skip_first": skip_first("train.save", "save_every", "save_every_unit"),
    "sample_after": cadence("train.sample", 10, "sample_after_unit"),
    "sample_after_unit": taken("MINUTE"),
    "sample_skip_first": skip_first("train.sample", "sample_after", "sample_after_unit"),
    "sample_definition_file_name": taken("training_samples/samples.json"),
    "samples": taken(),
    "sample_image_format": unlike("JPG", "samples are PNG files", quiet=("PNG",)),
    "sample_video_format": unneeded("MP4", "there are no families for video"),
    "sample_audio_format": unneeded("MP3", "there are no families for sound"),
    "samples_to_tensorboard": unneeded(True, "samples are always in TensorBoard too"),
    "validation": only(_has_held_out, Row(False, _validation)),
    "validate_after": only(_measures, cadence("train.validation", 1, "validate_after_unit")),
    "validate_after_unit": taken("EPOCH"),
    "continue_last_backup": unlike(
        False, "the same command goes on by itself; `tilewright train --resume RUN_ID` picks a run"
    ),
}
