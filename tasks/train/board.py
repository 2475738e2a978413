"""TensorBoard: one continuous run in one folder, however often the training was resumed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.train.loop import StepReport
from tasks.train.validation import Validation

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch.utils.tensorboard import SummaryWriter


def open_board(folder: Path, finished_steps: int) -> "SummaryWriter":
    """A writer that hides what an earlier, crashed call wrote after step `finished_steps`."""
    from torch.utils.tensorboard import SummaryWriter

    purge = finished_steps + 1 if finished_steps else None
    return SummaryWriter(str(folder), purge_step=purge, flush_secs=10)


def log_step(board: "SummaryWriter", report: StepReport) -> None:
    """The curves of a step; what is not known of a step that was left out has a gap."""
    values = {
        "train/loss": report.loss,
        "train/loss_smoothed": report.progress.smoothed_loss,
        "train/grad_norm": report.grad_norm,
        "train/epoch": report.epoch,
        "speed/samples_per_second": report.num_samples / report.seconds,
        "speed/data_wait_share": report.wait_seconds / report.seconds,
        **{f"learning_rate/{part}": rate for part, rate in report.learning_rates.items()},
        **{f"memory/{name}": value for name, value in report.memory_gib.items()},
    }
    if report.ema_decay is not None:
        values["train/ema_decay"] = report.ema_decay
    for name, value in values.items():
        if value is not None:
            board.add_scalar(name, value, report.progress.step)


def log_validation(board: "SummaryWriter", validation: Validation, step: int) -> None:
    """The losses on held-out rows."""
    board.add_scalar("validation/loss", validation.loss, step)
    for concept, loss in validation.by_concept.items():
        board.add_scalar(f"validation/concept/{concept}", loss, step)
    for number, loss in enumerate(validation.by_quantile):
        board.add_scalar(f"validation/quantile/{number}", loss, step)


def log_images(board: "SummaryWriter", images: "Sequence[Image]", step: int) -> None:
    """Sample images, one per prompt."""
    import numpy as np

    for number, image in enumerate(images):
        pixels = np.asarray(image.convert("RGB"))
        board.add_image(f"samples/{number:02}", pixels, step, dataformats="HWC")
    board.flush()
