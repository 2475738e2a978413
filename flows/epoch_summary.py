"""What the epochs of a training will be and what is exported, in a few lines for people."""

from collections import Counter
from typing import Any

MOST_BUCKETS = 4
UNSEEN = {
    "off": "repeats or samples_per_epoch are 0",
    "turn": "their turn does not come",
    "choice": "not drawn",
    "remainder": "in an incomplete batch each time (data.remainder)",
    "steps": "max_steps comes first",
}
"""Why rows are never trained, as `tasks.epochs.outlook` names the reasons."""


def epoch_lines(epochs: dict[str, Any]) -> list[str]:
    """Steps, shares, and what is dropped, repeated or never seen."""
    lines = [_steps(epochs), _shares(epochs)]
    looked = epochs["epochs"]
    for fate in ("dropped", "repeated"):
        counts: Counter[str] = Counter()
        for epoch in looked:
            counts.update(epoch[fate])
        if counts:
            why = "incomplete batches and steps"
            each = f"{_number(counts.total() / len(looked))} per epoch"
            lines.append(f"{fate:<12}{each}, {why}: {_buckets(counts, len(looked))}")
    for reason, why in UNSEEN.items():
        unseen = Counter(
            {u["bucket"]: u["rows"] for u in epochs["unseen"] if u["reason"] == reason}
        )
        if unseen:
            lines.append(f"{'never seen':<12}{unseen.total():,}, {why}: {_buckets(unseen, 1)}")
    return lines


def export_lines(exported: dict[str, Any], *, planned: bool) -> list[str]:
    """Where the tiles are and how many were written, or would be."""
    verb = "to write" if planned else "written"
    counts = f"{exported['tiles']:,}: {verb} {exported['written']:,} pictures and "
    counts += f"{exported['sidecars']:,} texts; with a text of yours: {exported['edited']:,}"
    lines = [f"{'tiles':<12}{counts}; folder: {', '.join(exported['folders'])}"]
    return lines + [f"{'not cut':<12}{path}: it changed meanwhile" for path in exported["skipped"]]


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(nbytes: float) -> str:
    """A number of bytes as people say it."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}" if unit != "B" else f"{nbytes:.0f} B"
        nbytes /= 1000
    return f"{nbytes:,.1f} TB"


def _steps(epochs: dict[str, Any]) -> str:
    about = "" if epochs["exact"] and not epochs.get("at_most") else "about "
    steps = [epoch["steps"] for epoch in epochs["epochs"]]
    each = f"{min(steps):,}" if min(steps) == max(steps) else f"{min(steps):,} to {max(steps):,}"
    count = f"{epochs['num_epochs']:,}, " if epochs["num_epochs"] else ""
    batch = f"batch {epochs['batch_size']}"
    if epochs["step_size"] > 1:
        batch += f" x {epochs['step_size']}"
    whole = f"{about}{epochs['num_steps']:,} in all"
    return f"{'epochs':<12}{count}of {each} steps each ({batch}), {whole}"


def _shares(epochs: dict[str, Any]) -> str:
    told = []
    for kind in epochs["kinds"]:
        enlarged = f", {kind['enlarged']:,} enlarged" if kind["enlarged"] else ""
        told.append(f"{kind['kind']} {kind['share']:.0%} ({kind['samples']:,} samples{enlarged})")
    return f"{'trained on':<12}{', '.join(told)}"


def _buckets(counts: Counter[str], epochs: int) -> str:
    """The buckets with the most, per epoch."""
    told = [f"{name} {_number(n / epochs)}" for name, n in counts.most_common(MOST_BUCKETS)]
    more = len(counts) - MOST_BUCKETS
    return ", ".join([*told, f"{more} more"] if more > 0 else told)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
