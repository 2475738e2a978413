"""Files and folders that appear whole or not at all, and never over something that exists."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from storage.local_files import link_exclusively
from tasks.train.files import sync

if TYPE_CHECKING:
    from torch import Tensor


def write_safetensors(
    destination: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]
) -> Path:
    """Write one safetensors file, with `format: pt` in its header; refuses an existing file."""
    from safetensors.torch import save_file

    refuse_existing(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".saving-") as folder:
        temporary = Path(folder) / destination.name
        save_file(dict(tensors), temporary, metadata={**metadata, "format": "pt"})
        sync(temporary)
        if not link_exclusively(temporary, destination):
            refuse_existing(destination)
    sync(destination.parent)
    return destination


def publish_folder(destination: Path, write: Callable[[Path], None]) -> Path:
    """Call `write(folder)` on a temporary folder and move it to `destination` when complete."""
    refuse_existing(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=destination.parent, prefix=".saving-"))
    try:
        write(temporary)
        for path in sorted(temporary.rglob("*")):
            sync(path)
        temporary.chmod(0o755)
        temporary.rename(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync(destination.parent)
    return destination


def refuse_existing(destination: Path) -> None:
    """FileExistsError when something is at the destination already."""
    if destination.exists():
        raise FileExistsError(
            f"{destination}: exists already and is never overwritten; choose another "
            "`model.output` or move it away"
        )
