"""TensorBoard: one continuous run in one folder, however often the training was resumed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.train.loop import StepReport

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch.utils.tensorboard import SummaryWriter


def open_board(folder: Path, finished_steps: int) -> "SummaryWriter":
    """A writer that hides what an earlier, crashed call wrote after step `finished_steps`."""
    from torch.utils.tensorboard import SummaryWriter

    purge = finished_steps + 1 if finished_steps else None
    return SummaryWriter(str(folder), purge_step=purge, flush_secs=10)


def log_step(board: "SummaryWriter", report: StepReport) -> None:
    """The curves of a step."""
    values = {
        "train/loss": report.loss,
        "train/loss_smoothed": report.progress.smoothed_loss,
        "train/learning_rate": report.learning_rate,
        "train/grad_norm": report.grad_norm,
        "train/epoch": report.epoch,
        "speed/samples_per_second": report.num_samples / report.seconds,
        "speed/data_wait_share": report.wait_seconds / report.seconds,
    }
    for name, value in values.items():
        board.add_scalar(name, value, report.progress.step)


def log_images(board: "SummaryWriter", images: "Sequence[Image]", step: int) -> None:
    """Sample images, one per prompt."""
    import numpy as np

    for number, image in enumerate(images):
        pixels = np.asarray(image.convert("RGB"))
        board.add_image(f"samples/{number:02}", pixels, step, dataformats="HWC")
    board.flush()
