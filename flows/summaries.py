"""The summaries of commands, for people: tables and locations on standard error."""

from typing import Any

from rich.table import Table

from flows.command_outcome import say, stderr
from flows.epoch_summary import duration, epoch_lines, export_lines, size

COUNTS = ("wanted", "reused", "computed", "new", "changed", "removed", "rejected")
MAX_REASONS = 4
MAX_REJECTS = 10


def show_prepared(summary: dict[str, Any]) -> None:
    """The summary of `plan` and `prepare`."""
    show_stages(summary)
    show_review(summary)
    say(f"took {summary['seconds']:.1f} s")


def show_stages(summary: dict[str, Any]) -> None:
    """The stage table, the dataset and what its epochs will be."""
    stderr.print(stage_table(summary["stages"]), soft_wrap=False)
    if told := estimated(summary.get("estimate")):
        say(told)
    if captions := summary.get("captions"):
        say(captions_line(captions))
    show_rejects(summary.get("rejects", []))
    if missing := summary.get("missing_captions"):
        say(f"photos without a caption, trained on the empty prompt: {missing:,}")
    outlook = summary.get("outlook")
    show_dataset(summary["dataset"], at_most=bool(outlook and outlook.get("at_most")))
    if outlook:
        for line in epoch_lines(outlook):
            say(line)
    if exported := summary.get("export"):
        for line in export_lines(exported, planned="estimate" in summary):
            say(line)
    if summary.get("report"):
        say(f"{'report':<12}{summary['report']}")


def show_review(summary: dict[str, Any]) -> None:
    """That captions wait for a person, and how to go on."""
    if waiting := summary.get("review"):
        say(f"{'captions':<12}{waiting['page']}")
        say(f"{waiting['pending']:,} new captions wait for you; nothing was encoded yet.")
        for line in waiting.get("go_on", []):
            say(f"  {line}")


def stage_table(stages: dict[str, Any]) -> Table:
    """The counts of every stage; a plan's has estimates too."""
    is_plan = any("estimate" in stage for stage in stages.values())
    more = ("time", "size") if is_plan else ()
    table = Table("stage", *COUNTS, *more, "why", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for name, stage in stages.items():
        if name == "captions" and not (stage["wanted"] or stage["rejected"]):
            continue
        about = "" if stage.get("exact", True) else "at most: "
        cells = [f"{stage.get(key, 0):,}" for key in COUNTS]
        if is_plan:
            cells += _estimate_cells(stage)
        table.add_row(name, *cells, about + reasons(stage))
    return table


def _estimate_cells(stage: dict[str, Any]) -> tuple[str, str]:
    """What a stage will take, empty where it has nothing to do."""
    if not stage["computed"]:
        return "", ""
    known = stage.get("estimate")
    if known is None:
        return "?", "?"
    return duration(known["seconds"]), size(known["bytes"])


def estimated(total: dict[str, Any] | None) -> str:
    """The sum of a plan's estimates as a sentence; empty when nothing is known or to be done."""
    if not total or not (total["seconds"] or total["bytes"] or total["unknown"]):
        return ""
    told = f"estimated from earlier runs: {duration(total['seconds'])}, {size(total['bytes'])}"
    unknown = ", ".join(total["unknown"])
    return f"{told}, and what is not known yet: {unknown}" if unknown else told


def captions_line(captions: dict[str, Any]) -> str:
    """How many tiles have texts of their own, and what came of the other questions."""
    parts = [f"{captions[origin]:,} {origin}" for origin in ("generated", "edited")]
    for what, count in captions["unusable"].items():
        parts.append(f"{count:,} not usable ({what})")
    parts += [f"{count:,} failed ({kind})" for kind, count in captions["failed"].items()]
    return f"{'captions':<12}{', '.join(parts)}"


def show_rejects(rejects: list[dict[str, Any]]) -> None:
    """The files that could not be used, each with its reason."""
    for reject in rejects[:MAX_REJECTS]:
        say(f"rejected by {reject['stage']}: {reject['path']}: {reject['reason']}")
    if len(rejects) > MAX_REJECTS:
        say(f"and {len(rejects) - MAX_REJECTS:,} more rejected files; the report has them all")


def reasons(stage: dict[str, Any]) -> str:
    """Why a stage has work, the most frequent reasons first."""
    found = sorted(stage.get("reasons", {}).items(), key=lambda item: -item[1])
    told = [f"{count:,} {reason}" for reason, count in found[:MAX_REASONS]]
    more = len(found) - MAX_REASONS
    return "; ".join([*told, f"{more} more reasons"] if more > 0 else told)


def show_dataset(dataset: dict[str, Any], *, at_most: bool = False) -> None:
    """Name, version, size and place of a dataset; in a plan some tiles may still be dropped."""
    version = f"@{dataset['version']}" if dataset.get("version") else " (no version yet)"
    about = "at most " if at_most else ""
    samples = f", {about}{dataset['num_samples']:,} samples" if dataset.get("num_samples") else ""
    where = f", {dataset['uri']}" if dataset.get("uri") else ""
    say(f"dataset {dataset['name']}{version}{samples}{where}")


def show_training(summary: dict[str, Any]) -> None:
    """What a training run made and where it is."""
    if "stages" in summary:
        show_stages(summary)
    if "review" in summary:
        show_review(summary)
        return
    resumed = f", resumed from {summary['resumed_from']}" if summary.get("resumed_from") else ""
    say(f"run {summary['run_id']}: {summary['steps']:,} steps, {summary['epochs']} epochs{resumed}")
    if summary.get("reused"):
        say("this run was finished already: nothing was trained")
    if losses := summary.get("losses"):
        say(f"loss {losses[0]:.4g} -> {losses[-1]:.4g}")
    for kind in ("outputs", "samples", "backups"):
        for uri in summary.get(kind, []):
            say(f"{kind.removesuffix('s'):<12}{uri}")
    if summary.get("tensorboard"):
        say(f"{'tensorboard':<12}{summary['tensorboard']}")
    if summary.get("run_report"):
        say(f"{'report':<12}{summary['run_report']}")
    say(f"took {summary['seconds']:.1f} s")


def show_images(summary: dict[str, Any]) -> None:
    """Where the sample images are."""
    for uri in summary.get("samples", []):
        say(f"sample      {uri}")
