"""Which models there are: installed ones, ones in the registry, and ones that are loaded."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.ollama.engine import Engine
from tests.ollama.errors import BUSY, ApiError, not_found
from tests.ollama.gguf_model import CONTEXT, TEMPLATE, write_projector, write_text_model

_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]*(:[a-z0-9_][a-z0-9._-]*)?", re.IGNORECASE)
FOREVER = 86400.0 * 365 * 100


@dataclass(frozen=True)
class Layer:
    """One blob of a model."""

    kind: str
    digest: str
    size: int


@dataclass(frozen=True)
class Model:
    """A model with its files; `digest` is that of the manifest, and so of all layers."""

    name: str
    text_file: Path
    projector_file: Path | None
    layers: tuple[Layer, ...]
    digest: str
    modified: str

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)


@dataclass
class Loaded:
    """A model in memory."""

    model: Model
    engine: Engine
    context: int
    expires: float


def full_name(name: str) -> str:
    """The name with its tag, or a 400."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ApiError(400, "invalid model name")
    name = name.removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name else f"{name}:latest"


def build(folder: Path, name: str, seed: int | None = None, vision: bool = True) -> Model:
    """Writes a model's files; without a seed the name decides the weights."""
    if seed is None:
        seed = int.from_bytes(hashlib.sha256(name.lower().encode()).digest()[:4], "big")
    stem = re.sub(r"\W", "-", name.lower())
    text_file = folder / f"{stem}-{seed}.gguf"
    projector_file = folder / f"{stem}-{seed}.projector.gguf" if vision else None
    write_text_model(text_file, seed, name)
    if projector_file:
        write_projector(projector_file, seed, name)
    blobs = {"model": text_file.read_bytes(), "template": TEMPLATE.encode()}
    if projector_file:
        blobs["projector"] = projector_file.read_bytes()
    layers = tuple(Layer(kind, _sha256(blob), len(blob)) for kind, blob in blobs.items())
    manifest = json.dumps([[layer.kind, layer.digest, layer.size] for layer in layers])
    modified = datetime.now(UTC).isoformat()
    return Model(name, text_file, projector_file, layers, _sha256(manifest.encode()), modified)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Library:
    """All models of one server; every method may be called from any thread."""

    def __init__(self, folder: Path, parallel: int = 1, queue: int = 512) -> None:
        self.folder = folder
        self.parallel = parallel
        self.queue = queue
        self.registry: dict[str, Model] = {}
        self._installed: dict[str, Model] = {}
        self._loaded: dict[str, Loaded] = {}
        self._lock = threading.RLock()
        self._turn = threading.Condition()
        self._running = self._waiting = 0

    def add(self, name: str, seed: int | None = None, vision: bool = True, to: str = "") -> Model:
        """Builds a model and puts it among the installed ones, or `to="registry"`."""
        model = build(self.folder, full_name(name), seed, vision)
        shelf = self.registry if to == "registry" else self._installed
        with self._lock:
            shelf[model.name.lower()] = model
        return model

    def install(self, model: Model) -> None:
        """Makes a model of the registry an installed one."""
        with self._lock:
            self._installed[model.name.lower()] = model

    def installed(self) -> list[Model]:
        """The newest first, as the real server lists them."""
        with self._lock:
            models = list(self._installed.values())
        return sorted(models, key=lambda model: model.modified, reverse=True)

    def find(self, name: str) -> Model:
        """The installed model, or a 404."""
        with self._lock:
            found = self._installed.get(full_name(name).lower())
        if found is None:
            raise not_found(name)
        return found

    def delete(self, name: str) -> None:
        """Forgets an installed model, or raises a 404."""
        model = self.find(name)
        self.unload(model)
        with self._lock:
            self._installed.pop(model.name.lower(), None)

    def blobs(self) -> set[str]:
        """The digests of all layers on this machine."""
        return {layer.digest for model in self.installed() for layer in model.layers}

    def load(self, model: Model, keep_alive: float, context: int | None = None) -> Loaded:
        """The model in memory; it stays there for `keep_alive` seconds from now."""
        with self._lock:
            self._expire()
            loaded = self._loaded.get(model.name)
            if loaded is None or loaded.model.digest != model.digest:
                engine = Engine(model.text_file, model.projector_file, self.parallel)
                loaded = Loaded(model, engine, CONTEXT, 0.0)
                self._loaded[model.name] = loaded
            loaded.context = context or loaded.context
            loaded.expires = time.time() + (keep_alive if keep_alive >= 0 else FOREVER)
            return loaded

    def unload(self, model: Model) -> None:
        """Frees the memory; requests in progress keep their engine until they end."""
        with self._lock:
            self._loaded.pop(model.name, None)

    def loaded(self) -> list[Loaded]:
        """What is in memory now."""
        with self._lock:
            self._expire()
            return list(self._loaded.values())

    def _expire(self) -> None:
        now = time.time()
        for name in [name for name, loaded in self._loaded.items() if loaded.expires < now]:
            del self._loaded[name]

    @contextmanager
    def turn(self, entry: dict[str, Any]) -> Iterator[None]:
        """Waits for one of the parallel places, or raises a 503 where too many wait.

        `entry` is told when the place was got and when it was left.
        """
        with self._turn:
            if self._running >= self.parallel and self._waiting >= self.queue:
                raise ApiError(503, BUSY)
            self._waiting += 1
            self._turn.wait_for(lambda: self._running < self.parallel)
            self._waiting -= 1
            self._running += 1
        entry["turn"] = time.time()
        try:
            yield
        finally:
            entry["turn_end"] = time.time()
            with self._turn:
                self._running -= 1
                self._turn.notify()


def stocked(
    library: Library, models: Iterable[str], text_only: Iterable[str], pullable: Iterable[str]
) -> Library:
    """Builds the models that a server starts with."""
    plain = {full_name(name).lower() for name in text_only}
    for to, names in (("installed", models), ("registry", pullable)):
        for name in names:
            library.add(name, vision=full_name(name).lower() not in plain, to=to)
    return library
