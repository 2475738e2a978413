"""The OpenAI-compatible side of the test server, by plain requests."""

import base64
import json
from typing import Any

import pytest
import requests

from tests.ollama.pictures import picture
from tests.ollama.process import OllamaProcess


def question(seed: int = 1, **more: Any) -> dict[str, Any]:
    url = "data:image/jpeg;base64," + base64.b64encode(picture(seed)).decode()
    content = [
        {"type": "text", "text": "Describe the photo."},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    messages = [{"role": "user", "content": content}]
    return {"model": "tiny-vision", "messages": messages, "temperature": 0, **more}


def ask(server: OllamaProcess, body: dict[str, Any]) -> requests.Response:
    return requests.post(f"{server.url}/v1/chat/completions", json=body, timeout=30)


def test_models(ollama_server: OllamaProcess) -> None:
    document = requests.get(f"{ollama_server.url}/v1/models", timeout=10).json()
    assert document["object"] == "list"
    found = {model["id"]: model for model in document["data"]}
    assert found["tiny-vision:latest"]["owned_by"] == "library"
    assert isinstance(found["tiny-vision:latest"]["created"], int)


def test_a_whole_answer(ollama_server: OllamaProcess) -> None:
    document = ask(ollama_server, question()).json()
    [choice] = document["choices"]
    assert document["object"] == "chat.completion"
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    assert len(choice["message"]["content"].split()) > 3
    usage = document["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert ask(ollama_server, question()).json()["choices"] == [choice]
    assert ask(ollama_server, question(seed=3)).json()["choices"] != [choice]


def test_a_stream(ollama_server: OllamaProcess) -> None:
    body = question(stream=True, stream_options={"include_usage": True})
    answer = ask(ollama_server, body)
    assert answer.headers["Content-Type"] == "text/event-stream"
    *lines, end = [line for line in answer.text.split("\n\n") if line]
    assert end == "data: [DONE]"
    *chunks, usage = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert (usage["choices"], usage["usage"]["completion_tokens"] > 3) == ([], True)
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert text == ask(ollama_server, question()).json()["choices"][0]["message"]["content"]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]


def test_limits_and_schemas(ollama_server: OllamaProcess) -> None:
    cut = ask(ollama_server, question(max_tokens=2)).json()
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 2
    schema = {"type": "object", "properties": {"caption": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    schema["required"] = ["caption"]
    text = ask(ollama_server, question(response_format=form)).json()["choices"][0]["message"]
    assert list(json.loads(text["content"])) == ["caption"]


def test_it_is_recorded_as_a_chat(ollama_server: OllamaProcess) -> None:
    ollama_server.forget()
    ask(ollama_server, question())
    [entry] = ollama_server.requests()
    assert (entry["path"], entry["images"]) == ("/v1/chat/completions", 1)
    assert entry["prompt"] == "Describe the photo."


@pytest.mark.parametrize(
    ("change", "status", "text", "kind"),
    [
        ({"model": "nobody"}, 404, "model 'nobody' not found", "not_found_error"),
        ({"messages": []}, 400, "[] is too short - 'messages'", "invalid_request_error"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
            400,
            "invalid image input",
            "invalid_request_error",
        ),
    ],
)
def test_errors(
    ollama_server: OllamaProcess, change: dict[str, Any], status: int, text: str, kind: str
) -> None:
    answer = ask(ollama_server, question() | change)
    error = {"message": text, "type": kind, "param": None, "code": None}
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_a_blind_model(ollama_server: OllamaProcess) -> None:
    answer = ask(ollama_server, question(model="tiny-text"))
    assert answer.status_code == 500
    assert "image input is not supported" in answer.json()["error"]["message"]
