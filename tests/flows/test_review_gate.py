"""How a command goes on when captions wait for a person and nobody is there to be asked."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flows.review_gate import settled
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project


@pytest.fixture
def project(tmp_path: Path, tiny_models: TinyModels) -> Project:
    return make_project(tmp_path / "a project", tiny_models["sd15"], num_photos=1)


@pytest.mark.parametrize(
    ("settings", "again"),
    [
        ([], []),
        (["data.seed=1"], ["data.seed=1"]),
        (['refresh=["text"]'], ['refresh=["text"]']),
        (['refresh=["captions"]'], ['refresh=["captions"]', "refresh=[]"]),
        (
            ['refresh=["captions", "text"]'],
            ['refresh=["captions", "text"]', 'refresh=["text"]'],
        ),
    ],
)
def test_the_commands_to_go_on_with_replace_nothing_that_was_looked_at(
    project: Project, settings: list[str], again: list[str]
) -> None:
    ran: list[Sequence[str]] = []

    def run(options: Sequence[str]) -> dict[str, Any]:
        ran.append(list(options))
        return {"review": {"pending": 2, "page": "captions.html"}}

    config = str(project.run_toml)
    summary = settled("prepare", config, settings, run, ask=False)
    assert ran == [settings]
    approve, go_on = map(shlex.split, summary["review"]["go_on"])
    options = [part for one in again for part in ("--set", one)]
    assert approve == ["tilewright", "captions", "approve", config, *options]
    assert go_on == ["tilewright", "prepare", config, *options]
    refresh = project.config(*go_on[4::2]).refresh
    assert "captions" not in refresh
    assert ("text" in refresh) == ("text" in " ".join(settings))


def test_a_flow_that_ended_is_not_run_again(project: Project) -> None:
    summary = settled("run", str(project.run_toml), [], lambda _: {"seconds": 1.0}, ask=True)
    assert summary == {"seconds": 1.0}
