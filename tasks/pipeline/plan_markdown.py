"""A plan as Markdown: what a dry run shows in an artifact."""

from collections.abc import Mapping
from typing import Any

from tasks.pages.markdown import escaped

COUNTS = ("wanted", "reused", "computed", "new", "changed", "removed", "rejected")
MAX_REASONS = 6


def plan_markdown(told: Mapping[str, Any]) -> str:
    """What `prepare` would do, stage by stage, and why.

    Args:
        told: the object that `tilewright plan --json` prints.
    """
    dataset = told["dataset"]
    version = f"@{dataset['version']}" if dataset.get("version") else " (no version yet)"
    lines = [f"### Plan of {escaped(dataset['name'], 120)}{version}", "", _work(told), ""]
    lines.append(f"| stage | {' | '.join(COUNTS)} | seconds | bytes | why |")
    lines.append(f"|---|{'---:|' * (len(COUNTS) + 2)}---|")
    lines += [_row(name, stage) for name, stage in told["stages"].items()]
    return "\n".join(lines) + "\n"


def _work(told: Mapping[str, Any]) -> str:
    todo = [name for name, stage in told["stages"].items() if stage["computed"]]
    if not todo:
        return "Nothing would be computed."
    total = told.get("estimate") or {}
    if total.get("seconds") is None or total.get("unknown"):
        return f"Would work: {', '.join(todo)}. How long is not known yet."
    return f"Would work: {', '.join(todo)}; about {total['seconds']:,.0f} s."


def _row(name: str, stage: Mapping[str, Any]) -> str:
    at_most = "" if stage.get("exact", True) else "at most: "
    reasons = sorted(stage["reasons"].items(), key=lambda item: -item[1])
    why = "; ".join(f"{count:,} {escaped(reason)}" for reason, count in reasons[:MAX_REASONS])
    if len(reasons) > MAX_REASONS:
        why += f"; {len(reasons) - MAX_REASONS} more reasons"
    known = (stage.get("estimate") or {}) if stage["computed"] else {}
    costs = [f"{known[what]:,.0f}" if what in known else "" for what in ("seconds", "bytes")]
    cells = [f"{stage[key]:,}" for key in COUNTS]
    return f"| {name} | {' | '.join([*cells, *costs])} | {at_most}{why} |"
