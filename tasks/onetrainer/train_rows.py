"""Method, learning rate, schedule, length and cadence of a training."""

import math
from collections.abc import Iterable
from typing import Any

from tasks.onetrainer.model_rows import DTYPES, denoiser_of, is_lora
from tasks.onetrainer.optimizer_rows import ADAMW_LIKE
from tasks.onetrainer.rows import (
    Answer,
    Left,
    Put,
    Row,
    Table,
    View,
    later,
    only,
    same,
    taken,
    unlike,
    unneeded,
)

SCHEDULES = {"CONSTANT": "constant", "LINEAR": "linear", "COSINE": "cosine"}
SCALED = {
    "BATCH": ("batch_size",),
    "GLOBAL_BATCH": ("batch_size",),
    "GRADIENT_ACCUMULATION": ("gradient_accumulation_steps",),
    "BOTH": ("batch_size", "gradient_accumulation_steps"),
    "GLOBAL_BOTH": ("batch_size", "gradient_accumulation_steps"),
}
"""What the learning rate is multiplied with the root of, by `learning_rate_scaler`."""

UNITS = {"STEP": "step", "EPOCH": "epoch"}
TIMES = ("SECOND", "MINUTE", "HOUR")


def _learning_rate(value: Any, view: View) -> Iterable[Answer]:
    optimizer = view["optimizer.optimizer"]
    if optimizer not in ADAMW_LIKE:
        why = (
            f"it is meant for {optimizer}; set train.learning_rate to what suits AdamW "
            "(1e-4 is usual for a LoRA)"
        )
        return [Left("different", why)]
    part = denoiser_of(view)
    own = view[f"{part}.learning_rate"]
    rate = value if own is None else own
    note = "" if own is None else f"of {part}; learning_rate was {value:g}"
    factors = [view[key] for key in SCALED.get(view["learning_rate_scaler"], ())]
    if factors and (scale := math.sqrt(math.prod(factors))) != 1:
        note = f"{rate:g} x {scale:.3g}, which learning_rate_scaler does at the start of a run"
        rate = float(f"{rate * scale:.6g}")
    return [Put("train.learning_rate", rate, note)]


def _scaler(value: Any, view: View) -> Iterable[Answer]:
    if "GLOBAL" not in str(value):
        return []
    return [Left("different", "multiply train.learning_rate by the root of the number of GPUs")]


def _schedule(value: Any, view: View) -> Iterable[Answer]:
    if value in SCHEDULES:
        return [Put("train.schedule.kind", SCHEDULES[value])]
    near = "cosine" if str(value).startswith("COSINE") else "constant"
    why = f'this version has constant, linear and cosine; "{near}" stands in its place'
    return [Put("train.schedule.kind", near, f"was {value}"), Left("not yet", why)]


def _warmup(value: Any, view: View) -> Iterable[Answer]:
    if 0 < value <= 1:
        why = (
            "the number of steps is not known before the data is; set train.schedule.warmup_steps "
            f"to {value:.0%} of the steps that `tilewright plan` tells"
        )
        note = f"was {value:.0%} of all steps: put their number here"
        return [Put("train.schedule.warmup_steps", 0, note), Left("different", why)]
    steps, note = _optimizer_steps(max(value, 0), view)
    return [Put("train.schedule.warmup_steps", steps, note)]


def _min_factor(value: Any, view: View) -> Iterable[Answer]:
    note = "the rate stops falling there; OneTrainer's curve ends there" if value else ""
    return [Put("train.schedule.min_factor", value, note)]


def _optimizer_steps(value: float, view: View) -> tuple[int, str]:
    """A number of OneTrainer's steps, which are batches, in optimizer steps."""
    batches = int(view["gradient_accumulation_steps"])
    if batches <= 1:
        return int(value), ""
    return max(1, int(value / batches)), f"was {value:g} batches; steps are optimizer steps here"


def _clip(value: Any, view: View) -> Iterable[Answer]:
    return [Put("train.clip_grad_norm", 0.0 if value is None else value)]


def _train_dtype(value: Any, view: View) -> Iterable[Answer]:
    if value == "TFLOAT_32":
        return [Put("train.train_dtype", "float32", "was TFLOAT_32")]
    if value in DTYPES:
        return [Put("train.train_dtype", DTYPES[value])]
    return [Left("unknown", f"no such data type; known: {', '.join(DTYPES)}")]


def _device(value: Any, view: View) -> Iterable[Answer]:
    if str(value) in ("cuda", "cpu"):
        return [Put("train.device", "cpu")] if value == "cpu" else []
    return [Left("different", "train.device is auto, cpu or cuda; CUDA_VISIBLE_DEVICES picks one")]


def _processes(value: Any, view: View) -> Iterable[Answer]:
    if not value:
        return []
    chosen = [index for index in str(view["device_indexes"]).split(",") if index.strip()]
    if chosen:
        note = f"one per GPU; choose them with CUDA_VISIBLE_DEVICES={','.join(chosen)}"
        return [Put("train.processes", len(chosen), note)]
    return [Left("different", "set train.processes to the number of GPUs")]


def _cadence(key: str, default: int, unit_key: str) -> Row:
    """A number whose unit stands under another key: `backup_after` with `backup_after_unit`."""

    def convert(value: Any, view: View) -> Iterable[Answer]:
        unit = view[unit_key]
        if unit == "NEVER" or value <= 0:
            return [Put(f"{key}.every", 0)]
        if unit == "ALWAYS":
            return [Put(f"{key}.every", 1), Put(f"{key}.unit", "step")]
        if unit in UNITS:
            steps, note = _optimizer_steps(value, view) if unit == "STEP" else (int(value), "")
            every = Put(f"{key}.every", max(1, steps), note, always=True)
            return [every, Put(f"{key}.unit", UNITS[unit], always=True)]
        if unit not in TIMES:
            return [Left("unknown", f"{unit} is no unit of OneTrainer's")]
        why = f"counted in steps or epochs, not in {str(unit).lower()}s; set {key}.every and .unit"
        return [Left("different", why)]

    return Row(default, convert)


def _keep(value: Any, view: View) -> Iterable[Answer]:
    if value:
        return [Put("train.backup.keep", view["rolling_backup_count"])]
    return [Left("different", "OneTrainer keeps all backups; here train.backup.keep are kept")]


def _peft(value: Any, view: View) -> Iterable[Answer]:
    if value == "LORA":
        return []
    return [Left("not yet", "this version has the plain LoRA, which stands in its place")]


TRAIN: Table = {
    "learning_rate": Row(3e-6, _learning_rate),
    "learning_rate_scaler": Row("NONE", _scaler),
    "learning_rate_scheduler": Row("CONSTANT", _schedule),
    "learning_rate_warmup_steps": Row(200.0, _warmup),
    "learning_rate_min_factor": Row(0.0, _min_factor),
    "learning_rate_cycles": later(1.0, "schedules with restarts"),
    "custom_learning_rate_scheduler": later(None, "schedules of your own", quiet=("",)),
    "scheduler_params": later([], "schedules of your own", quiet=(None,)),
    "epochs": same("train.epochs", 100),
    "batch_size": same("train.batch_size", 1),
    "gradient_accumulation_steps": same("train.gradient_accumulation_steps", 1),
    "clip_grad_norm": Row(1.0, _clip, nullable=True),
    "train_dtype": Row("FLOAT_16", _train_dtype),
    "fallback_train_dtype": unneeded("BFLOAT_16", "nothing here falls back", quiet=("FLOAT_32",)),
    "train_device": Row("cuda", _device),
    "temp_device": unneeded("cpu", "text encoders and VAE are not in memory while training"),
    "multi_gpu": Row(False, _processes),
    "device_indexes": taken(""),
    "lora_rank": only(is_lora, same("train.method.rank", 16)),
    "lora_alpha": only(is_lora, same("train.method.alpha", 1.0)),
    "peft_type": only(is_lora, Row("LORA", _peft)),
    "backup_after": _cadence("train.backup", 30, "backup_after_unit"),
    "backup_after_unit": taken("MINUTE"),
    "rolling_backup": Row(False, _keep),
    "rolling_backup_count": taken(3),
    "backup_before_save": unneeded(True, "a backup is always written at the end"),
    "sample_after": _cadence("train.sample", 10, "sample_after_unit"),
    "sample_after_unit": taken("MINUTE"),
    "sample_definition_file_name": taken("training_samples/samples.json"),
    "samples": taken(),
    "sample_skip_first": unlike(0, "samples are drawn from the first time on"),
    "continue_last_backup": unlike(
        False, "the same command goes on by itself; `tilewright train --resume RUN_ID` picks a run"
    ),
}
