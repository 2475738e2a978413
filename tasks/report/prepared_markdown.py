"""A preparation as Markdown, for Prefect's artifacts: a graph of its stages, and what they made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.pages.markdown import escaped
from tasks.report.summary import STAGE_COUNTS, stage_table

MAX_BYTES = 256_000
"""Of an artifact: it is stored whole in the server's database, and shown whole in a browser."""
MAX_REASONS = 4
_WIDE = "&nbsp;" * 40
"""Keeps the column of pictures as wide as they are."""
_COLOURS = {"cached": "#d8e8d8", "worked": "#cfe2f8", "rejected": "#f8d9c4"}
_EDGES = (
    *(("scan", "prompts"), ("prompts", "crops"), ("crops", "captions"), ("crops", "masks")),
    *(("captions", "text"), ("crops", "latents"), ("text", "dataset"), ("latents", "dataset")),
    ("masks", "dataset"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """What a preparation did, for people."""

    dataset: Mapping[str, Any]
    """name, version, num_samples, content_digest, parent."""
    stages: Mapping[str, Mapping[str, Any]]
    """The counts of every stage."""
    keys: Mapping[str, str]
    """The stage_id of every stage."""
    photos: Sequence[Mapping[str, Any]] = ()
    outlook: Mapping[str, Any] | None = None
    report: str = ""
    store: str = ""


def prepared_markdown(run: PreparedRun, max_bytes: int = MAX_BYTES) -> str:
    """The run as Markdown of at most `max_bytes`: photos that do not fit are left out, and told."""
    parts = [_title(run), _graph(run), _counts(run.stages), _epochs(run.outlook), _more(run)]
    text = "\n\n".join(filter(None, parts)) + "\n"
    left = max_bytes - len(text.encode()) - 300
    shown = []
    for photo in run.photos:
        row = _photo(photo)
        left -= len(row.encode()) + 1
        if left < 0:
            break
        shown.append(row)
    if not run.photos:
        return text
    about = "" if len(shown) == len(run.photos) else "; more pictures did not fit"
    head = (
        f"\n#### Some of the photos{about}\n\n| photo and tiles{_WIDE} | trained on |\n|---|---|\n"
    )
    return text + head + "\n".join(shown) + "\n"


def _title(run: PreparedRun) -> str:
    data = run.dataset
    before = f"after version {data['parent']}" if data.get("parent") else "the first version"
    return (
        f"### {escaped(data['name'], 120)}@{data['version']}\n\n"
        f"**{data['num_samples']:,} samples**, {before}, content `{data['content_digest'][:16]}`"
    )


def _graph(run: PreparedRun) -> str:
    """The stages and what they feed; a stage that nothing asks for is left out."""
    there = {name: one for name, one in run.stages.items() if one["wanted"] or one["rejected"]}
    lines = ["```mermaid", "flowchart LR"]
    for name, counts in there.items():
        told = f"{counts['reused']:,} reused<br/>{counts['computed']:,} made"
        if counts["rejected"]:
            told += f"<br/>{counts['rejected']:,} rejected"
        key = f"<br/>{run.keys[name][:8]}" if name in run.keys else ""
        lines.append(f'  {name}["<b>{name}</b><br/>{told}{key}"]:::{_class(counts)}')
    lines.append(f'  dataset(["dataset<br/>version {int(run.dataset["version"])}"])')
    lines += [f"  {a} --> {b}" for a, b in _EDGES if a in there and (b in there or b == "dataset")]
    if "captions" not in there and "text" in there:
        lines.append("  crops --> text")
    lines += [f"  classDef {name} fill:{fill},color:#222" for name, fill in _COLOURS.items()]
    return "\n".join([*lines, "```"])


def _class(counts: Mapping[str, Any]) -> str:
    if counts["rejected"]:
        return "rejected"
    return "worked" if counts["computed"] else "cached"


def _counts(stages: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"| stage | {' | '.join(STAGE_COUNTS)} | why |"]
    lines.append(f"|---|{'---:|' * len(STAGE_COUNTS)}---|")
    for stage in stage_table(stages):
        cells = " | ".join(f"{number or 0:,}" for number in stage["numbers"])
        told = [f"{count:,} {escaped(reason)}" for reason, count in stage["reasons"]]
        more = [f"{len(told) - MAX_REASONS} more reasons"] if len(told) > MAX_REASONS else []
        lines.append(f"| {stage['name']} | {cells} | {'; '.join(told[:MAX_REASONS] + more)} |")
    return "\n".join(lines)


def _epochs(outlook: Mapping[str, Any] | None) -> str:
    if not outlook:
        return ""
    shares = [
        f"{kind['share']:.0%} {kind['kind']} ({kind['samples']:,} samples)"
        for kind in outlook["kinds"]
    ]
    return f"A training takes **{outlook['num_steps']:,} steps**: {', '.join(shares)}."


def _more(run: PreparedRun) -> str:
    name = f"{run.dataset['name']}@{run.dataset['version']}"  # a checked word: no markup
    commands = [
        f"- every photo with its tiles: `tilewright report STORE --dataset {name} --open`",
        f"- every sample with its prompt: `tilewright show STORE --dataset {name}`",
    ]
    return f"More, where STORE is {escaped(run.store, 300)}:\n\n" + "\n".join(commands)


def _photo(photo: Mapping[str, Any]) -> str:
    prompt = escaped(photo["prompt"] or "the empty prompt", 200)
    name = escaped(photo["path"].rpartition("/")[2], 100)
    told = f"{prompt}<br>*{name}*, {photo['samples']:,} samples"
    return f"| ![photo and tiles]({photo['picture']}) | {told} |"
