"""The chat protocol of OpenAI, as vLLM, llama.cpp's server and LM Studio speak it.

Such a server tells no digest of a model, so a model that changed under its name is not noticed.
"""

from typing import Any

from tasks.captions.client import PICTURE, CallError, Server, drain, objects, parsed, with_picture
from tasks.captions.protocols.base import Answer, Protocol, Question

SEED = 0
_CAN_SEE = {"vision", "multimodal", "image"}


def canonical(name: str) -> str:
    """The name as it is: these servers tell upper and lower case apart."""
    return name.strip()


def models(server: Server, seconds: float) -> dict[str, str]:
    """The models that the server lists, without digests."""
    return {str(model["id"]): "" for model in _listed(server, seconds) if "id" in model}


def version(server: Server, seconds: float) -> str:
    """There is no common way to ask for it."""
    return ""


def capabilities(server: Server, model: str, seconds: float) -> frozenset[str] | None:
    """Those that some servers add to their list of models."""
    for known in _listed(server, seconds):
        found = known.get("capabilities")
        if known.get("id") == model and isinstance(found, list):
            return frozenset(["vision"] if _CAN_SEE & set(map(str, found)) else [])
    return None


def ask(server: Server, question: Question, seconds: float) -> Answer:
    """Streams an answer as server-sent events."""
    picture = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{PICTURE}"}}
    content = [picture, {"type": "text", "text": question.user_prompt}]
    messages = [
        {"role": "system", "content": question.system_prompt},
        {"role": "user", "content": content},
    ]
    body: dict[str, Any] = {
        "model": question.model,
        "messages": messages if question.system_prompt else messages[1:],
        "temperature": question.temperature,
        "max_tokens": question.max_tokens,
        "seed": SEED,
        "stream": True,
    }
    if question.json_schema is not None:
        schema = {"name": "caption", "schema": question.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return _read(server, with_picture(body, question.jpeg), seconds)


def _read(server: Server, body: bytes, seconds: float) -> Answer:
    text: list[str] = []
    reason: str | None = None
    lines = server.stream(_path(server, "chat/completions"), body, seconds)
    for line in lines:
        if not line.startswith(b"data:"):
            if line.startswith(b"{"):  # an error that came too late for its status
                _checked(parsed(line))
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            drain(lines)
            return Answer("".join(text), reason or "stop")
        for choice in objects(_checked(parsed(data)), "choices"):
            delta = choice.get("delta")
            text.append(str(delta.get("content") or "") if isinstance(delta, dict) else "")
            reason = choice.get("finish_reason") or reason
    if reason is not None:
        return Answer("".join(text), reason)
    raise CallError("half an answer", "the answer ended before it was done")


def _listed(server: Server, seconds: float) -> list[dict[str, Any]]:
    return objects(server.get(_path(server, "models"), seconds), "data")


def _path(server: Server, place: str) -> str:
    """People give the address with or without its `/v1`."""
    return f"/{place}" if server.url.endswith("/v1") else f"/v1/{place}"


def _checked(part: dict[str, Any]) -> dict[str, Any]:
    if error := part.get("error"):
        told = error.get("message") if isinstance(error, dict) else error
        raise CallError("error amid the answer", str(told))
    return part


OPENAI = Protocol(
    canonical=canonical,
    models=models,
    version=version,
    capabilities=capabilities,
    ask=ask,
    pull=None,
    unload=None,
)
