"""The text of `tilewright lineage`: a chain from the model down to its photos."""

from collections.abc import Iterator, Mapping
from typing import Any

from tasks.lineage.code import code_name

MAX_SOURCES = 40


def lineage_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The whole chain."""
    yield from _heading(told)
    parts = told["trained"]
    for part in parts:
        yield ""
        if len(parts) > 1:
            yield f"from step {part['from_step']:,} on"
        yield from _part(part)
        yield ""
        yield from _sources(part["sources"])


def source_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What of one photo went in."""
    source = told["source"]
    yield from _heading(told)
    yield ""
    yield f"photo    {source['path']}: {source['file']}"
    yield f"         source_id {source['source_id']}"
    for path in source["seen_under"]:
        if path != source["path"]:
            yield f"         seen under {path}"
    for part in source["trained"]:
        yield ""
        if len(told["trained"]) > 1:
            yield f"from step {part['from_step']:,} on"
        for row in part["rows"]:
            yield from _row(row)


def _heading(told: Mapping[str, Any]) -> Iterator[str]:
    is_run = told["as_written"] is None
    if not is_run or told["model"] not in (told["run_id"], told["workspace"]):
        fits = {None: "", True: " (of this lineage)", False: " (its run went on since)"}
        yield f"model    {told['model']}{fits[told['as_written']]}"
    steps = "" if told["step"] is None else f", step {told['step']:,}"
    yield f"run      {told['run_id']}: {told['state'] or 'not finished'}{steps}"
    from_run = told["base"]["from_run"]
    of_run = f", made by run {from_run}" if from_run else ""
    yield f"base     {told['base']['name']} ({told['base']['family']}){of_run}"
    yield f"         digest {told['base']['digest']}"


def _part(part: Mapping[str, Any]) -> Iterator[str]:
    dataset, counts = part["dataset"], part["counts"]
    yield f"code     tilewright {code_name(part['code'])}, config {part['config_digest']}"
    yield f"dataset  {dataset['name']}@{dataset['version']} of {dataset['created_at']}"
    yield f"         content {dataset['content_digest']}"
    held_out = counts["split"].get("validation", 0)
    apart = f", {held_out:,} of them for validation" if held_out else ""
    yield f"         {counts['rows']:,} rows of {counts['sources']:,} photos{apart}"
    for name in ("kind", "prompts", "concept"):
        label = "views" if name == "kind" else f"{name.rstrip('s')}s"
        yield f"{label:<9}{', '.join(f'{n:,} {what}' for what, n in counts[name].items())}"
    for one in counts["captions"]:
        told = f"{one['rows']:,} rows by {one['model']}"
        yield f"captions {told} (digest {one['digest'] or 'unknown'})"
    yield "stages"
    for name, facts in part["stages"].items():
        if facts["num_items"]:
            yield f"  {name:<9}{facts['num_items']:>8,} items  {facts['stage_id']}"


def _sources(sources: list[dict[str, Any]]) -> Iterator[str]:
    yield f"{'rows':>6}{'tiles':>7}{'captions':>10}  {'source_id':<34}path"
    for one in sources[:MAX_SOURCES]:
        counts = f"{one['rows']:>6,}{one['tiles']:>7,}{one['captions']:>10,}"
        yield f"{counts}  {one['source_id']:<34}{one['path']}"
    if len(sources) > MAX_SOURCES:
        yield f"... and {len(sources) - MAX_SOURCES:,} more; --json lists all"


def _row(row: Mapping[str, Any]) -> Iterator[str]:
    left, top, width, height = row["rect"]
    scale = "" if row["kind"] == "full" else f" x{row['scale']:g}"
    view = f"{row['kind']}{scale} {width}x{height} at {left},{top}"
    made = f" by {row['caption_model']}" if row["caption_model"] else ""
    held_out = "" if row["split"] == "train" else f" ({row['split']})"
    yield f"{view}{held_out}  [{row['prompt_origin']}{made}]"
    for prompt in row["prompts"]:
        yield f"    {prompt or '(no text)'}"
