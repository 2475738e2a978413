"""Kill -9 at any moment of a preparation: the end is that of an undisturbed one, item for item.

Most kills hit the stages without Prefect, whose processes start in milliseconds; two hit the real
`tilewright prepare`.
"""

import json
import math
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from storage.store import Store, open_store
from tests.contents import content
from tests.faults.preparing import FLUSH_SECONDS, Preparing
from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.server_fixtures import BIN, PrefectServer, wait_for

KILLS, COMMAND_KILLS = 8, 2
SLACK_SECONDS = 0.5
"""For the item and the commit in progress, on a busy machine."""


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> tuple[Preparing, float]:
    """A project, prepared, and the seconds that took (warm: imports are not worth killing)."""
    folder = tmp_path_factory.mktemp("kill")
    project = make_project(folder / "project", tiny_models["sd15"], num_photos=8)
    Preparing(project, folder / "warm-up").finish()
    preparing = Preparing(project, folder / "undisturbed")
    return preparing, preparing.finish()


def check_every_object(store: Store) -> None:
    """Opens all that the store shows with the readers of others: nothing is half there."""
    for path in store.list(""):
        file = store.local_path(path)
        assert file is not None
        if path.endswith(".parquet"):
            pq.read_table(file)
        elif path.endswith(".safetensors"):
            with safe_open(file, "np") as shard:
                assert [shard.get_tensor(name).shape for name in shard.keys()]  # noqa: SIM118
        elif path.endswith(".html"):
            assert file.read_text().rstrip().endswith("</html>")
        else:
            assert path.endswith(".json"), path
            json.loads(file.read_bytes())


def test_a_killed_preparation_ends_like_an_undisturbed_one(
    undisturbed: tuple[Preparing, float], tmp_path: Path
) -> None:
    preparing, seconds = undisturbed
    expected = content(open_store(str(preparing.store), create=False))
    chance = random.Random(20)
    killed_in_work = 0
    for number in range(KILLS):
        victim = replace(preparing, store=tmp_path / f"store{number}")
        killed_at = victim.kill_after(seconds * (number + chance.random()) / KILLS)
        if (victim.store / "store.json").exists():
            check_every_object(open_store(str(victim.store), create=False))
        killed_in_work += bool(victim.done_before(killed_at))
        victim.finish()
        assert content(open_store(str(victim.store), create=False)) == expected
    assert killed_in_work >= KILLS // 2


def test_a_killed_scan_loses_a_flush_interval_at_most(
    undisturbed: tuple[Preparing, float], tmp_path: Path
) -> None:
    """Files written a moment ago are waited for, which makes a scan of eight take 1.6 s."""
    preparing, _ = undisturbed
    shutil.copytree(preparing.project.folder, tmp_path / "project")
    victim = Preparing(Project(tmp_path / "project"), tmp_path / "store")
    now = time.time()
    for number, photo in enumerate(sorted(victim.project.photos.glob("*.jpg"))):
        written = now - 1.8 + 0.2 * number
        os.utime(photo, (written, written))
    durable = victim.done_before(victim.kill_after(1.3) - FLUSH_SECONDS - SLACK_SECONDS)
    assert 0 < durable["scan"] < 8, "the kill was to hit the middle of the scan"
    assert reused(victim, "scan") >= durable["scan"]


def test_killed_encoding_loses_a_flush_interval_at_most(
    undisturbed: tuple[Preparing, float], tmp_path: Path
) -> None:
    """Larger tiles, so that encoding them takes seconds."""
    preparing, _ = undisturbed
    victim = replace(preparing, store=tmp_path / "store", more=("data.resolution='512'",))
    process = victim.start()
    wait_for(lambda: victim.done_before(math.inf).get("latents", 0) > 0)
    process.join(1.0)
    assert process.is_alive(), "encoding was over before it could be killed"
    killed_at = victim.kill(process)
    durable = victim.done_before(killed_at - FLUSH_SECONDS - SLACK_SECONDS)["latents"]
    assert 0 < durable <= reused(victim, "latents")
    assert reused(victim, "crops") == 8 * (1 + 12)


def reused(victim: Preparing, stage: str) -> int:
    """How much of a stage the next preparation would find."""
    found = victim.project.plan(*victim.overrides)["stages"][stage]["reused"]
    assert isinstance(found, int)
    return found


def test_a_killed_command_ends_like_an_undisturbed_one(
    undisturbed: tuple[Preparing, float], tmp_path: Path, prefect_server: PrefectServer
) -> None:
    preparing, seconds = undisturbed
    expected = content(open_store(str(preparing.store), create=False))
    store = tmp_path / "store"
    settings = replace(preparing, store=store).overrides
    options = [part for setting in settings for part in ("--set", setting)]
    command: list[str | Path] = ["prepare", preparing.project.run_toml, *options, "--json"]
    chance = random.Random(21)
    for _ in range(COMMAND_KILLS):
        before = num_segments(store)
        process = prefect_server.start(BIN / "tilewright", *command, start_new_session=True)
        while num_segments(store) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, seconds / 3))
        assert process.poll() is None, "the command ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        check_every_object(open_store(str(store), create=False))
    summary = prefect_server.tilewright(*command).summary()
    assert summary["stages"]["prompts"]["computed"] == 0
    assert content(open_store(str(store), create=False)) == expected


def num_segments(store: Path) -> int:
    return len(list(store.glob("stages/*/*/index/*")))
