"""`prefect.yaml`: every flow deploys, and a run that a worker starts is cached the second time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from tests.deployment_fixtures import POOL, ended, start_deployment
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import ROOT, PrefectServer

ANCHORS = {"definitions"}
"""Top-level keys that only hold YAML anchors."""


def document() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def unknown_keys(content: dict[str, Any]) -> list[str]:
    """The keys that Prefect would ignore without a word, by their path."""
    from prefect.cli.deploy._models import PrefectYamlModel

    rest = {key: value for key, value in content.items() if key not in ANCHORS}
    return sorted(_unknown(rest, [PrefectYamlModel], ""))


def _unknown(content: Any, models: list[Any], path: str) -> Iterator[str]:
    """The keys below `path` that none of the models that may stand there has."""
    if isinstance(content, list):
        for number, entry in enumerate(content):
            yield from _unknown(entry, models, f"{path}[{number}]")
    elif isinstance(content, dict) and models:
        known = {name: hint for model in models for name, hint in _fields(model)}
        for key, value in content.items():
            place = f"{path}.{key}".removeprefix(".")
            if key in known:
                yield from _unknown(value, _models(known[key]), place)
            else:
                yield place


def _fields(model: Any) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(model)
    for name, field in model.model_fields.items():
        yield field.alias or name, hints[name]


def _models(hint: Any) -> list[Any]:
    """The pydantic models in a type such as `Optional[List[Model]]`."""
    if hasattr(hint, "model_fields"):
        return [hint]
    return [model for argument in get_args(hint) for model in _models(argument)]


@pytest.fixture
def project(tmp_path: Path, tiny_models: TinyModels) -> Project:
    return make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)


def test_prefect_knows_every_key() -> None:
    assert unknown_keys(document()) == []


@pytest.mark.parametrize(
    ("path", "typo"),
    [
        ((), "deploymnets"),
        (("deployments", 0), "concurency_limit"),
        (("deployments", 0, "concurrency_limit"), "colision_strategy"),
        (("deployments", 1, "work_pool"), "work_queue"),
    ],
)
def test_a_typo_is_seen(path: tuple[str | int, ...], typo: str) -> None:
    content = json.loads(json.dumps(document()))  # unlike a deep copy, this parts shared anchors
    place: Any = content
    for step in path:
        place = place[step]
    place[typo] = 1
    (found,) = unknown_keys(content)
    assert found.endswith(typo)


def test_a_typo_in_a_schedule_is_seen() -> None:
    content = document()
    content["deployments"][0]["schedules"] = [{"cron": "0 3 * * *", "timezon": "Europe/Berlin"}]
    assert unknown_keys(content) == ["deployments[0].schedules[0].timezon"]


def test_every_flow_is_deployed(deployments: dict[str, dict[str, Any]]) -> None:
    flows = [
        f"flows/{path.name}:{path.stem}"
        for path in (ROOT / "flows").glob("*.py")
        if re.search(r"^@flow\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert {found["entrypoint"] for found in deployments.values()} == set(flows)
    assert set(deployments) == {entry["name"] for entry in document()["deployments"]}
    for entry in document()["deployments"]:
        found = deployments[entry["name"]]
        assert found["work_pool_name"] == POOL
        limit = found.get("global_concurrency_limit") or {}
        assert limit.get("limit") == entry.get("concurrency_limit", {}).get("limit")


def test_the_form_explains_every_parameter(deployments: dict[str, dict[str, Any]]) -> None:
    for name, found in deployments.items():
        for parameter, schema in found["parameter_openapi_schema"]["properties"].items():
            assert schema.get("description"), f"{name}: {parameter}"


def test_a_worker_prepares_and_the_second_run_is_cached(
    prefect_server: PrefectServer,
    deployments: dict[str, dict[str, Any]],
    worker: None,
    project: Project,
) -> None:
    stages = {"scan", "prompts", "crops", "text", "latents", "dataset", "report"}
    first = completed(prefect_server, deployments["prepare"]["id"], project)
    assert set(first) >= stages
    idle = {"captions", "masks"}  # nothing asks for them
    assert {name for name, state in first.items() if state == "Cached"} == idle
    assert set(first.values()) == {"Completed", "Cached"}
    second = completed(prefect_server, deployments["prepare"]["id"], project)
    assert second == dict.fromkeys(stages | idle, "Cached")


def completed(server: PrefectServer, deployment: str, project: Project) -> dict[str, str]:
    """Runs a deployment to its end, which must be good, and gives the states of its tasks."""
    run = start_deployment(server, deployment, project.run_toml)
    state = ended(server, run)
    assert state["type"] == "COMPLETED", (state, (server.home / "worker.log").read_text())
    return server.task_states(run)
