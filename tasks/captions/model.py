"""Model: which model answers, known by the digest that its servers tell, and whether it can see."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from tasks import progress
from tasks.captions.client import CallError, Server
from tasks.captions.protocols import PROTOCOLS
from tasks.captions.protocols.base import Protocol
from tasks.config.concepts import DetailCrops

PROBE_SECONDS = 10.0
PULL_TRIES = 5
PULL_PAUSE_SECONDS = 3.0
"""A download that broke goes on where it was, after a moment in which a server may start again."""
_LOG = logging.getLogger("tilewright.captions")


class CaptionerError(ValueError):
    """No server can caption; says what is wrong where, and what to do."""


@dataclass(frozen=True, slots=True)
class Captioner:
    """A model and the servers that have it."""

    protocol_name: str
    endpoints: tuple[str, ...]
    model: str
    """By its canonical name."""

    @classmethod
    def of(cls, crops: DetailCrops) -> "Captioner":
        """The captioner that a concept asks for."""
        endpoints = tuple(url.rstrip("/") for url in crops.caption_endpoint)
        canonical = PROTOCOLS[crops.caption_protocol].canonical
        return cls(crops.caption_protocol, endpoints, canonical(crops.caption_model))

    @property
    def protocol(self) -> Protocol:
        """How its servers are talked to."""
        return PROTOCOLS[self.protocol_name]


@dataclass(frozen=True, slots=True)
class Survey:
    """What the servers of a captioner said when they were asked for their models."""

    digests: Mapping[str, str] = field(default_factory=dict)
    """Of the model, by server; those that have it."""
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Servers that do not have it, and what they have."""
    away: Mapping[str, str] = field(default_factory=dict)
    """Servers that did not answer, and why."""

    @property
    def digest(self) -> str | None:
        """The digest of the model; None when no server that answers has it."""
        return next(iter(self.digests.values()), None)


def survey(captioner: Captioner) -> Survey:
    """Asks every server for its models.

    Raises:
        CaptionerError: two servers have different models under this name.
    """
    with ThreadPoolExecutor(len(captioner.endpoints)) as pool:
        found = list(pool.map(lambda url: _models(captioner, url), captioner.endpoints))
    answers = dict(zip(captioner.endpoints, found, strict=True))
    known = {url: models for url, models in answers.items() if not isinstance(models, str)}
    digests = {url: m[captioner.model] for url, m in known.items() if captioner.model in m}
    if len(set(digests.values())) > 1:
        told = ", ".join(f"{url} has {digest[:12]}" for url, digest in digests.items())
        raise CaptionerError(
            f"caption_endpoint: the servers have different models under the name "
            f"{captioner.model!r}: {told}. Pull it anew on all of them, or name one server"
        )
    return Survey(
        digests=digests,
        lacking={url: tuple(models) for url, models in known.items() if url not in digests},
        away={url: answer for url, answer in answers.items() if isinstance(answer, str)},
    )


def recorded_digest(captioner: Captioner, answers: pa.Table) -> str | None:
    """The digest with which a model answered last; None when it never did."""
    columns = [answers[name].to_pylist() for name in ("protocol", "model", "model_digest")]
    # The index gives the newest first.
    for protocol, model, digest in zip(*columns, strict=True):
        if (protocol, model) == (captioner.protocol_name, captioner.model):
            return str(digest)
    return None


def make_ready(captioner: Captioner, found: Survey, *, auto_pull: bool) -> str:
    """Sees to it that the model is there and can see; returns its digest.

    Raises:
        CaptionerError: no server answers, or none has the model, or it takes no pictures.
    """
    require_model(captioner, found, auto_pull=auto_pull)
    pulled = list(found.lacking)
    for url in pulled:
        _pull(captioner, url)
    if pulled:
        found = survey(captioner)
    if found.digest is None:
        raise CaptionerError(f"{captioner.model!r} was pulled, but no server lists it")
    for url in pulled:
        _require_vision(captioner, url)
    for url, why in found.away.items():
        _LOG.warning("caption server %s is away (%s); the others do its work", url, why)
    return found.digest


def require_model(captioner: Captioner, found: Survey, *, auto_pull: bool) -> None:
    """Raises CaptionerError when it is clear from a survey that no caption can be made."""
    if not found.digests and not found.lacking:
        raise CaptionerError(away_message(captioner, found))
    for url, has in found.lacking.items():
        _require_pull(captioner, url, has, auto_pull=auto_pull)
    for url in found.digests:
        _require_vision(captioner, url)


def away_message(captioner: Captioner, found: Survey) -> str:
    """Says that no server answers, and what to do."""
    told = "; ".join(f"{url}: {why}" for url, why in found.away.items())
    hint = "start it with `ollama serve`" if captioner.protocol_name == "ollama" else "start it"
    return f"no caption server answers ({told}): {hint}, or correct caption_endpoint"


def _require_vision(captioner: Captioner, url: str) -> None:
    """Raises CaptionerError when a server says that the model takes no pictures."""
    can = capabilities(captioner, url)
    if can is not None and "vision" not in can:
        raise CaptionerError(
            f"caption_model = {captioner.model!r} takes no pictures (at {url}; it can do: "
            f"{', '.join(sorted(can)) or 'nothing'}): choose a vision model, such as qwen2.5vl:3b"
        )


def capabilities(captioner: Captioner, url: str) -> frozenset[str] | None:
    """What the model can do on a server; None where that is not told."""
    try:
        return captioner.protocol.capabilities(Server(url), captioner.model, PROBE_SECONDS)
    except CallError as error:
        raise CaptionerError(f"caption server {url}: {error}") from error


def _models(captioner: Captioner, url: str) -> dict[str, str] | str:
    """The models of a server, or why it did not answer."""
    try:
        return captioner.protocol.models(Server(url), PROBE_SECONDS)
    except CallError as error:
        return str(error)


def _require_pull(captioner: Captioner, url: str, has: tuple[str, ...], *, auto_pull: bool) -> None:
    """Raises CaptionerError when a server lacks the model and may or can not download it."""
    there = f" (it has: {', '.join(has[:5])})" if has else ""
    lacks = f"caption server {url} has no model {captioner.model!r}{there}"
    if captioner.protocol.pull is None:
        raise CaptionerError(f"{lacks}: start it with this model, or correct caption_model")
    if not auto_pull:
        command = f"ollama pull {captioner.model}"
        raise CaptionerError(f"{lacks}: run `{command}` there, or set caption_auto_pull = true")


def _pull(captioner: Captioner, url: str) -> None:
    """Lets a server download the model, and tells how far it is; what is there is kept."""
    pull = captioner.protocol.pull
    assert pull is not None, "`_require_pull` comes first"
    _LOG.warning("%s downloads %s", url, captioner.model)

    def told(done: int, total: int) -> None:
        progress.report(f"pull {captioner.model}", done >> 20, total >> 20, "MiB")

    for left in reversed(range(PULL_TRIES)):
        try:
            pull(Server(url), captioner.model, told)
            return
        except CallError as error:
            if not (left and (error.away or error.kind == "half an answer")):
                raise CaptionerError(
                    f"caption server {url} could not download {captioner.model!r}: {error}. Check "
                    f"the name, or run `ollama pull {captioner.model}` there"
                ) from error
            time.sleep(PULL_PAUSE_SECONDS)
