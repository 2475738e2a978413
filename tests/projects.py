"""Small real projects for tests: photos with sidecars, a tiny model and a run.toml."""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.versions import Version, read_rows
from tasks.config.loading import load_config
from tasks.config.models import Config
from tasks.pipeline.export import Exported, export_tiles
from tasks.pipeline.plan import plan_pipeline
from tasks.pipeline.report import read_rejects
from tasks.pipeline.run import StagePlan, make_version, plan_stage, seal_stage, work_partition
from tasks.pipeline.stages import STAGES
from tasks.stage import Context, StageCounts, StageRef
from tests.photos import make_photo

RUN_TOML = """
[store]
url = "store"
[model]
family = "{family}"
base = "{base}"
output = "out.safetensors"
[data]
name = "test"
resolution = "64"
[[concepts]]
name = "photos"
path = "photos"
[concepts.image.detail_crops]
enabled = true
scales = [2]
[train]
train_dtype = "float32"
epochs = 1
batch_size = 2
[train.method]
kind = "lora"
rank = 2
"""


@dataclass(frozen=True)
class Project:
    """A folder with photos/ and run.toml, and shortcuts to run it without Prefect."""

    folder: Path

    @property
    def run_toml(self) -> Path:
        return self.folder / "run.toml"

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    def config(self, *overrides: str) -> Config:
        return load_config(self.run_toml, list(overrides))

    def prepare(self, *overrides: str) -> "Prepared":
        return prepare(self.config(*overrides))

    def plan(self, *overrides: str) -> dict[str, Any]:
        return plan_pipeline(self.config(*overrides))

    def add_photo(
        self, name: str, seed: int, prompt: str, size: tuple[int, int] = (160, 112)
    ) -> Path:
        return add_photo(self.photos, name, seed, prompt, size)


@dataclass(frozen=True)
class Prepared:
    """What a preparation made."""

    version: Version
    created: bool
    counts: dict[str, StageCounts]
    rows: pa.Table
    rejects: list[tuple[str, str]]
    """(path, reason) of every file that could not be used."""
    exported: Exported | None = None
    """What was written to folders of tiles; None when no concept asked for it."""

    def computed(self) -> dict[str, int]:
        """Items made by each stage; captions and masks only where there are any."""
        return {
            name: counts.computed
            for name, counts in self.counts.items()
            if counts.computed or name not in ("captions", "masks")
        }


def make_project(folder: Path, base: Path, *, family: str = "sd15", num_photos: int = 3) -> Project:
    """A project of `num_photos` photos of 160 x 112 pixels, each with a sidecar."""
    project = Project(folder)
    project.photos.mkdir(parents=True)
    project.run_toml.write_text(RUN_TOML.format(family=family, base=base))
    for number in range(num_photos):
        project.add_photo(f"photo{number}", number, f"a photo, number {number}")
    return project


def add_photo(folder: Path, name: str, seed: int, prompt: str, size: tuple[int, int]) -> Path:
    """Writes a photo and its sidecar, dated an hour back so that the scan need not wait."""
    path = folder / f"{name}.jpg"
    path.write_bytes(make_photo(*size, seed))
    path.with_suffix(".txt").write_text(prompt)
    for written in (path, path.with_suffix(".txt")):
        make_old(written)
    return path


def make_old(path: Path) -> None:
    """Sets a file's times an hour back."""
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))


def copy_project(project: Project, folder: Path) -> Project:
    """The same photos and settings in another folder, with no store."""
    shutil.copytree(project.folder, folder, ignore=shutil.ignore_patterns("store"))
    return Project(folder)


def prepare(config: Config) -> Prepared:
    """All data stages in this process, without Prefect."""
    refs: dict[str, StageRef] = {}
    for stage in STAGES:
        planned = plan_stage(config, stage.name, {up: refs[up] for up in stage.after})
        if isinstance(planned, StagePlan):
            done = [work_partition(config, planned, n) for n in range(planned.num_partitions)]
            planned = seal_stage(config, planned, done)
        refs[stage.name] = planned
    version, created = make_version(config, refs)
    exported = export_tiles(config, version)
    counts = {name: ref.counts for name, ref in refs.items()}
    context = Context(config)
    rejects = [(row["path"], row["reason"]) for row in read_rejects(context, refs).to_pylist()]
    rows = read_rows(context.store, version)
    return Prepared(version, created, counts, rows, rejects, exported)


def differing(before: Sequence[int], after: Sequence[int]) -> int:
    """How many values of `after` are not in `before`."""
    return len(set(after) - set(before))
