"""What flows announce: a new version, files that were never rejected before, a finished model."""

from collections import Counter
from pathlib import Path

from tests.model_fixtures import TinyModels
from tests.projects import make_project
from tests.server_fixtures import PrefectServer, wait_for

DATASET, MODEL, QUARANTINE = (
    f"tilewright.{name}" for name in ("dataset.ready", "model.finished", "quarantine.grew")
)


def announced(server: PrefectServer, flow_run: str) -> Counter[str]:
    """The events of ours that belong to a flow run."""
    related = {"id": [f"prefect.flow-run.{flow_run}"]}
    body = {"filter": {"related": related, "event": {"prefix": ["tilewright."]}}, "limit": 50}
    return Counter(one["event"] for one in server.post("/events/filter", **body)["events"])


def test_each_thing_is_announced_once(
    prefect_server: PrefectServer, tmp_path: Path, tiny_models: TinyModels
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    (project.photos / "broken.jpg").write_bytes(b"no picture")
    prefect_server.tilewright(
        "run", project.run_toml, "--set", "train.max_steps=1", "--json"
    ).summary()
    first = prefect_server.newest_run()
    everything = Counter({DATASET: 1, MODEL: 1, QUARANTINE: 1})
    wait_for(lambda: announced(prefect_server, first) == everything)
    prefect_server.tilewright(
        "run", project.run_toml, "--set", "train.max_steps=1", "--json"
    ).summary()
    second = prefect_server.newest_run()
    assert second != first
    # Its last event is there, so that whatever it had announced would be.
    ended = {"filter": {"resource": {"id": [f"prefect.flow-run.{second}"]}}, "limit": 50}
    ended["filter"]["event"] = {"name": ["prefect.flow-run.Completed"]}
    wait_for(lambda: prefect_server.post("/events/filter", **ended)["events"])
    assert announced(prefect_server, second) == Counter()
