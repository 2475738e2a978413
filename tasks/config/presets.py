"""Presets: ready-made layers that a config file extends by name."""

import os
from pathlib import Path

from tasks.config.problems import as_toml, nearest

FOLDER = Path(__file__).parent / "presets"
HIDDEN = "_"
"""What the names of layers begin with that presets share and nobody extends by himself."""


def own_folder() -> Path:
    """Of the user's own presets: TILEWRIGHT_PRESETS, else ~/.config/tilewright/presets."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    folder = os.environ.get("TILEWRIGHT_PRESETS") or f"{config}/tilewright/presets"
    return Path(folder).expanduser().absolute()


def names() -> list[str]:
    """The names of all presets, ours and the user's."""
    return sorted({*names_in(FOLDER), *names_in(own_folder())})


def names_in(folder: Path) -> list[str]:
    """The names of the presets in a folder."""
    return sorted(file.stem for file in folder.glob("*.toml") if not file.stem.startswith(HIDDEN))


def file_of(name: str) -> Path:
    """The file of a preset, hidden or not.

    Raises:
        ValueError: there is none, or there are two; says what to do.
    """
    found = [folder / f"{name}.toml" for folder in (FOLDER, own_folder())]
    found = [file for file in found if file.is_file()]
    if len(found) > 1:
        raise ValueError(f"is a preset of Tilewright and one of yours: rename {found[1]}")
    if not found:
        near = nearest(name, names())
        hint = f"did you mean {as_toml(near)}? " if near else ""
        raise ValueError(
            f"no such preset; {hint}`tilewright presets` lists {len(names())} of them. Your own "
            f"are looked for in {own_folder()}"
        )
    return found[0]


def is_preset(file: Path) -> bool:
    """Whether a file is one of the presets."""
    return file.parent in (FOLDER, own_folder())


def description(name: str) -> str:
    """The comment at the top of a preset, as one line."""
    lines = []
    for line in file_of(name).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def label(file: Path) -> str:
    """A file as messages name it: the preset's name, or the path, short when it is below here."""
    if is_preset(file):
        return f"preset {file.stem}"
    if file.is_relative_to(Path.cwd()):
        return str(file.relative_to(Path.cwd()))
    return str(file)
