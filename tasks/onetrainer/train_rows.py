"""Rates, schedule, length, data types and devices of a training, and the averaged weights."""

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.onetrainer.model_rows import DTYPES
from tasks.onetrainer.objective_rows import SCALERS
from tasks.onetrainer.optimizer_rows import is_free, ours_of, steps_by_itself
from tasks.onetrainer.rows import (
    Answer,
    Left,
    Put,
    Row,
    Table,
    View,
    choice,
    later,
    only,
    same,
    taken,
    unlike,
    unneeded,
)
from tasks.onetrainer.units import optimizer_steps

SCHEDULES = {
    "CONSTANT": "constant",
    "LINEAR": "linear",
    "COSINE": "cosine",
    "COSINE_WITH_RESTARTS": "cosine_with_restarts",
    "COSINE_WITH_HARD_RESTARTS": "cosine_with_hard_restarts",
    "REX": "rex",
    "ADAFACTOR": "adafactor",
    "CUSTOM": "custom",
}
WITHOUT_FLOOR = ("CONSTANT", "ADAFACTOR", "CUSTOM")
"""Schedules that do not read `learning_rate_min_factor`."""
RELATIVE_RATE, RELATIVE_WARMUP = 0.01, 10_000
"""Of Adafactor's relative step: the rate at first, and the steps of its `warmup_init`."""
ATTENTION = {
    "SDP": "auto",
    "DEFAULT": "auto",
    "XFORMERS": "auto",
    "FLASH": "flash",
    "CUDNN": "cudnn",
}


def _learning_rate(value: Any, view: View) -> Iterable[Answer]:
    if ours_of(view) is None:
        optimizer = view["optimizer.optimizer"]
        why = (
            f"it is meant for {optimizer}; set train.learning_rate to what suits AdamW "
            "(1e-4 is usual for a LoRA)"
        )
        return [Left("different", why)]
    if steps_by_itself(view):
        note = "the relative step of Adafactor, which does not read learning_rate"
        return [Put("train.learning_rate", RELATIVE_RATE, note)]
    return [Put("train.learning_rate", value)]


def _schedule(value: Any, view: View) -> Iterable[Answer]:
    if steps_by_itself(view):
        note = "the relative step of Adafactor"
        return [Put("train.schedule.kind", "adafactor", note)]
    if value not in SCHEDULES:
        return [Left("unknown", f"no such schedule; known: {', '.join(SCHEDULES)}")]
    if is_free(view) and value != "CONSTANT":
        note = f"was {value}, in place of which OneTrainer too takes this for such an optimizer"
        return [Put("train.schedule.kind", "constant", note)]
    if value != "CUSTOM":
        return [Put("train.schedule.kind", SCHEDULES[value])]
    module, _, name = str(view["custom_learning_rate_scheduler"] or "").rpartition(".")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", module) or not name.isidentifier():
        return [Left("different", "custom_learning_rate_scheduler names no class: module.Class")]
    return [
        Put("train.schedule.kind", "custom"),
        Put("train.schedule.function", f"{module}:{name}"),
        Put("train.schedule.params", _params(view["scheduler_params"])),
    ]


def _params(said: Any) -> dict[str, Any]:
    """Arguments of a scheduler class, which OneTrainer keeps as a list of pairs of texts."""
    return {str(pair["key"]): _literal(str(pair["value"])) for pair in said or ()}


def _literal(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a name or a placeholder such as %LR%
        return text
    return value if isinstance(value, int | float | str | bool) else text


def _warmup(value: Any, view: View) -> Iterable[Answer]:
    if steps_by_itself(view):
        steps = RELATIVE_WARMUP if view["optimizer.warmup_init"] else 0
        return _warmup_steps(steps, "the warmup_init of that step" if steps else "")
    if 0 < value <= 1:
        share = min(value, 0.999)
        note = "" if share == value else "was 1, all steps"
        return [
            Put("train.schedule.warmup_steps", 0),
            Put("train.schedule.warmup_fraction", share, note),
        ]
    return _warmup_steps(*optimizer_steps(max(value, 0), view))


def _warmup_steps(steps: int, note: str = "") -> Iterable[Answer]:
    """Only one of the two settings of a warm-up may be said, whatever the preset says."""
    return [
        Put("train.schedule.warmup_steps", steps, note),
        Put("train.schedule.warmup_fraction", 0.0),
    ]


def _reads_floor(view: View) -> bool:
    return view["learning_rate_scheduler"] not in WITHOUT_FLOOR and not is_free(view)


def _restarts(view: View) -> bool:
    return "RESTARTS" in str(view["learning_rate_scheduler"])


def _clip(value: Any, view: View) -> Iterable[Answer]:
    return [Put("train.clip_grad_norm", 0.0 if value is None else value)]


def _train_dtype(value: Any, view: View) -> Iterable[Answer]:
    if value == "TFLOAT_32":
        return [Put("train.train_dtype", "float32", "was TFLOAT_32"), Put("train.tf32", True)]
    if value not in DTYPES:
        return [Left("unknown", f"no such data type; known: {', '.join(DTYPES)}")]
    exact = [Put("train.tf32", False)] if value == "FLOAT_32" else []
    return [Put("train.train_dtype", DTYPES[value]), *exact]


def _attention(value: Any, view: View) -> Iterable[Answer]:
    if value in ATTENTION:
        return [Put("train.attention", ATTENTION[value])]
    return [Left("different", "train.attention is auto, flash, efficient, cudnn or math")]


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


def _ema(value: Any, view: View) -> Iterable[Answer]:
    kinds: Mapping[str, str] = {"OFF": "off", "GPU": "device", "CPU": "cpu"}
    if value not in kinds:
        return [Left("unknown", f"no such place; known: {', '.join(kinds)}")]
    if value != "OFF" and is_free(view):
        return [Left("different", "a schedule-free optimizer averages the weights by itself")]
    return [Put("train.ema.kind", kinds[value])]


def _has_ema(view: View) -> bool:
    return bool(view["ema"] != "OFF") and not is_free(view)


TRAIN: Table = {
    "learning_rate": Row(3e-6, _learning_rate),
    "learning_rate_scaler": choice("train.learning_rate_scaler", "NONE", SCALERS),
    "learning_rate_scheduler": Row("CONSTANT", _schedule),
    "learning_rate_warmup_steps": Row(200.0, _warmup),
    "learning_rate_min_factor": only(_reads_floor, same("train.schedule.min_factor", 0.0)),
    "learning_rate_cycles": only(_restarts, same("train.schedule.cycles", 1.0)),
    "custom_learning_rate_scheduler": taken(),
    "scheduler_params": taken([]),
    "epochs": same("train.epochs", 100),
    "batch_size": same("train.batch_size", 1),
    "gradient_accumulation_steps": same("train.gradient_accumulation_steps", 1),
    "clip_grad_norm": Row(1.0, _clip, nullable=True),
    "train_dtype": Row("FLOAT_16", _train_dtype),
    "fallback_train_dtype": unneeded("BFLOAT_16", "nothing here falls back", quiet=("FLOAT_32",)),
    "enable_autocast_cache": unneeded(True, "torch's own setting is kept"),
    "attention_mechanism": Row("SDP", _attention),
    "compile": same("train.compile", False),
    "train_device": Row("cuda", _device),
    "temp_device": unneeded("cpu", "what does not train is not in memory while training"),
    "multi_gpu": Row(False, _processes),
    "device_indexes": taken(""),
    "ema": Row("OFF", _ema),
    "ema_decay": only(_has_ema, same("train.ema.decay", 0.999)),
    "ema_update_step_interval": only(_has_ema, same("train.ema.update_every", 5)),
    "non_ema_sampling": only(
        _has_ema, unlike(True, "samples are drawn with the averaged weights alone")
    ),
    "block_learning_rate_multiplier": later({}, "one learning rate for all layers", quiet=(None,)),
}
