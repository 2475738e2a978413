"""What runs in containers, as far as it can be checked without them: files, names, schemas."""

import importlib.util
import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deployments.make_bucket import make_bucket
from deployments.set_up import POOL, ROOT_IN_IMAGES
from tests.server_fixtures import ROOT, PrefectServer

FOLDER = ROOT / "deployments"
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
EXAMPLE = dict(
    line.split("=", 1)
    for line in (FOLDER / "compose.env.example").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
VARIABLE = re.compile(r"\$\{(\w+)(:-[^}]*|:\?)?\}")
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY")
DOCKERFILES = ("Dockerfile.cpu", "Dockerfile.cuda")
TEMPLATES = ("docker", "kubernetes")


def compose() -> dict[str, Any]:
    """The compose file with the variables of a filled-in example."""

    def value(match: re.Match[str]) -> str:
        default = (match[2] or "").removeprefix(":-") if (match[2] or "").startswith(":-") else ""
        return EXAMPLE[match[1]] or default or "/filled-in"

    loaded = yaml.safe_load(VARIABLE.sub(value, TEXT))
    assert isinstance(loaded, dict)
    return loaded


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def test_every_variable_is_in_the_example_and_no_secret_is() -> None:
    assert {match[1] for match in VARIABLE.finditer(TEXT)} == set(EXAMPLE) - {"COMPOSE_PROFILES"}
    assert {name: EXAMPLE[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")
    for match in VARIABLE.finditer(TEXT):
        if not EXAMPLE[match[1]]:
            wanted = ":-" if match[1].startswith("TILEWRIGHT_") else ":?"
            assert match[2] == wanted, f"{match[1]} must be filled in, or have a default"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_all_that_it_names(name: str) -> None:
    service, whole = SERVICES[name], compose()
    if "build" in service:
        assert (FOLDER / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
    else:
        assert re.search(r":v?\d+\.\d+", service["image"]), "pinned to a version"
    for volume in service.get("volumes", ()):
        source = volume.partition(":")[0]
        assert source.startswith("/") or source in whole["volumes"]
    assert set(service["networks"]) <= set(whole["networks"])
    for other, condition in service.get("depends_on", {}).items():
        healthy = condition["condition"] == "service_healthy"
        assert "healthcheck" in SERVICES[other] if healthy else SERVICES[other]["restart"] == "no"
    for config in service.get("configs", ()):
        assert json.loads(whole["configs"][config["source"]]["content"])["identities"]
    if service["image"].startswith("tilewright"):
        _is_command(service["command"])


def _is_command(command: list[str]) -> None:
    """A command of the image that can be there."""
    if command[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(command[2]), command
    elif command[:3] == ["prefect", "worker", "start"]:
        assert command[command.index("--pool") + 1] == POOL
    else:
        assert command[:3] == ["prefect", "server", "start"]


def test_the_worker_and_set_up_share_the_name_of_the_gpu_limit() -> None:
    names = {SERVICES[name].get("hostname") for name in ("set-up", "worker", "worker-gpu")}
    assert names == {"tilewright-worker"}


def test_a_bucket_is_made_once(s3_server: str) -> None:
    assert make_bucket("made-by-test") is True
    assert make_bucket("made-by-test") is False


def instructions(name: str) -> list[tuple[str, list[str]]]:
    """The instructions of a Dockerfile and their words."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (line.partition(" ")[0], shlex.split(line.partition(" ")[2]))
        for line in joined.splitlines()
        if line.strip()
    ]


def ignored(path: str) -> bool:
    """Whether .dockerignore, in which the last match decides, keeps a path out."""
    decided = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            if fnmatch(path, pattern) or fnmatch(path, f"{pattern}/*"):
                decided = not line.startswith("!")
    return decided


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_gets_all_that_runs_and_no_root(name: str) -> None:
    steps = instructions(name)
    sources = [
        source
        for instruction, words in steps
        if instruction == "COPY" and not words[0].startswith("--from")
        for source in words[:-1]
    ]
    assert {"flows", "tasks", "storage", "deployments", "prefect.yaml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source
    kinds = [instruction for instruction, _ in steps]
    assert kinds.count("FROM") == 2
    last = kinds[len(kinds) - kinds[::-1].index("FROM") :]
    assert last.index("USER") < last.index("CMD")
    assert [words for kind, words in steps if kind == "WORKDIR"] == [[ROOT_IN_IMAGES]] * 2
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (uv,) = set(re.findall(r"uv==([\d.]+)", (FOLDER / name).read_text(encoding="utf-8")))
    assert f"uv=={uv}" in makefile


def test_what_is_private_stays_out_of_images() -> None:
    for path in ("deployments/compose.env", ".git", ".venv", "demo/model", "tests/conftest.py"):
        assert ignored(path), path
    assert (FOLDER / "compose.env").relative_to(ROOT).as_posix() in (
        ROOT / ".gitignore"
    ).read_text()


def template(kind: str) -> dict[str, Any]:
    loaded = json.loads((FOLDER / "work_pools" / f"{kind}.json").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_uses_what_it_declares_and_takes_our_job_variables(kind: str) -> None:
    content = template(kind)
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(content["job_configuration"])))
    assert used == set(content["variables"]["properties"])
    jsonschema.Draft202012Validator.check_schema(content["variables"])
    defaults = {
        name: schema["default"]
        for name, schema in content["variables"]["properties"].items()
        if "default" in schema
    }
    jsonschema.validate(defaults, content["variables"])
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        jsonschema.validate(deployment["work_pool"]["job_variables"], content["variables"])
        assert set(deployment["work_pool"]["job_variables"]) <= used


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_server_takes_the_template(prefect_server: PrefectServer, kind: str) -> None:
    made = prefect_server.post(
        "/work_pools/", name=f"try-{kind}", type=kind, base_job_template=template(kind)
    )
    assert (made["type"], made["base_job_template"]) == (kind, template(kind))
    prefect_server.delete(f"/work_pools/try-{kind}")


def test_runs_in_containers_get_a_gpu_and_the_folders() -> None:
    docker = template("docker")
    requests = docker["variables"]["properties"]["device_requests"]["default"]
    assert requests == [{"count": 1, "capabilities": [["gpu"]]}]
    places = [volume.split(":", 1)[1] for volume in docker["job_configuration"]["volumes"]]
    assert places == ["/photos:ro", "/models", "/store"]
    kubernetes = template("kubernetes")
    pod = kubernetes["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "prefect-job", "the worker looks for this name"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    assert Path("/dev/shm") in map(Path, mounted.values())
