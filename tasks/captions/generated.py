"""Generated: the captions that a model is to make, with the keys that its digest gives them."""

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from storage.digest import digest_json, hexkey
from storage.records import K
from tasks.captions.chosen import Asked, Target, asked, captioning, is_chosen, target_of
from tasks.captions.model import (
    Captioner,
    Survey,
    away_message,
    make_ready,
    recorded_digest,
    survey,
)
from tasks.config.concepts import DetailCrops
from tasks.config.models import Config
from tasks.stage import Context
from tasks.wording.resolve import GENERATED

VERSION = 1
FACTS = {"stage": "captions", "origin": GENERATED, "version": VERSION}
STAGE_ID = hexkey(digest_json("stage", FACTS))
CropsOf = Mapping[str, DetailCrops]
"""The settings of the concepts that ask for captions, by their names."""
_LOG = logging.getLogger("tilewright.captions")


def captioning_concepts(config: Config) -> CropsOf:
    """The concepts that ask for captions."""
    return {
        concept.name: concept.image.detail_crops
        for concept in config.concepts
        if concept.enabled
        and any(captioning(concept.image.detail_crops, kind) for kind in ("full", "detail"))
    }


def chosen_targets(config: Config, targets: Sequence[Target]) -> list[Target]:
    """The targets that a model is to caption."""
    crops_of = captioning_concepts(config)
    return [
        target
        for target in targets
        if target.concept in crops_of
        and is_chosen(config.data.seed, target, crops_of[target.concept])
    ]


def committed_answers(context: Context) -> pa.Table:
    """What models have answered, usable or not; the newest answer of a key, the newest first."""
    return context.committed("captions", STAGE_ID)


@dataclass(frozen=True, slots=True)
class Look:
    """What a captioner would be asked, as far as a look at its servers tells."""

    captioner: Captioner
    found: Survey
    digest: str
    """Of its model: what the servers say now, else that of its last answer, else nothing."""
    targets: Sequence[Target]

    def rows(self, crops_of: CropsOf) -> list[dict[str, Any]]:
        """The wanted item of every target."""
        return list(_rows(self.targets, crops_of, self.digest))


def look(config: Config, chosen: Sequence[Target], answers: pa.Table) -> list[Look]:
    """Asks the servers of every captioner for their models; one that is away is no error here.

    Raises:
        CaptionerError: two servers have different models under one name.
    """
    crops_of = captioning_concepts(config)
    groups: dict[Captioner, list[Target]] = {}
    for target in chosen:
        groups.setdefault(Captioner.of(crops_of[target.concept]), []).append(target)
    looks = []
    for captioner, targets in groups.items():
        found = survey(captioner)
        digest = found.digest
        if digest is None:
            digest = recorded_digest(captioner, answers) or ""
        looks.append(Look(captioner, found, digest, targets))
    return looks


def wanted_rows(
    context: Context, looks: Sequence[Look], answers: pa.Table, final: Container[bytes]
) -> list[dict[str, Any]]:
    """The wanted items, after it was seen to it that missing ones can be made.

    A server that is away, or has lost its model, matters only when a caption is missing.

    Args:
        context: of the run.
        looks: what the servers said.
        answers: what models have answered.
        final: views that people gave a text; they are not asked about.

    Raises:
        CaptionerError: a caption is missing and cannot be made (not while planning).
    """
    crops_of = captioning_concepts(context.config)
    known = set(answers["key"].to_pylist())
    rows: list[dict[str, Any]] = []
    for one in looks:
        left = [target for target in one.targets if target.view_id not in final]
        asking = replace(one, targets=left)
        made = asking.rows(crops_of)
        missing = [row for row in made if row["key"] not in known]
        if left and (missing or context.refreshes("captions")):
            if context.dry_run:
                _foretell(one.captioner, one.found, len(missing))
            elif (ready := _made_ready(asking, crops_of)) != one.digest:
                made = replace(asking, digest=ready).rows(crops_of)
        rows += made
    return _with_reasons(rows, crops_of, answers, known)


def _made_ready(asking: Look, crops_of: CropsOf) -> str:
    auto_pull = any(crops_of[target.concept].caption_auto_pull for target in asking.targets)
    return make_ready(asking.captioner, asking.found, auto_pull=auto_pull)


def _rows(group: Sequence[Target], crops_of: CropsOf, digest: str) -> Iterator[dict[str, Any]]:
    for target in group:
        view = target.view
        yield {
            "key": asked(target, crops_of[target.concept], digest).key(target.view_id),
            "logical": target.logical,
            "group": target.label,
            "view_id": target.view_id,
            "origin": GENERATED,
            "certain": target.certain,
            "concept": target.concept,
            "path": target.path,
            "source_id": target.source_id,
            "kind": view.kind,
            "scale": view.scale,
            **dict(zip(("left", "top", "width", "height"), view.rect, strict=True)),
            "resized_width": view.resized[0],
            "resized_height": view.resized[1],
            "bucket_width": view.target[0],
            "bucket_height": view.target[1],
            "context": target.context,
            "digest": digest,
        }


def _foretell(captioner: Captioner, found: Survey, num_missing: int) -> None:
    """Warns of what a run would stumble over."""
    if not found.digests and not found.lacking:
        told = away_message(captioner, found)
        _LOG.warning("%s; %d captions are missing", told, num_missing)
    for url in found.lacking:
        _LOG.warning("caption server %s has no model %s yet", url, captioner.model)


CHANGES: Mapping[str, str] = {
    "model": "caption_model changed",
    "model_digest": "the model behind caption_model changed",
    "system_prompt": "caption_system_prompt changed",
    "template": "caption_user_prompt changed",
    "user_prompt": "the prompt of its photo changed",
    "options": "caption_temperature or caption_max_tokens changed",
    "json_schema": "caption_json_schema changed",
    "sent_width": "caption_image_px changed",
}
"""What is told of a caption that is made anew, by the first of these columns that differs."""


def _with_reasons(
    rows: list[dict[str, Any]], crops_of: CropsOf, answers: pa.Table, known: set[bytes]
) -> list[dict[str, Any]]:
    """The rows, with the reason why one that a model answered before is to be answered anew."""
    missing = pa.array({row["view_id"] for row in rows if row["key"] not in known}, K)
    concerned = answers.filter(pc.is_in(answers["view_id"], missing))
    last: dict[bytes, dict[str, Any]] = {}
    for answer in concerned.select(["view_id", *CHANGES]).to_pylist():
        last.setdefault(answer["view_id"], answer)
    for row in rows:
        before = last.get(row["view_id"])
        if before is not None and row["key"] not in known:
            row["why"] = _changed(before, row, crops_of[row["concept"]])
    return rows


def _changed(before: Mapping[str, Any], row: Mapping[str, Any], crops: DetailCrops) -> str:
    about: Asked = asked(target_of(row), crops, row["digest"])
    now = asdict(about) | {"model_digest": about.digest, "sent_width": about.sent_px[0]}
    told = next((why for name, why in CHANGES.items() if now[name] != before[name]), None)
    if told == CHANGES["model_digest"]:
        return f"{told} ({before['model_digest'][:12]} to {about.digest[:12] or 'unknown'})"
    return told or "caption_protocol changed"
