"""Paths of OneTrainer's files, which start at its folder, as run.toml says them."""

import os.path
import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from tasks.config.layers import SCHEME, absolute

# Files in these folders name paths from the folder above, which is OneTrainer's own.
ONETRAINER_FOLDERS = frozenset({"training_presets", "training_concepts", "training_samples"})
HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
WINDOWS = "a path of Windows: put its place on this machine here"
MISSING = "not found on this machine"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where relative paths start: in OneTrainer's files, and in run.toml."""

    root: Path
    target: Path

    def real(self, text: str) -> Path:
        """The place on this machine that a path of OneTrainer's means."""
        return Path(absolute(self._slashes(text), self.root))

    def written(self, text: str) -> str:
        """The path for run.toml: absolute ones as they are, others from run.toml's folder."""
        if is_fixed(text):
            return text
        return Path(os.path.relpath(self.real(text), self.target)).as_posix()

    def note(self, text: str) -> str:
        """What must be said of a path that is not there."""
        if _is_windows(text):
            return WINDOWS
        return "" if SCHEME.match(text) or is_there(self.real(text)) else MISSING

    def _slashes(self, text: str) -> str:
        """Windows separators of a relative path, unless a file really has that name."""
        return text if is_there(self.root / text) else text.replace("\\", "/")


def is_fixed(text: str) -> bool:
    """Whether a path means the same from every folder: absolute, in a home folder, or a URL."""
    return bool(SCHEME.match(text) or text.startswith(("/", "~")) or _is_windows(text))


def is_there(path: Path) -> bool:
    """Whether a path exists; one that no system allows does not."""
    try:
        return path.exists()
    except OSError:
        return False


def guess_root(file: Path) -> Path:
    """OneTrainer's folder, as far as the place of a file tells; else the file's own folder."""
    above = (folder.parent for folder in file.parents if folder.name in ONETRAINER_FOLDERS)
    return next(above, file.parent)


def _is_windows(text: str) -> bool:
    return not text.startswith("/") and PureWindowsPath(text).is_absolute()
