"""The native endpoints about models: tags, ps, show, pull and delete."""

import time
from datetime import UTC, datetime
from typing import Any

from tests.ollama.errors import ApiError
from tests.ollama.gguf_model import CONTEXT, HEADS, LAYERS, TEMPLATE, WIDTH
from tests.ollama.library import Layer, Library, Model, full_name
from tests.ollama.reply import Reply
from tests.ollama.routes import Context, Entry, details

STEPS = 4


def tags(library: Library) -> dict[str, Any]:
    """GET /api/tags."""
    return {"models": [_facts(m) | {"modified_at": m.modified} for m in library.installed()]}


def ps(library: Library) -> dict[str, Any]:
    """GET /api/ps."""
    return {
        "models": [
            _facts(loaded.model)
            | {
                "expires_at": datetime.fromtimestamp(loaded.expires, UTC).isoformat(),
                "size_vram": 0,
                "context_length": loaded.context,
            }
            for loaded in library.loaded()
        ]
    }


def _facts(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size,
        "digest": model.digest,
        "details": details(model),
    }


def show(context: Context, body: dict[str, Any], reply: Reply, entry: Entry) -> None:
    """POST /api/show."""
    name = body.get("model") or body.get("name")
    if not name:
        raise ApiError(400, "model is required")
    model = context.library.find(name)
    capabilities = ["completion", "vision"] if model.projector_file else ["completion"]
    document = {
        "modelfile": f"# Modelfile\nFROM {model.name}\nTEMPLATE {TEMPLATE}\n",
        "template": TEMPLATE,
        "details": details(model),
        "model_info": {
            "general.architecture": "llama",
            "general.basename": model.name,
            "general.parameter_count": model.size // 4,
            "llama.attention.head_count": HEADS,
            "llama.block_count": LAYERS,
            "llama.context_length": CONTEXT,
            "llama.embedding_length": WIDTH,
        },
        "capabilities": capabilities,
        "modified_at": model.modified,
    }
    if model.projector_file:
        document["projector_info"] = {"general.architecture": "clip", "clip.projector_type": "mlp"}
    reply.json(200, document)


def pull(context: Context, body: dict[str, Any], reply: Reply, entry: Entry) -> None:
    """POST /api/pull."""
    streaming = body.get("stream", True) is not False
    name = full_name(body.get("model") or body.get("name") or "")

    def tell(**progress: Any) -> None:
        if streaming and not reply.line({k: v for k, v in progress.items() if v}):
            raise ConnectionAbortedError

    tell(status="pulling manifest")
    model = context.library.registry.get(name.lower())
    if model is None:
        raise ApiError(500, "pull model manifest: file does not exist")
    present = context.library.blobs()
    for layer in model.layers:
        _pull_layer(layer, layer.digest in present, context.pull_seconds, tell)
    for status in ("verifying sha256 digest", "writing manifest"):
        tell(status=status)
    context.library.install(model)
    if streaming:
        tell(status="success")
    else:
        reply.json(200, {"status": "success"})


def _pull_layer(layer: Layer, present: bool, seconds: float, tell: Any) -> None:
    """Tells of one layer in steps; of one that is already there, once."""
    for step in [STEPS] if present else range(STEPS + 1):
        tell(
            status=f"pulling {layer.digest[:12]}",
            digest=f"sha256:{layer.digest}",
            total=layer.size,
            completed=layer.size * step // STEPS,
        )
        time.sleep(0 if present else seconds / STEPS)


def delete(context: Context, body: dict[str, Any], reply: Reply, entry: Entry) -> None:
    """DELETE /api/delete."""
    context.library.delete(body.get("model") or body.get("name") or "")
    reply.whole(200, b"", "")
