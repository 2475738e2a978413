"""The identity of a model component: a digest of its weights and configs.

Reads files as bytes (safetensors headers are JSON): no torch, nothing is unpickled.
"""

import json
import mmap
import time
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.families import get_family
from tasks.families.sources import ModelSource, backup_weights, read_backup

DIGEST_BYTES = 16
THREADED_BYTES = 32 << 20
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_VARIANTS = (None, "fp16", "bf16")
_SETTLED_NS = 2_000_000_000
_IRRELEVANT = (
    "_name_or_path",
    "_diffusers_version",
    "transformers_version",
    "torch_dtype",
    "dtype",
)


@dataclass(frozen=True)
class WeightFiles:
    """The weight files that loading a component folder would read."""

    files: tuple[Path, ...]
    variant: str | None
    safetensors: bool


def weight_files(folder: Path) -> WeightFiles:
    """Choose among a component's weight files: safetensors before .bin, full before variants."""
    for safetensors in (True, False):
        for variant in _VARIANTS:
            for stem in _STEMS:
                files = _candidate(folder, stem, variant, safetensors)
                if files:
                    return WeightFiles(files, variant, safetensors)
    raise ValueError(
        f"{folder}: no weights found; expected for example diffusion_pytorch_model.safetensors, "
        "model.safetensors or model.fp16.safetensors"
    )


def component_digest(
    source: ModelSource, component: str, *, cache: MutableMapping[str, bytes] | None = None
) -> bytes:
    """16 bytes that change when the component's weights or configs do, and not with its path.

    `component` is a subfolder name: vae, unet, text_encoder, tokenizer, scheduler, ... A cached
    file digest is used when path, size and modification time are those of the cache key.
    """
    memory: MutableMapping[str, bytes] = {} if cache is None else cache
    family = get_family(source.family)
    if source.base is not None:
        below = component_digest(source.base, component, cache=cache)
        file = backup_weights(source, family, component)
        if file is None:
            return below
        method = json.dumps(read_backup(source)["method"], sort_keys=True)
        return _combine(below, method.encode(), _tensors(file, (), memory))
    parts = list(_config_parts(source.folder / component))
    if source.kind == "single_file" and component in family.single_file_prefixes:
        parts.append(_single_file(source.path, family.single_file_prefixes[component], memory))
    elif (source.folder / component / "config.json").is_file():
        for file in weight_files(source.folder / component).files:
            parts.append(_tensors(file, (), memory))
    if not parts:
        raise ValueError(f"{source.path}: this model has no {component!r}")
    return _combine(component.encode(), *parts)


def _single_file(
    path: Path, prefixes: tuple[str, ...], memory: MutableMapping[str, bytes]
) -> bytes:
    # A .ckpt is a pickle, whose tensors cannot be told apart without torch: all of it counts.
    return _tensors(path, prefixes if path.suffix.lower() == ".safetensors" else (), memory)


def _candidate(folder: Path, stem: str, variant: str | None, safetensors: bool) -> tuple[Path, ...]:
    suffix = "safetensors" if safetensors else "bin"
    middle = "" if variant is None else f".{variant}"
    whole = folder / f"{stem}{middle}.{suffix}"
    if whole.is_file():
        return (whole,)
    # diffusers and transformers: model.safetensors.index.fp16.json; older diffusers the other way.
    for name in (f"{stem}.{suffix}.index{middle}.json", f"{stem}{middle}.{suffix}.index.json"):
        index = folder / name
        if index.is_file():
            weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return tuple(folder / shard for shard in sorted(set(weight_map.values())))
    return ()


def _config_parts(folder: Path) -> Iterator[bytes]:
    """Every small text file of a component; JSON without the fields that only tell of versions."""
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.suffix not in (".json", ".txt", ".model", ".jinja") or ".index." in path.name:
            continue
        content = path.read_bytes()
        if path.name.endswith("config.json"):
            value = json.loads(content)
            kept = {key: value[key] for key in value if key not in _IRRELEVANT}
            content = json.dumps(kept, sort_keys=True).encode()
        yield path.name.encode()
        yield content


def _tensors(path: Path, prefixes: tuple[str, ...], memory: MutableMapping[str, bytes]) -> bytes:
    """Digest of the tensors of a file whose name starts with a prefix (no prefix: all)."""
    state = path.stat()
    key = f"weights:{','.join(prefixes)}:{state.st_size}:{state.st_mtime_ns}:{path.resolve()}"
    if key in memory:
        return memory[key]
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if path.suffix.lower() == ".safetensors":
            value = _hash_tensors(path, data, prefixes)
        else:
            with memoryview(data) as view:
                value = _hash([view], len(view))
    # A file changed within clock resolution of now may change again under the same time stamp.
    if time.time_ns() - state.st_mtime_ns > _SETTLED_NS:
        memory[key] = value
    return value


def _hash_tensors(path: Path, data: mmap.mmap, prefixes: tuple[str, ...]) -> bytes:
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= len(data) - 8:
        raise ValueError(f"{path}: damaged safetensors file (header of {size} bytes)")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    names = sorted(
        name
        for name in header
        if name != "__metadata__" and (not prefixes or name.startswith(prefixes))
    )
    if not names:
        raise ValueError(f"{path}: no tensor starts with {' or '.join(prefixes)}")

    def chunks() -> Iterator[bytes | memoryview]:
        with memoryview(data) as view:
            for name in names:
                entry = header[name]
                begin, end = (8 + size + offset for offset in entry["data_offsets"])
                yield json.dumps([name, entry["dtype"], entry["shape"]]).encode()
                with view[begin:end] as tensor:
                    yield tensor

    return _hash(chunks(), len(data))


def _hash(chunks: Iterable[bytes | memoryview], num_bytes: int) -> bytes:
    """The threads of blake3 do not survive a fork, and pay for big files alone."""
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO if num_bytes >= THREADED_BYTES else 1)
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.digest(length=DIGEST_BYTES)


def _combine(*parts: bytes) -> bytes:
    # Lengths first, so that no two lists of parts give the same bytes.
    pieces = (piece for part in parts for piece in (len(part).to_bytes(8, "little"), part))
    return _hash(pieces, sum(map(len, parts)))
