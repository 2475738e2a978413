"""What the report says of the epochs: the outlook of a training, told briefly."""

from collections.abc import Mapping
from typing import Any

from tasks.epochs.outlook import EpochOutlook, Outlook, Reason

WHY_UNSEEN: Mapping[Reason, str] = {
    "off": "repeats or samples_per_epoch are 0",
    "turn": "the turn of their resolution, variation or grid does not come in these epochs",
    "choice": "not drawn in these epochs",
    "remainder": 'in an incomplete batch each time (data.remainder = "drop")',
    "steps": "max_steps comes first",
}


def epoch_table(outlook: Outlook) -> list[dict[str, Any]]:
    """Return one line per run of epochs that are alike."""
    lines: list[dict[str, Any]] = []
    for epoch in outlook.epochs:
        facts = _facts(epoch)
        if lines and lines[-1]["facts"] == facts:
            lines[-1]["last"] = epoch.epoch + 1
        else:
            lines.append({"first": epoch.epoch + 1, "last": epoch.epoch + 1, "facts": facts})
    return lines


def unseen_table(outlook: Outlook) -> list[dict[str, Any]]:
    """Return what no epoch looked at trains, by reason, with the buckets of most rows first."""
    by_reason: dict[Reason, dict[str, int]] = {}
    for unseen in outlook.unseen:
        by_reason.setdefault(unseen.reason, {})[unseen.bucket] = unseen.rows
    return [
        {"why": why, **_by_bucket(by_reason[reason])}
        for reason, why in WHY_UNSEEN.items()
        if reason in by_reason
    ]


def _facts(epoch: EpochOutlook) -> dict[str, Any]:
    return {
        "steps": epoch.steps,
        "entries": epoch.entries,
        "dropped": _by_bucket(epoch.dropped),
        "repeated": _by_bucket(epoch.repeated),
    }


def _by_bucket(counts: Mapping[str, int]) -> dict[str, Any]:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"total": sum(counts.values()), "buckets": most}
