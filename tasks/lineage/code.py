"""Which code trained a model: the version of the package, and the commit of a clone."""

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tasks

GIT_SECONDS = 20
COMMIT = "TILEWRIGHT_COMMIT"
"""Environment variable of images, which have no clone."""


def code_version() -> dict[str, str | None]:
    """`version`, and `commit`: null unless the code is a clone; `-dirty` where it was changed."""
    try:
        number = version("tilewright")
    except PackageNotFoundError:
        number = "0"
    commit = os.environ.get(COMMIT) or _commit(Path(tasks.__file__).parents[1])
    return {"version": number, "commit": commit}


def code_name(code: dict[str, str | None]) -> str:
    """One word, as in `0.1.0+3f2c91ab77d0`."""
    commit = code["commit"]
    if commit is None:
        return str(code["version"])
    name, dirty, _ = commit.partition("-dirty")
    return f"{code['version']}+{name[:12]}{'.dirty' if dirty else ''}"


def _commit(root: Path) -> str | None:
    if not (root / ".git").exists():  # a folder above may be a clone of something else
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    command += ["--exclude", "*"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
