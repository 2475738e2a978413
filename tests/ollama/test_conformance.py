"""The official client against the test server: what it understands, and what it is refused."""

import base64
import hashlib
import json

import ollama
import pytest
import requests

from tests.ollama.pictures import picture
from tests.ollama.process import OllamaProcess

MODEL = "tiny-vision"
EXACT = {"temperature": 0}
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["photo", "drawing", "painting"]},
        "caption": {"type": "string"},
        "people": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "sharp": {"type": "boolean"},
    },
    "required": ["kind", "caption", "people", "tags", "sharp"],
}


@pytest.fixture
def client(ollama_server: OllamaProcess) -> ollama.Client:
    return ollama.Client(ollama_server.url, timeout=30)


def refused(client: ollama.Client, **request: object) -> tuple[int, str]:
    """Status and text of the error that a generate request gets."""
    with pytest.raises(ollama.ResponseError) as raised:
        client.generate(**{"model": MODEL, "prompt": "Describe.", **request})
    return raised.value.status_code, raised.value.error


def test_the_root_and_the_version(ollama_server: OllamaProcess) -> None:
    assert requests.get(ollama_server.url, timeout=10).text == "Ollama is running"
    head = requests.head(ollama_server.url, timeout=10)
    assert (head.status_code, head.text) == (200, "")
    assert "version" in requests.get(f"{ollama_server.url}/api/version", timeout=10).json()


def test_list_tells_digests_and_sizes(client: ollama.Client) -> None:
    models = {model.model: model for model in client.list().models}
    assert {"tiny-vision:latest", "tiny-text:latest"} <= set(models)
    vision = models["tiny-vision:latest"]
    assert len(bytes.fromhex(vision.digest)) == 32
    assert vision.size > 500_000
    assert vision.details.families == ["llama", "clip"]
    assert vision.digest != models["tiny-text:latest"].digest


def test_show_tells_capabilities_and_the_window(client: ollama.Client) -> None:
    shown = client.show("TINY-vision:latest")
    assert shown.capabilities == ["completion", "vision"]
    assert shown.modelinfo["llama.context_length"] == 4096
    assert client.show("tiny-text").capabilities == ["completion"]


def test_generate_describes_a_picture(client: ollama.Client) -> None:
    answer = client.generate(MODEL, "Describe the photo.", images=[picture(1)], options=EXACT)
    words = answer.response.strip(".").split()
    assert 3 < len(words) < 16
    assert len(set(words)) == len(words)
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert answer.prompt_eval_count > 64
    assert answer.eval_count > 3
    assert answer.total_duration >= answer.eval_duration > 0
    assert answer.context


def test_a_stream_has_the_same_text_piece_by_piece(client: ollama.Client) -> None:
    request = {"prompt": "Describe the photo.", "images": [picture(2)], "options": EXACT}
    whole = client.generate(MODEL, **request)
    events = list(client.generate(MODEL, **request, stream=True))
    assert "".join(event.response for event in events) == whole.response
    assert len(events) > 4
    assert [event.done for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].done_reason == "stop"
    assert events[-1].eval_count == whole.eval_count


def test_raw_lines_are_chunked_ndjson(ollama_server: OllamaProcess) -> None:
    body = {"model": MODEL, "prompt": "Describe."}
    url = f"{ollama_server.url}/api/generate"
    with requests.post(url, json=body, stream=True, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert answer.headers["Transfer-Encoding"] == "chunked"
        events = [json.loads(line) for line in answer.iter_lines()]
    assert set(events[0]) == {"model", "created_at", "response", "done"}
    assert events[0]["model"] == MODEL


def test_chat_with_a_picture(client: ollama.Client) -> None:
    messages = [
        {"role": "system", "content": "Answer shortly."},
        {"role": "user", "content": "Describe the photo.", "images": [picture(3)]},
    ]
    whole = client.chat(MODEL, messages, options=EXACT)
    assert whole.message.role == "assistant"
    assert whole.done_reason == "stop"
    streamed = client.chat(MODEL, messages, options=EXACT, stream=True)
    assert "".join(event.message.content for event in streamed) == whole.message.content


def test_prompt_picture_and_system_change_the_answer(client: ollama.Client) -> None:
    def ask(prompt: str, seed: int, system: str = "") -> str:
        answer = client.generate(
            MODEL, prompt, images=[picture(seed)], system=system, options=EXACT
        )
        return answer.response

    assert len({ask("Describe the photo.", seed) for seed in range(12)}) > 8
    prompts = ("Describe the photo.", "Name the colours.", "What is the light like?", "Why?")
    assert len({ask(prompt, 1) for prompt in prompts}) > 2
    assert ask("Describe the photo.", 1) != ask("Describe the photo.", 1, "You like horses.")


@pytest.mark.parametrize("seed", range(4))
def test_a_schema_binds_the_answer(client: ollama.Client, seed: int) -> None:
    answer = client.generate(
        MODEL, "Describe the photo as JSON.", images=[picture(seed)], format=SCHEMA, options=EXACT
    )
    document = json.loads(answer.response)
    assert set(document) == set(SCHEMA["properties"])
    assert document["kind"] in SCHEMA["properties"]["kind"]["enum"]
    assert isinstance(document["people"], int)
    assert len(document["caption"].split()) > 3
    assert answer.done_reason == "stop"


def test_json_without_a_schema(client: ollama.Client) -> None:
    answer = client.generate(MODEL, "Describe as JSON.", format="json", options=EXACT)
    assert isinstance(json.loads(answer.response), dict)


def test_options_bind_the_answer(client: ollama.Client) -> None:
    def ask(**options: object) -> ollama.GenerateResponse:
        return client.generate(MODEL, "Describe.", images=[picture(1)], options=options)

    cut = ask(temperature=0, num_predict=3)
    assert (cut.done_reason, cut.eval_count) == ("length", 3)
    full = ask(temperature=0).response
    assert full.startswith(cut.response)
    word = full.split()[2]
    assert ask(temperature=0, stop=[f" {word}"]).response == full.split(f" {word}")[0]
    assert ask(temperature=1, seed=7).response == ask(temperature=1, seed=7).response
    assert len({ask(temperature=1, seed=seed).response for seed in range(8)}) > 1


def test_webp_and_png_are_read(client: ollama.Client) -> None:
    for kind in ("PNG", "WEBP"):
        answer = client.generate(MODEL, "Describe.", images=[picture(1, kind)], options=EXACT)
        assert answer.response


def test_loading_and_unloading(client: ollama.Client) -> None:
    def loaded() -> dict[str, ollama.ProcessResponse.Model]:
        return {model.name: model for model in client.ps().models}

    assert client.generate(MODEL, keep_alive="10m").done_reason == "load"
    assert loaded()["tiny-vision:latest"].context_length == 4096
    assert client.generate(MODEL, keep_alive=0).done_reason == "unload"
    assert "tiny-vision:latest" not in loaded()
    assert client.chat(MODEL, []).done_reason == "load"
    assert client.chat(MODEL, [], keep_alive=0).done_reason == "unload"
    client.generate(MODEL, "Describe.", keep_alive=-1)
    assert loaded()["tiny-vision:latest"].expires_at.year > 2100
    client.generate(MODEL, "Describe.", keep_alive=0)
    assert loaded() == {} or "tiny-vision:latest" not in loaded()


def test_a_pull_tells_its_progress(ollama_server: OllamaProcess, client: ollama.Client) -> None:
    events = list(client.pull("tiny-pull", stream=True))
    statuses = [event.status for event in events]
    assert statuses[0] == "pulling manifest"
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    last = {event.digest: event for event in events if event.digest}
    assert all(event.completed == event.total for event in last.values())
    assert all(digest.startswith("sha256:") for digest in last)
    assert client.generate("tiny-pull", "Describe.", images=[picture(1)]).response
    again = list(client.pull("tiny-pull", stream=True))
    assert len(again) == len(last) + 4
    assert client.pull("tiny-pull").status == "success"
    ollama_server.delete("tiny-pull")
    assert "tiny-pull:latest" not in [model.model for model in client.list().models]


def test_an_unknown_model_cannot_be_pulled(
    ollama_server: OllamaProcess, client: ollama.Client
) -> None:
    text = "pull model manifest: file does not exist"
    with pytest.raises(ollama.ResponseError, match=text):
        list(client.pull("no-such-model", stream=True))
    body = {"model": "no-such-model"}
    streamed = requests.post(f"{ollama_server.url}/api/pull", json=body, timeout=10)
    assert (streamed.status_code, json.loads(streamed.text.splitlines()[-1])) == (
        200,
        {"error": text},
    )
    whole = requests.post(f"{ollama_server.url}/api/pull", json=body | {"stream": False}, timeout=9)
    assert (whole.status_code, whole.json()) == (500, {"error": text})


def test_what_is_refused(client: ollama.Client) -> None:
    assert refused(client, model="nobody") == (404, "model 'nobody' not found")
    assert refused(client, model="no body!") == (400, "invalid model name")
    assert refused(client, think=True) == (400, '"tiny-vision" does not support thinking')
    assert refused(client, stream=False, images=[b"no picture"]) == (
        400,
        '{"error": {"code": 400, "message": "Failed to load image or audio file",'
        ' "type": "invalid_request_error"}}',
    )
    status, text = refused(client, model="tiny-text", images=[picture(1)])
    assert status == 500
    assert "image input is not supported - hint: " in json.loads(text)["error"]["message"]
    status, text = refused(client, prompt="long " * 2000)
    assert (status, json.loads(text)["error"]["type"]) == (400, "exceed_context_size_error")
    with pytest.raises(ollama.ResponseError, match="model 'nobody' not found"):
        client.show("nobody")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b'{"model": ', "unexpected EOF"),
        (b"{model}", "invalid character 'm' looking for beginning of value"),
        (
            b'{"model": "tiny-vision", "prompt": "x", "images": ["data:image/png;base64,AAAA"]}',
            "illegal base64 data at input byte 4",
        ),
        (b'{"model": "x", "keep_alive": "soon"}', 'time: invalid duration "soon"'),
    ],
)
def test_bad_bodies(ollama_server: OllamaProcess, body: bytes, text: str) -> None:
    answer = requests.post(f"{ollama_server.url}/api/generate", data=body, timeout=10)
    assert (answer.status_code, answer.json()) == (400, {"error": text})


def test_other_hosts_and_paths(ollama_server: OllamaProcess) -> None:
    url = f"{ollama_server.url}/api/tags"
    foreign = requests.get(url, headers={"Host": "evil.example"}, timeout=10)
    assert (foreign.status_code, foreign.text) == (403, "")
    assert requests.get(f"{ollama_server.url}/api/nothing", timeout=10).status_code == 404


def test_requests_are_recorded(ollama_server: OllamaProcess, client: ollama.Client) -> None:
    ollama_server.forget()
    data = picture(9)
    answer = client.generate(MODEL, "Who?", images=[data], system="Be short.", options=EXACT)
    encoded = base64.b64encode(data).decode()
    client.chat(MODEL, [{"role": "user", "content": "Where?", "images": [encoded]}])
    client.list()
    first, second, third = ollama_server.requests()
    assert (first["path"], first["model"], first["prompt"]) == ("/api/generate", MODEL, "Who?")
    assert first["image_sha256"] == second["image_sha256"] == [hashlib.sha256(data).hexdigest()]
    assert (first["images"], first["system"], first["answer"]) == (
        1,
        "Be short.",
        answer.response,
    )
    assert (second["path"], second["prompt"]) == ("/api/chat", "Where?")
    assert (third["method"], third["path"], third["status"]) == ("GET", "/api/tags", 200)
    assert ollama_server.requests(path="/api/chat") == [second]
