"""The test server as a process: answers that hold everywhere, places, queues, weights and ends."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import ollama
import pytest
import requests

from tests.ollama.errors import BUSY
from tests.ollama.pictures import picture
from tests.ollama.process import OllamaProcess, running

MODEL = "tiny-vision:latest"


def describe(server: OllamaProcess, seed: int) -> str:
    client = ollama.Client(server.url, timeout=60)
    answer = client.generate(
        MODEL, "Describe the photo.", images=[picture(seed)], options={"temperature": 0}
    )
    return answer.response


def test_answers_are_the_same_everywhere(ollama_server: OllamaProcess) -> None:
    seeds = list(range(12))
    alone = [describe(ollama_server, seed) for seed in seeds]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: describe(ollama_server, seed), seeds * 3))
    assert together == alone * 3
    with running(parallel=4) as other, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: describe(other, seed), seeds)) == alone


@pytest.mark.parametrize("parallel", [1, 3])
def test_so_many_run_at_once(parallel: int) -> None:
    with running(parallel=parallel, delay=0.2) as server:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda seed: describe(server, seed), range(6)))
        spans = [(entry["turn"], entry["turn_end"]) for entry in server.requests()]
    most = max(sum(start <= at < end for start, end in spans) for at, _ in spans)
    assert most == parallel


def test_who_cannot_wait_is_sent_away() -> None:
    with running(parallel=1, queue=1, delay=1.0) as server, ThreadPoolExecutor(4) as pool:

        def ask(seed: int) -> tuple[int, str]:
            try:
                return 200, describe(server, seed)
            except ollama.ResponseError as error:
                return error.status_code, error.error

        answers = list(pool.map(ask, range(4)))
    assert sorted(status for status, _ in answers) == [200, 200, 503, 503]
    assert {text for status, text in answers if status == 503} == {BUSY}


def test_other_weights_have_another_digest_and_say_other_things() -> None:
    with running(pullable=["tiny-vision:latest"]) as server:
        client = ollama.Client(server.url)
        before = client.list().models[0].digest
        said = [describe(server, seed) for seed in range(4)]
        after = server.set_digest(MODEL, 5)
        assert client.list().models[0].digest == after != before
        assert [describe(server, seed) for seed in range(4)] != said
        client.pull(MODEL)
        assert client.list().models[0].digest == before
        assert [describe(server, seed) for seed in range(4)] == said
        newer = server.set_digest(MODEL, 6, to="registry")
        client.pull(MODEL)
        assert client.list().models[0].digest == newer


def test_a_listener_that_leaves_frees_its_place() -> None:
    with running() as server:
        body = {"model": MODEL, "prompt": "x", "format": "json", "options": {"num_predict": 2000}}
        for _ in range(3):
            url = f"{server.url}/api/generate"
            with requests.post(url, json=body, stream=True, timeout=10) as answer:
                next(answer.iter_lines())
        assert describe(server, 1)


def test_an_end_in_the_middle_of_an_answer() -> None:
    with running(delay=5.0) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(describe, server, 1)
        while not any(entry["turn"] for entry in server.requests()):
            time.sleep(0.01)
        server.kill()
        with pytest.raises(Exception, match="disconnected|reset"):
            answer.result(10)
        assert server.process.returncode == -9


def test_captions_are_short_and_never_stuck() -> None:
    models = [f"model-{number}" for number in range(6)]
    prompts = ["Describe the photo.", "Write a caption of one sentence for training. " * 8]
    with running(models, parallel=2) as server:
        client = ollama.Client(server.url)
        asked = itertools.product(models, prompts, range(4))
        for model, prompt, seed in asked:
            answer = client.generate(model, prompt, images=[picture(seed)])
            words = answer.response.strip(".").lower().split()
            assert 3 <= len(words) <= 12, answer.response
            assert len(set(words)) == len(words), answer.response
            assert answer.done_reason == "stop"
