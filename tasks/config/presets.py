"""Presets: ready-made layers that a config file extends by name."""

from pathlib import Path

FOLDER = Path(__file__).parent / "presets"


def names() -> list[str]:
    """The names of all presets."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def file_of(name: str) -> Path:
    """The file of a preset."""
    return FOLDER / f"{name}.toml"


def is_preset(file: Path) -> bool:
    """Whether a file is one of the presets."""
    return file.parent == FOLDER


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
