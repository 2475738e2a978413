"""The import as a whole: from a file of OneTrainer's to the text of a run.toml."""

from dataclasses import dataclass
from pathlib import Path

from tasks.onetrainer.checking import checked, short
from tasks.onetrainer.convert import Untaken, convert, slug
from tasks.onetrainer.document import document
from tasks.onetrainer.paths import Paths
from tasks.onetrainer.reading import read_source


@dataclass(frozen=True)
class Imported:
    """A run.toml that is not yet written, and what it could not hold."""

    text: str
    num_mapped: int
    left: list[Untaken]


def import_file(file: Path, folder: Path, root: Path | None = None) -> Imported:
    """Converts a configuration or a list of concepts.

    Args:
        file: OneTrainer's JSON file.
        folder: where run.toml will be; relative paths in it start there.
        root: where relative paths in OneTrainer's files start; default: see `read_source`.

    Raises:
        ConfigError: the file cannot be read, or is none of OneTrainer's.
    """
    source = read_source(file, root)
    paths = Paths(source.root, folder.absolute())
    converted = checked(convert(source, paths, slug(file.stem) or "dataset"))
    text = document(file.name, converted.preset, short(converted), converted.left)
    return Imported(text, converted.num_mapped, converted.left)
