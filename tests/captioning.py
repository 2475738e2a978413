"""Projects whose tiles are captioned by servers, and what tests look at there."""

import hashlib
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage import tables
from tasks.captions.edits import STAGE_ID as EDITS_ID
from tasks.captions.generated import STAGE_ID
from tasks.config.models import Config
from tasks.pipeline.report import read_rejects
from tasks.pipeline.run import StagePlan, plan_stage, seal_stage, work_partition
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageCounts, StageRef, Wanted
from tests.caption_server import CaptionServer, Request
from tests.projects import Prepared, Project, make_project

CROPS = "concepts.0.image.detail_crops."
LAST = [stage.name for stage in STAGES].index("captions")
TILES = 12
"""Of every photo of `make_project`; see test_invalidation."""


def says_which(picture: bytes, prompt: str) -> str:
    """An answer that tells which picture was sent and what was asked."""
    return f"picture {sha_of(picture)} asked {sha_of(prompt.encode())[:8]}"


def sha_of(data: bytes) -> str:
    """As the server tells pictures apart."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Captions:
    """What the stages up to captions did."""

    counts: StageCounts
    rejects: dict[str, str]
    """Reason by the label of the tile or photo."""
    answers: list[dict[str, Any]]
    """All that the store has of models, the newest first."""

    def texts(self) -> dict[bytes, list[str] | None]:
        """The newest prompts of every key."""
        return {row["key"]: row["prompts"] for row in reversed(self.answers)}


@dataclass(frozen=True)
class Captioning:
    """A project, the servers that caption its tiles, and settings of its first concept."""

    project: Project
    servers: tuple[CaptionServer, ...]
    settings: tuple[str, ...] = ()

    def overrides(self, *more: str) -> tuple[str, ...]:
        """All settings; those of `more` without a dot are of the detail crops."""
        ours = (
            "enable_captioning=true",
            f"caption_endpoint={[server.url for server in self.servers]}",
            "caption_model='tiny'",
            "caption_probability=1",
            *self.settings,
            *more,
        )
        return tuple(one if _is_full(one) else f"{CROPS}{one}" for one in ours)

    def having(self, *settings: str) -> "Captioning":
        return replace(self, settings=(*self.settings, *settings))

    def asking(self, *servers: CaptionServer) -> "Captioning":
        return replace(self, servers=servers)

    def config(self, *more: str) -> Config:
        return self.project.config(*self.overrides(*more))

    def prepare(self, *more: str) -> Prepared:
        return self.project.prepare(*self.overrides(*more))

    def of_its_own(self, folder: Path) -> "Captioning":
        """The same project with its store in a folder of its own."""
        shutil.copytree(self.project.folder, folder)
        return replace(self, project=Project(folder))

    def in_store_of(self, folder: Path) -> "Captioning":
        """The same project with a copy of its store elsewhere."""
        shutil.copytree(self.project.folder / "store", folder)
        return self.having(f"store.url={str(folder)!r}")

    def plan(self, *more: str) -> dict[str, Any]:
        return self.project.plan(*self.overrides(*more))

    def caption(self, *more: str, **hooks: Any) -> Captions:
        """Runs the stages up to captions; see `caption_only`."""
        return caption_only(self.config(*more), **hooks)

    def answers(self) -> list[dict[str, Any]]:
        """What models answered, as the store has it, the newest first."""
        return answers_of(self.config())

    def asked(self) -> list[Request]:
        """Requests with pictures at all servers, in order."""
        return sorted((one for s in self.servers for one in s.asked()), key=lambda one: one.at)

    def pictures(self) -> list[str]:
        """The sha256 of every picture that was asked about, in order."""
        return [sha for request in self.asked() for sha in request.images]


def _is_full(setting: str) -> bool:
    name = setting.partition("=")[0]
    return "." in name or name in ("refresh", "deep")


def make_captioning(
    folder: Path, base: Path, *servers: CaptionServer, num_photos: int = 1
) -> Captioning:
    """A project of photos with TILES tiles each."""
    return Captioning(make_project(folder, base, num_photos=num_photos), servers)


def caption_only(
    config: Config,
    *,
    before_work: Callable[[], object] = lambda: None,
    told: Callable[[int], object] | None = None,
) -> Captions:
    """The stages up to captions in this process, without Prefect; they need no image model.

    Args:
        config: of the project.
        before_work: called when captions are planned.
        told: of the number of captions that are done; takes the place of the work's own report.
    """
    refs: dict[str, StageRef] = {}
    for stage in STAGES[: LAST + 1]:
        planned = plan_stage(config, stage.name, {up: refs[up] for up in stage.after})
        if isinstance(planned, StagePlan):
            if stage.name == "captions":
                before_work()
            if stage.name == "captions" and told is not None:
                _work(config, planned, told)
            done = [work_partition(config, planned, n) for n in range(planned.num_partitions)]
            planned = seal_stage(config, planned, done)
        refs[stage.name] = planned
    rejects = read_rejects(Context(config), {"captions": refs["captions"]}).to_pylist()
    return Captions(
        refs["captions"].counts,
        {row["path"]: row["reason"] for row in rejects},
        answers_of(config),
    )


def _work(config: Config, planned: StagePlan, told: Callable[[int], object]) -> None:
    """The work of a whole plan, telling `told` how many items are done."""
    context = Context(config)
    todo = tables.get_table(context.store, planned.todo).drop_columns(["partition"])
    done = itertools.accumulate(itertools.repeat(1))
    wanted = Wanted(planned.stage_id, todo, planned.facts)
    STAGES[LAST].work(context, wanted, todo, lambda count: told(next(done)))


def answers_of(config: Config) -> list[dict[str, Any]]:
    """What models answered, as the store has it, the newest first."""
    table = Context(config).committed("captions", STAGE_ID)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def failed_of(config: Config) -> dict[bytes, str]:
    """The reason of every failure that the store knows, by key."""
    known = Context(config).rejected("captions", EDITS_ID).to_pylist()
    return {row["key"]: row["reason"] for row in known}


def pictures_of(answers: Sequence[dict[str, Any]]) -> list[str]:
    """The pictures that answers of `says_which` are about."""
    return [answer["answer"].split()[1] for answer in answers]
