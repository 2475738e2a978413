"""`tilewright import-onetrainer`: a run.toml made from a file of OneTrainer's."""

import math
from pathlib import Path
from typing import Any

from flows.command_outcome import refuse, say
from flows.output_file import require_free, write_new
from tasks.onetrainer.importing import import_file
from tasks.onetrainer.rows import Kind

NOT_MAPPED: dict[Kind, str] = {
    "not yet": "for a later version",
    "different": "done in another way here",
    "not needed": "not needed here",
    "unknown": "not known to the import",
}


def import_onetrainer(source: str, output: str, root: str | None) -> dict[str, Any]:
    """Writes a run.toml and says what it could not hold.

    Args:
        source: a configuration, a preset or a list of concepts (JSON).
        output: the file to write; it must not be there yet.
        root: where relative paths in `source` start.

    Raises:
        ConfigError: `source` is no file of OneTrainer's, or `output` cannot be written.
    """
    target = Path(output).expanduser().absolute()
    _require_free(target)
    folder = None if root is None else Path(root).expanduser()
    imported = import_file(Path(source).expanduser(), target.parent, folder)
    write_new(target, imported.text.encode(), "--output")
    not_mapped = [
        {"key": one.key, "value": _plain(one.value), "why": f"{one.left.kind}: {one.left.why}"}
        for one in imported.left
    ]
    return {"config": str(target), "mapped": imported.num_mapped, "not_mapped": not_mapped}


def show_import(summary: dict[str, Any]) -> None:
    """The summary of an import, for people."""
    say(f"{summary['mapped']:,} settings taken over into {summary['config']}")
    kinds = [one["why"].partition(":")[0] for one in summary["not_mapped"]]
    for kind, words in NOT_MAPPED.items():
        if count := kinds.count(kind):
            say(f"{count:,} {words}; the file lists them at its end")
    say(f"next: tilewright plan {summary['config']}")


def _plain(value: Any) -> Any:
    """The value for JSON, which has no infinity; OneTrainer writes it as text too."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _require_free(target: Path) -> None:
    require_free(target, "--output")
    if target.suffix != ".toml":
        refuse("--output", "must end with .toml", str(target))
