"""Kill -9 at any moment of captioning: what was committed is never asked about again."""

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from storage.store import open_store
from tests.caption_server import CaptionServer
from tests.captioning import (
    TILES,
    Captioning,
    Captions,
    answers_of,
    make_captioning,
    pictures_of,
    says_which,
)
from tests.contents import content
from tests.faults.preparing import FLUSH_SECONDS, Preparing
from tests.model_fixtures import TinyModels
from tests.server_fixtures import wait_for

KILLS, PHOTOS = 10, 2
SECONDS = 0.05
"""That each answer takes."""
SLACK_SECONDS = 0.5
"""For the answer and the commit in progress, on a busy machine."""


@dataclass(frozen=True)
class Undisturbed:
    """A captioned project, a store of it that has all but captions, and what was said."""

    captioning: Captioning
    before: Path
    captions: Captions
    pictures: list[str]
    seconds: float
    """From the first question to the last."""

    def victim(self, folder: Path) -> Preparing:
        """A preparation that has only captions, and what comes after them, before it."""
        victim = Preparing(self.captioning.project, folder / "store", self.captioning.overrides())
        shutil.copytree(self.before, victim.store)
        return victim

    def of(self, victim: Preparing) -> Captioning:
        return replace(self.captioning, settings=(*self.captioning.settings, *victim.overrides[:2]))


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> Iterator[Undisturbed]:
    with CaptionServer(answer=says_which, seconds=SECONDS) as server:
        folder = tmp_path_factory.mktemp("kill-captions")
        base = tiny_models["sd15"]
        captioning = make_captioning(folder / "project", base, server, num_photos=PHOTOS)
        captioning = captioning.having("caption_parallel=1")
        captioning.caption("enable_captioning=false")
        before = captioning.project.folder / "store"
        captions = captioning.in_store_of(folder / "captioned").caption()
        times = [request.at for request in captioning.asked()]
        seconds = times[-1] - times[0]
        assert len(captions.answers) == len(times) == PHOTOS * TILES
        yield Undisturbed(captioning, before, captions, captioning.pictures(), seconds)


def test_killed_captioning_asks_again_only_about_what_was_not_committed(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    chance = random.Random(22)
    server, everything = undisturbed.captioning.servers[0], {*undisturbed.pictures}
    num_amid = 0
    for number in range(KILLS):
        victim = undisturbed.victim(tmp_path / f"{number}")
        captioning, num_before = undisturbed.of(victim), len(server.asked())
        process = victim.start()
        wait_for(lambda count=num_before: len(server.asked()) > count)
        time.sleep(undisturbed.seconds * (number + chance.random()) / KILLS)
        killed_at = victim.kill(process)
        asked = server.asked()[num_before:]
        committed = {*pictures_of(answers_of(captioning.config()))}
        num_amid += 0 < len(committed) < len(everything)

        pictures = [request.images[0] for request in asked]
        assert len(pictures) == len({*pictures})
        durable_at = killed_at - FLUSH_SECONDS - SLACK_SECONDS - SECONDS
        assert {one.images[0] for one in asked if one.at < durable_at} <= committed <= {*pictures}

        num_before, server.seconds = len(server.asked()), 0.0
        done, server.seconds = captioning.caption(), SECONDS
        again = [request.images[0] for request in server.asked()[num_before:]]
        assert not committed & {*again}
        assert sorted(again) == sorted(everything - committed)
        assert done.counts.computed + done.counts.reused == len(everything)
        assert done.counts.reused == len(committed)
        assert done.texts() == undisturbed.captions.texts()
        assert done.rejects == {}
    assert num_amid >= KILLS // 2, "most kills were to hit the middle of captioning"


def test_a_killed_preparation_trains_on_the_same_captions(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    server = undisturbed.captioning.servers[0]
    num_before = len(server.asked())
    victims = [undisturbed.victim(tmp_path / name) for name in ("killed", "not")]
    process = victims[0].start()
    wait_for(lambda: len(server.asked()) > num_before + PHOTOS * TILES // 2)
    victims[0].kill(process)
    for victim in victims:
        victim.finish()
    killed, fine = (content(open_store(str(one.store), create=False)) for one in victims)
    assert killed == fine
