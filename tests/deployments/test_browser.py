"""A person at Prefect's pages: fills the form, starts runs, sees what was cached, opens artifacts.

With TILEWRIGHT_SCREENSHOTS=FOLDER the pages are kept as pictures.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.deployment_fixtures import ended
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import PrefectServer, wait_for
from tests.tasks.report.browser import program

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="there is no Chromium here"),
]
SIZE = {"width": 1280, "height": 1000}
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def page() -> Iterator["Page"]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    folder = tmp_path_factory.mktemp("browser") / "project"
    return make_project(folder, tiny_models["sd15"], num_photos=2)


def keep(page: "Page", name: str) -> None:
    """Keeps the page as a picture where somebody asks for pictures."""
    if folder := os.environ.get("TILEWRIGHT_SCREENSHOTS"):
        page.wait_for_timeout(1500)  # fades and pictures
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def ui(server: PrefectServer, path: str) -> str:
    return server.url.removesuffix("/api") + "/v2" + path


def group(page: "Page", label: str) -> "Locator":
    """The part of the form that a field is in."""
    return page.locator("div.group", has=page.get_by_text(f"{label} (Optional)", exact=True))


def started_run(server: PrefectServer, page: "Page", deployment: str, config: Path) -> str:
    """Fills the form of a deployment and submits it; gives the id of the run."""
    page.goto(ui(server, f"/deployments/deployment/{deployment}/run"))
    page.get_by_label("Configuration file").fill(str(config))
    steps = group(page, "Steps at most")
    steps.get_by_role("tab", name="whole number").click()
    steps.get_by_role("spinbutton").fill("3")
    keep(page, "prefect-form")
    known = {run["id"] for run in server.post("/flow_runs/filter")}
    page.get_by_role("button", name="Submit").click()

    def created() -> str | None:
        new = [run for run in server.post("/flow_runs/filter") if run["id"] not in known]
        return str(new[0]["id"]) if new else None

    return wait_for(created)


def test_a_person_runs_the_pipeline_twice_and_looks_at_it(
    prefect_server: PrefectServer,
    deployments: dict[str, dict[str, Any]],
    worker: None,
    project: Project,
    page: "Page",
) -> None:
    deployment = deployments["run"]["id"]
    first = started_run(prefect_server, page, deployment, project.run_toml)
    assert ended(prefect_server, first)["type"] == "COMPLETED"
    parameters = prefect_server.get(f"/flow_runs/{first}")["parameters"]
    assert (parameters["max_steps"], parameters["epochs"]) == (3, None)
    second = started_run(prefect_server, page, deployment, project.run_toml)
    assert ended(prefect_server, second)["type"] == "COMPLETED"
    states = prefect_server.task_states(second)
    assert {*states.values()} == {"Cached"}

    page.goto(ui(prefect_server, f"/runs/flow-run/{second}?tab=TaskRuns"))
    page.get_by_role("tab", name="Task Runs").click()
    page.get_by_text("Cached", exact=True).nth(len(states) - 1).wait_for()
    keep(page, "prefect-cached")

    for flow_run, key, shown in (
        (first, "stages", "latents"),
        (first, "run-report", "latents"),
        (first, "train-loss", "loss"),
    ):
        body = {"artifacts": {"key": {"any_": [key]}, "flow_run_id": {"any_": [flow_run]}}}
        (found, *_) = prefect_server.post("/artifacts/filter", **body)
        page.goto(ui(prefect_server, f"/artifacts/artifact/{found['id']}"))
        page.get_by_text(re.compile(shown)).first.wait_for()
        keep(page, f"prefect-{key}")


def test_a_wrong_field_is_told_at_the_field(
    prefect_server: PrefectServer, deployments: dict[str, dict[str, Any]], page: "Page"
) -> None:
    page.goto(ui(prefect_server, f"/deployments/deployment/{deployments['run']['id']}/run"))
    rate = group(page, "Learning rate")
    rate.get_by_role("tab", name="number").click()
    rate.get_by_role("spinbutton").fill("-1")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(
        re.compile("greater than|exclusiveMinimum|less than or equal")
    ).first.wait_for()
    keep(page, "prefect-form-error")
    assert "/run" in page.url
