"""The page of a preparation for Prefect: its graph, its size, and texts of users in it."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from tasks.report.prepared_markdown import PreparedRun, prepared_markdown
from tests.tasks.captions.sheets import HOSTILE
from tests.tasks.captions.test_sheet_markdown import tokens

NONE = {"wanted": 0, "reused": 0, "computed": 0, "new": 0, "changed": 0, "removed": 0}
NONE |= {"rejected": 0}
PICTURE = "data:image/jpeg;base64," + "A" * 3000


def counts(**given: Any) -> dict[str, Any]:
    return {**NONE, "reasons": {}, "exact": True, **given}


def run(**given: Any) -> PreparedRun:
    stages: Mapping[str, Any] = {
        "scan": counts(wanted=3, reused=3),
        "prompts": counts(wanted=3, computed=1, reused=2, reasons={"the prompt's text changed": 1}),
        "crops": counts(wanted=9, reused=8, rejected=1),
        "captions": counts(),
        "text": counts(wanted=3, reused=3),
        "latents": counts(wanted=9, reused=9),
    }
    dataset = {"name": "boats", "version": 2, "num_samples": 9, "content_digest": "ab" * 16}
    facts: dict[str, Any] = {"dataset": {**dataset, "parent": 1}, "stages": stages}
    return PreparedRun(**{**facts, "keys": {"scan": "0123456789"}, **given})


def photo(path: str = "a/b.jpg", prompt: str = "a boat") -> dict[str, Any]:
    return {"path": path, "prompt": prompt, "samples": 3, "picture": PICTURE}


def test_the_graph_has_each_stage_that_was_asked_for_with_its_state() -> None:
    text = prepared_markdown(run())
    (graph,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    states = dict(re.findall(r"^  (\w+)\[.*:::(\w+)$", graph, re.MULTILINE))
    assert states == {
        "scan": "cached",
        "prompts": "worked",
        "crops": "rejected",
        "text": "cached",
        "latents": "cached",
    }
    assert "01234567" in graph
    edges = set(re.findall(r"^  (\w+) --> (\w+)$", graph, re.MULTILINE))
    named = {end for edge in edges for end in edge}
    assert named == {*states, "dataset"}
    assert "1 the prompt's text changed" in text.replace("\\", "")
    assert "after version 1" in text


def test_pictures_that_do_not_fit_are_left_out_and_told() -> None:
    photos = [photo() for _ in range(40)]
    whole = prepared_markdown(run(photos=photos))
    assert whole.count("data:image") == 40
    assert "did not fit" not in whole
    small = prepared_markdown(run(photos=photos), max_bytes=50_000)
    assert len(small.encode()) <= 50_000
    assert 0 < small.count("data:image") < 40
    assert "did not fit" in small


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_users_are_no_markup(text: str) -> None:
    plain = run(photos=[photo()])
    hostile = run(photos=[photo(path=f"folder/{text}", prompt=text)], store=text)
    assert [*tokens_of_kind(prepared_markdown(hostile))] == [
        *tokens_of_kind(prepared_markdown(plain))
    ]


def tokens_of_kind(markdown: str) -> list[str]:
    """The markup, without the pieces that text falls into."""
    return [kind for kind in tokens(markdown) if kind not in ("text", "text_special")]
