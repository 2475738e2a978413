"""Captioning: asks the model about tiles, and commits each answer within a flush interval."""

import json
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from storage.naming import now_iso
from storage.records import CAPTIONS
from storage.shards import RecordWriter
from tasks import progress
from tasks.captions.chosen import Asked, Target, asked, target_of
from tasks.captions.cleaning import clean
from tasks.captions.client import CallError, Server
from tasks.captions.generated import STAGE_ID
from tasks.captions.lane import Rules
from tasks.captions.model import PROBE_SECONDS, Captioner, CaptionerError, capabilities
from tasks.captions.pictures import feed
from tasks.captions.pool import Ask, Outcome, Pool
from tasks.captions.protocols.base import Answer, Question
from tasks.config.concepts import DetailCrops
from tasks.stage import Context, Rejection, Report
from tasks.wording.resolve import GENERATED

UNLOAD_SECONDS, HURRIED_SECONDS = 10.0, 2.0
_LOG = logging.getLogger("tilewright.captions")


def caption(context: Context, stage_id: str, rows: pa.Table, report: Report) -> None:
    """Asks about all rows; answers are committed, usable or not, and failures quarantined.

    Args:
        context: of the run.
        stage_id: of the stage, under which failures are known.
        rows: those of the wanted items that a model is to caption.
        report: told of every row that is done, however it ended.
    """
    crops = {concept.name: concept.image.detail_crops for concept in context.config.concepts}
    groups: dict[tuple[Captioner, str, Rules], list[tuple[Target, Asked, bytes]]] = {}
    for row in rows.to_pylist():
        target = target_of(row)
        settings = crops[target.concept]
        about = asked(target, settings, row["digest"])
        owner = Captioner.of(settings), row["digest"], _rules(settings)
        groups.setdefault(owner, []).append((target, about, row["key"]))
    flush_seconds = context.config.store.flush_seconds
    with RecordWriter(
        context.store, "captions", STAGE_ID, CAPTIONS, flush_seconds=flush_seconds
    ) as writer:
        for (captioner, digest, rules), items in groups.items():
            _Work(context, stage_id, captioner, items).run(digest, rules, writer, report)


def _rules(crops: DetailCrops) -> Rules:
    return Rules(
        timeout_seconds=crops.caption_timeout,
        max_retries=crops.caption_max_retries,
        parallel=crops.caption_parallel,
    )


class _Work:
    """The questions to one model."""

    def __init__(
        self,
        context: Context,
        stage_id: str,
        captioner: Captioner,
        items: Sequence[tuple[Target, Asked, bytes]],
    ) -> None:
        self._context, self._stage_id, self._captioner = context, stage_id, captioner
        self._about = {(target.concept, target.view_id): (one, key) for target, one, key in items}
        self._targets = [target for target, _, _ in items]
        self._versions: dict[str, str] = {}
        self._failed: list[Rejection] = []

    def run(self, digest: str, rules: Rules, writer: RecordWriter, report: Report) -> None:
        """Asks, commits, and frees the model's memory, also when it is stopped amid it."""
        hurried = True
        try:
            ask = _careful(self._captioner, digest)
            with Pool(self._captioner.endpoints, ask, rules) as pool:
                self._start_feeding(pool)
                for outcome in pool.outcomes():
                    progress.check()
                    writer.commit_due()
                    if outcome is not None:
                        self._note(outcome, writer)
                        report(1)
            hurried = False
        finally:
            if hurried:
                writer.commit()
            self._context.reject("captions", self._stage_id, self._failed)
            self._unload(HURRIED_SECONDS if hurried else UNLOAD_SECONDS)

    def _start_feeding(self, pool: Pool) -> None:
        think = self._think()

        def send(target: Target, jpeg: bytes) -> bool:
            about, _ = self._about[target.concept, target.view_id]
            return pool.put(target, _question(about, jpeg, think))

        def lose(target: Target, why: str) -> None:
            pool.drop(target, "the photo changed", why)

        def work() -> None:
            error: BaseException | None = None
            try:
                wanted = [
                    (target, self._about[target.concept, target.view_id][0].sent_px)
                    for target in self._targets
                ]
                feed(wanted, self._context.config.data, send, lose)
            except BaseException as broken:
                error = broken
            pool.end(error)

        threading.Thread(target=work, daemon=True).start()

    def _think(self) -> bool | None:
        """Thinking is switched off in models that can: a caption needs none."""
        for url in self._captioner.endpoints:
            with suppress(CaptionerError):
                can = capabilities(self._captioner, url)
                return False if can is not None and "thinking" in can else None
        return None

    def _note(self, outcome: Outcome, writer: RecordWriter) -> None:
        """Commits an answer, or remembers a failure."""
        target: Target = outcome.subject
        about, key = self._about[target.concept, target.view_id]
        if outcome.answer is None:
            tries = f" after {outcome.attempts} tries" if outcome.attempts > 1 else ""
            reason = f"{outcome.kind}{tries}: {outcome.message}"
            self._failed.append(Rejection(key, target.source_id, target.label, reason))
            return
        writer.add(self._record(outcome, outcome.answer, about, key))

    def _record(self, outcome: Outcome, answer: Answer, about: Asked, key: bytes) -> dict[str, Any]:
        """The item of one answer with its provenance."""
        schema = json.loads(about.json_schema) if about.json_schema else None
        found = clean(answer, about.user_prompt, schema)
        return {
            "key": key,
            "view_id": outcome.subject.view_id,
            "prompts": [found.text] if found.unusable is None else None,
            "origin": GENERATED,
            "made_at": now_iso(),
            "unusable": found.unusable,
            "answer": answer.text,
            "protocol": about.protocol,
            "model": about.model,
            "model_digest": about.digest,
            "system_prompt": about.system_prompt,
            "template": about.template,
            "user_prompt": about.user_prompt,
            "options": about.options,
            "json_schema": about.json_schema,
            "sent_width": about.sent_px[0],
            "sent_height": about.sent_px[1],
            "server": outcome.url,
            "server_version": self._version(outcome.url),
            "seconds": outcome.seconds,
            "attempts": outcome.attempts,
        }

    def _version(self, url: str) -> str:
        """The version of a server, asked for once."""
        if url not in self._versions:
            self._versions[url] = ""
            with suppress(CallError):
                version = self._captioner.protocol.version(Server(url), HURRIED_SECONDS)
                self._versions[url] = version
        return self._versions[url]

    def _unload(self, seconds: float) -> None:
        """Lets the servers that answered free the memory that the model took."""
        unload = self._captioner.protocol.unload
        if unload is None:
            return
        for url in self._versions:
            try:
                unload(Server(url), self._captioner.model, seconds)
            except CallError as error:
                _LOG.warning("caption server %s kept the model loaded: %s", url, error)


def _careful(captioner: Captioner, digest: str) -> Ask:
    """Asks a server only once it is known to have the very model, and again after a failure."""
    protocol = captioner.protocol
    sound: set[Server] = set()

    def ask(server: Server, question: Question, seconds: float) -> Answer:
        if server not in sound:
            found = protocol.models(server, min(seconds, PROBE_SECONDS)).get(captioner.model)
            if found != digest:
                told = "it has none of this name" if found is None else f"it has {found[:12]}"
                raise CallError("another model", f"{captioner.model}: {told}", forever=True)
            sound.add(server)
        try:
            return protocol.ask(server, question, seconds)
        except CallError:
            sound.discard(server)
            raise

    return ask


def _question(about: Asked, jpeg: bytes, think: bool | None) -> Question:
    options = json.loads(about.options)
    return Question(
        model=about.model,
        system_prompt=about.system_prompt,
        user_prompt=about.user_prompt,
        jpeg=jpeg,
        max_tokens=options["max_tokens"],
        temperature=options["temperature"],
        json_schema=json.loads(about.json_schema) if about.json_schema else None,
        think=think,
    )
