"""Captions in a deployed flow: the gate that waits for a person, and a cancel amid the asking."""

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from storage.index import read_index
from storage.segments import read_segments
from storage.store import Store, open_store
from storage.versions import latest_version, read_rows
from tasks.captions.generated import STAGE_ID
from tests.caption_server import DIGEST, CaptionServer, Fault
from tests.deployment_fixtures import ended, start_deployment, state_of
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import BIN, PrefectServer, wait_for

STOP_SECONDS = 5.0
ANSWERED = 4


@pytest.fixture
def project(tmp_path: Path, tiny_models: TinyModels) -> Project:
    return make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)


def settings(server: CaptionServer) -> tuple[str, ...]:
    crops = {
        "enable_captioning": "true",
        "caption_probability": "1.0",
        "caption_model": "tiny",
        "caption_endpoint": server.url,
        "caption_parallel": "2",
    }
    return tuple(f"concepts.0.image.detail_crops.{key}={value}" for key, value in crops.items())


def answers(store: Store) -> int:
    return int(read_index(store, "captions", STAGE_ID).num_rows)


def artifact(server: PrefectServer, key: str) -> dict[str, Any]:
    """The newest artifact of a key."""
    found = server.post("/artifacts/latest/filter", artifacts={"key": {"any_": [key]}})
    assert found, f"there is no artifact {key}"
    return dict(found[0])


def test_a_deployed_flow_waits_for_a_review_and_goes_on_when_it_is_resumed(
    prefect_server: PrefectServer,
    deployments: dict[str, dict[str, Any]],
    worker: None,
    project: Project,
) -> None:
    """Also where captions are refreshed: the resumed run keeps those that were looked at."""
    hostile = "a rusty <script>alert(1)</script> | hinge"
    with CaptionServer({"tiny:latest": DIGEST}, answer=hostile) as server:
        overrides = (*settings(server), "review_captions=true", 'refresh=["captions"]')
        run = start_deployment(
            prefect_server, deployments["prepare"]["id"], project.run_toml, *overrides
        )
        state = ended(prefect_server, run, "PAUSED")
        assert state["name"] == "Suspended", (
            state,
            (prefect_server.home / "worker.log").read_text()[-3000:],
        )
        store = open_store(project.config().store.url)
        assert not store.list("stages/text"), "nothing may be encoded yet"
        sheet = artifact(prefect_server, "captions")["data"]
        assert "data:image/jpeg;base64," in sheet
        assert "<script" not in sheet
        asked = len(server.asked())
        assert asked == answers(store) > 0
        prefect_server.post(f"/flow_runs/{run}/resume", run_input={"note": "looks good"})
        state = wait_for(lambda: _left(prefect_server, run, {"PAUSED", "SCHEDULED", "PENDING"}))
        state = ended(prefect_server, run)
        assert state["type"] == "COMPLETED", state
        assert len(server.asked()) == asked
    assert store.list("stages/text")
    (segment,) = read_segments(store, list(store.list("reviews")))
    assert segment.facts["note"] == "looks good"
    assert segment.table.num_rows == asked


@pytest.mark.slow  # by length; the command that drops tiles is tested in test_captions_command
def test_tiles_that_are_dropped_in_the_form_are_not_trained_on(
    prefect_server: PrefectServer,
    deployments: dict[str, dict[str, Any]],
    worker: None,
    project: Project,
) -> None:
    """A number that names no tile drops nothing: the run waits again, and says so."""
    with CaptionServer({"tiny:latest": DIGEST}, answer="a rusty hinge") as server:
        overrides = (*settings(server), "review_captions=true")
        run = start_deployment(
            prefect_server, deployments["prepare"]["id"], project.run_toml, *overrides
        )
        assert ended(prefect_server, run, "PAUSED")["name"] == "Suspended"
        asked = len(server.asked())
        numbers = re.findall(
            r"\*\*([0-9a-f]{10})\*\*", artifact(prefect_server, "captions")["data"]
        )
        assert len(set(numbers)) == asked
        resumed_with(prefect_server, run, {"drop": f"{numbers[0]} 0123456789"})
        assert ended(prefect_server, run, "PAUSED")["name"] == "Suspended"
        told = "No tile has the number 0123456789; nothing was dropped"
        asked_for = {"prefix": "suspended-captions-", "limit": 50}
        path = f"/flow_runs/{run}/input/filter"  # what is asked is stored after the state
        wait_for(lambda: told in str(prefect_server.post(path, **asked_for)))
        resumed_with(prefect_server, run, {"drop": f"{numbers[0]},\n{numbers[1][:8]}"})
        assert ended(prefect_server, run)["type"] == "COMPLETED"
        assert len(server.asked()) == asked
    store = open_store(project.config().store.url)
    version = latest_version(store, "test")
    assert version is not None
    rows = read_rows(store, version)
    assert rows.num_rows == 1 + asked - 2


def resumed_with(server: PrefectServer, run: str, answer: dict[str, str]) -> None:
    """Resumes a suspended run, and returns when it runs again."""
    server.post(f"/flow_runs/{run}/resume", run_input=answer)
    wait_for(lambda: _left(server, run, {"PAUSED", "SCHEDULED", "PENDING"}))


def _left(server: PrefectServer, run: str, types: set[str]) -> dict[str, Any] | None:
    state = state_of(server, run)
    return None if state["type"] in types else state


def test_a_cancel_stops_within_seconds_and_keeps_what_was_answered(
    prefect_server: PrefectServer,
    deployments: dict[str, dict[str, Any]],
    worker: None,
    project: Project,
) -> None:
    def script(number: int, _: str) -> Fault:
        return Fault.ok() if number < ANSWERED else Fault.hang()

    with CaptionServer({"tiny:latest": DIGEST}, script) as server:
        run = start_deployment(
            prefect_server, deployments["prepare"]["id"], project.run_toml, *settings(server)
        )
        wait_for(lambda: len(server.asked()) > ANSWERED + 1, 120)
        prefect_server.post(
            f"/flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"}
        )
        wait_for(lambda: server.open == 0, 60)  # the process, and with it its requests, is gone
        assert ended(prefect_server, run)["type"] == "CANCELLED"
    assert answers(open_store(project.config().store.url)) == ANSWERED


def test_a_command_that_is_interrupted_stops_within_seconds(
    prefect_server: PrefectServer, project: Project
) -> None:
    """By SIGTERM here, by SIGINT in tests/flows/test_gpu_limit.py."""

    def script(number: int, _: str) -> Fault:
        return Fault.ok() if number < ANSWERED else Fault.hang()

    with CaptionServer({"tiny:latest": DIGEST}, script) as server:
        options = [part for one in settings(server) for part in ("--set", one)]
        process = prefect_server.start(
            BIN / "tilewright",
            *("prepare", project.run_toml, *options),
            start_new_session=True,
        )
        wait_for(lambda: len(server.asked()) > ANSWERED + 1, 120)
        stopped_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
        assert time.monotonic() - stopped_at < STOP_SECONDS
        assert server.unloads == ["tiny:latest"]
    assert answers(open_store(project.config().store.url)) == ANSWERED
