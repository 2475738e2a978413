"""Captions: what every tile trains on and why, for people, and what they change in it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage import tables
from storage.naming import now_iso
from storage.records import CAPTIONS, K
from storage.shards import RecordWriter
from tasks.arrow import as_array
from tasks.captions import edits
from tasks.captions.chosen import Target, targets
from tasks.captions.failures import breakdown
from tasks.captions.generated import chosen_targets, committed_answers, look
from tasks.captions.reviews import approve
from tasks.captions.stage import answered, rows_of
from tasks.config.models import Config
from tasks.crops.drops import Named, drop, named_views
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageRef
from tasks.wording.resolve import EDITED, GENERATED, is_coming, resolve_prompts

LAST = "captions"
"""The stage up to which a table of captions is planned."""


@dataclass(frozen=True, slots=True)
class Captioned:
    """One tile, or one photo without a prompt, and its text."""

    target: Target
    prompts: tuple[str, ...]
    """What it trains on; empty where a caption is yet to be made."""
    origin: str
    """generated, edited, inherited, the source's own, none, or `to come`."""
    without_edit: tuple[str, ...]
    """What it would train on if no person had given it a text."""
    answer: Mapping[str, Any] | None
    """The newest answer of a model to what is asked now, usable or not: a row of CAPTIONS."""
    chosen: bool
    """Whether a model is to caption it."""


def captioned(config: Config) -> list[Captioned]:
    """Every kept tile and every photo without a prompt, as a run would find them now.

    Plans the stages up to captions; nothing is written and no model is asked.
    """
    return captioned_of(config, _planned(config)[1])


def captioned_of(config: Config, manifests: Mapping[str, pa.Table]) -> list[Captioned]:
    """As `captioned`, from the manifests of the stages up to captions, planned or made."""
    context = Context(config, dry_run=True)
    there = targets(config, manifests)
    answers = committed_answers(context)
    made = rows_of(look(config, chosen_targets(config, there), answers), config)
    chosen = dict(zip(_owners(made), made["key"].to_pylist(), strict=True))
    given = answers.filter(pc.is_in(answers["key"], as_array(made["key"])))
    answer_of = {row["key"]: row for row in given.to_pylist()}
    samples = _samples(there)
    now = resolve_prompts(samples, manifests, config)
    unedited = {**manifests, "captions": answered(made, answers)}
    before = resolve_prompts(samples, unedited, config)
    columns = [now["prompts"], now["prompt_origin"], before["prompts"]]
    found = []
    for target, prompts, origin, without in zip(
        there, *(column.to_pylist() for column in columns), strict=True
    ):
        owner = target.concept, target.view_id
        coming = any(map(is_coming, prompts))
        found.append(
            Captioned(
                target=target,
                prompts=() if coming else tuple(prompts),
                origin="to come" if coming else origin,
                without_edit=tuple(without),
                answer=answer_of.get(chosen.get(owner, b"")),
                chosen=owner in chosen,
            )
        )
    return found


def captions_told(context: Context, captions: StageRef) -> dict[str, Any] | None:
    """The entry `captions` of a summary: texts by origin, answers and questions that came to none.

    None where nothing asks for captions.
    """
    columns = tables.get_table(context.store, captions.manifest, ["origin"])
    origins = Counter(columns["origin"].to_pylist())
    reasons: list[str] = []
    if captions.rejects is not None:
        rejects = tables.get_table(context.store, captions.rejects, ["origin", "reason"])
        reasons = rejects.filter(pc.equal(rejects["origin"], GENERATED))["reason"].to_pylist()
    if not origins and not reasons:
        return None
    unusable, failed = breakdown(reasons)
    told = {name: origins.get(name, 0) for name in (GENERATED, EDITED)}
    return told | {"unusable": unusable, "failed": failed}


def write_edits(config: Config, texts: Mapping[bytes, list[str] | None]) -> tuple[int, int]:
    """Gives views other texts; None takes an edit back. Returns how many were edited, withdrawn.

    Args:
        config: whose store is written to.
        texts: the prompts of every view that changes, by view_id.
    """
    context = Context(config)
    known = edits.newest_edits(context)
    counts = {EDITED: 0, edits.WITHDRAWN: 0}
    with RecordWriter(context.store, "captions", edits.STAGE_ID, CAPTIONS) as writer:
        for view, prompts in texts.items():
            last = known.get(view)
            if prompts is None:
                edit = edits.withdrawn(view, last)
            else:
                edit = edits.edited(view, prompts or [""], last)
            if edit is not None:
                row = {"key": edit.key, "view_id": view, "prompts": edit.prompts}
                writer.add(row | {"origin": edit.origin, "made_at": now_iso()})
                counts[edit.origin] += 1
    return counts[EDITED], counts[edits.WITHDRAWN]


def drop_views(config: Config, names: Sequence[str], *, dropped: bool = True) -> tuple[int, Named]:
    """Takes views that a run would use now out of training, or back in; by the start of their keys.

    Returns for how many that was news, and what the names meant. Unknown names change nothing.
    """
    context, manifests = _planned(config)
    named = named_views(manifests["crops"]["key"].to_pylist(), names)
    if named.unknown:
        return 0, named
    return drop(context.store, named.views, dropped=dropped), named


def approve_captions(config: Config) -> int:
    """Approves every generated caption that a run would use now; returns how many were new."""
    context, manifests = _planned(config)
    made = manifests["captions"]
    coming = [any(map(is_coming, texts)) for texts in made["prompts"].to_pylist()]
    return approve(context.store, made.filter(pc.invert(pa.array(coming, pa.bool_()))))


def _planned(config: Config) -> tuple[Context, dict[str, pa.Table]]:
    """The manifests up to captions, as a plan makes them: of what is there, refreshed or not."""
    config = config.model_copy(update={"refresh": ()})
    context = Context(config, dry_run=True)
    manifests: dict[str, pa.Table] = {}
    for stage in STAGES:
        checked = stage.check(context, stage.wanted(context, manifests))
        manifests[stage.name] = stage.manifest(context, checked)
        if stage.name == LAST:
            break
    return context, manifests


def _samples(there: list[Target]) -> pa.Table:
    return pa.table(
        {
            "concept": pa.array([one.concept for one in there], pa.string()),
            "source_id": pa.array([one.source_id for one in there], K),
            "kind": pa.array([one.view.kind for one in there], pa.string()),
            "view_id": pa.array([one.view_id for one in there], K),
        }
    )


def _owners(rows: pa.Table) -> list[tuple[str, bytes]]:
    return list(zip(rows["concept"].to_pylist(), rows["view_id"].to_pylist(), strict=True))
