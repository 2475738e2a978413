"""`tilewright gc` and its flow: dry by default, one JSON object, and bad input told."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from flows.gc_command import place_of, show_garbage
from storage.gc import write_plan
from storage.pins import pinned
from storage.store import Store
from storage.versions import list_versions
from tasks.gc.collect import as_json, collect
from tasks.gc.roots import Rules
from tests.projects import RUN_TOML
from tests.server_fixtures import PrefectServer
from tests.storage.histories import NAME, add_latents, add_version

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(local_store: Store) -> Store:
    """Two versions that share nothing."""
    for number in (1, 2):
        add_latents(local_store, [number])
        add_version(local_store, [number])
    return local_store


def tilewright(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows", "gc", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)


def test_a_version_is_collected_in_two_steps(store: Store) -> None:
    now = ("--keep-versions", "1", "--grace-hours", "0", "--json")
    before = store.list("")
    dry = json.loads(tilewright(store.url, *now).stdout)
    assert dry["dry_run"] and dry["garbage"]["files"] > 0 and store.list("") == before
    marked = json.loads(tilewright(store.url, "--mark", *now).stdout)
    assert marked["marked"] == {name: dry["garbage"][name] for name in ("files", "bytes")}
    done = json.loads(tilewright(store.url, "--delete", *now).stdout)
    assert done["deleted"] == marked["marked"] and done["garbage"]["files"] == 0
    assert [version.number for version in list_versions(store, NAME)] == [2]


def test_people_read_what_goes_and_why(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    done = tilewright(store.url, "--keep", f"{NAME}@1", "--grace-hours", "0")
    assert done.returncode == 0 and done.stdout == ""
    assert f"keeping {NAME}@2: it is one of the newest" in done.stderr
    assert "garbage: 0 files" in done.stderr and "nothing was changed: --mark" in done.stderr
    rules = Rules(keep_versions=1, grace_hours=0)
    show_garbage(as_json(collect(store, rules, mark=True)))
    told = capfd.readouterr().err
    assert f"keeping {NAME}@1: it is kept by --keep" in told
    show_garbage(as_json(collect(store, Rules(keep_versions=1, grace_hours=48))))
    write_plan(store, [], time.time())
    assert tilewright(store.url, "--release", f"{NAME}@1").returncode == 0
    show_garbage(as_json(collect(store, rules)))
    told = capfd.readouterr().err
    assert "no kept version needs any of its items" in told and "may be deleted now" in told


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("nowhere",), 2, "there is no store at"),
        (("--keep", "harbour"), 2, "must be NAME@NUMBER"),
        (("--keep", "harbour@7"), 2, "has no version 7; newest: 1, 2"),
        (("--keep-versions", "0"), 2, "keep-versions"),
    ],
)
def test_bad_input(store: Store, arguments: tuple[str, ...], code: int, told: str) -> None:
    place = () if arguments[0] == "nowhere" else (store.url,)
    done = tilewright(*place, *arguments)
    assert done.returncode == code and told in done.stderr, done.stderr


def test_a_preparation_at_work_is_named(store: Store) -> None:
    with pinned(store, "prepare"):
        done = tilewright(store.url, "--delete", "--json")
    assert done.returncode == 1
    assert "is in use: prepare on" in json.loads(done.stdout)["error"]
    assert len(list_versions(store, NAME)) == 2


def test_a_configuration_names_the_store_and_the_runs(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    text = RUN_TOML.format(family="sd15", base="model").replace('"store"', '"s3://bucket/place"')
    config.write_text(f'workspace = "work"\n{text}')
    assert place_of(str(config)) == ("s3://bucket/place", tmp_path / "work")
    assert place_of("s3://bucket/place") == ("s3://bucket/place", None)


def test_the_weekly_schedule_collects() -> None:
    """That it is off at first, and stays what a person made it, is tested with set_up."""
    document = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    (found,) = [one for one in document["deployments"] if one["name"] == "collect-garbage"]
    (weekly,) = found["schedules"]
    assert weekly["slug"] == "weekly" and "active" not in weekly
    assert weekly["parameters"] == {"dry_run": False}


def test_the_flow_marks_and_deletes(store: Store, prefect_server: PrefectServer) -> None:
    code = """
import json, sys
from flows.collect_garbage import collect_garbage
dry_runs = (True, False, False)
print(json.dumps([collect_garbage(sys.argv[1], 1, 0.0, dry_run=dry) for dry in dry_runs]))
"""
    done = prefect_server.run(sys.executable, "-c", code, store.url, cwd=ROOT)
    assert done.code == 0, done.stderr
    dry, marked, deleted = json.loads(done.stdout.splitlines()[-1])
    assert dry["dry_run"] and dry["marked"] is None
    assert marked["marked"]["files"] == dry["garbage"]["files"] > 0
    assert deleted["deleted"] == marked["marked"] and deleted["garbage"]["files"] == 0
    assert [version.number for version in list_versions(store, NAME)] == [2]
