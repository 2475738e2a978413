"""TrainSpec: everything the training processes are told, as one JSON file in the workspace."""

import json
from dataclasses import dataclass
from pathlib import Path

from tasks.config.models import Config
from tasks.train.files import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """One training run on one dataset version."""

    config: Config
    store: str
    dataset: str
    version: int
    run_id: str
    workspace: Path
    """Folder of this run: runs/<run_id>."""
    resume_from: Path | None = None
    """A backup folder; None means the newest valid backup of the workspace, if it has one."""
    stop_after_steps: int | None = None
    """Stop with a backup after so many steps of this call, without changing any schedule."""
    new_data: bool = False
    """Go on although the dataset is another one than the backup's: its epoch starts anew."""
    split: int = 1
    """Each micro-batch goes through the model in so many pieces: memory ran out before."""

    @property
    def backups(self) -> Path:
        """Folder of the backups."""
        return self.workspace / "backups"


def write_spec(spec: TrainSpec) -> Path:
    """Writes spec.json and config.json into the workspace and gives the path of the former."""
    config = spec.config.model_dump(mode="json")
    content = {
        "config": config,
        "store": spec.store,
        "dataset": spec.dataset,
        "version": spec.version,
        "run_id": spec.run_id,
        "workspace": str(spec.workspace),
        "resume_from": None if spec.resume_from is None else str(spec.resume_from),
        "stop_after_steps": spec.stop_after_steps,
        "new_data": spec.new_data,
        "split": spec.split,
    }
    spec.workspace.mkdir(parents=True, exist_ok=True)
    write_atomically(spec.workspace / "config.json", json.dumps(config, indent=2).encode())
    path = spec.workspace / "spec.json"
    write_atomically(path, json.dumps(content, indent=2).encode())
    return path


def read_spec(path: Path) -> TrainSpec:
    """Reads what `write_spec` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    resume_from = content["resume_from"]
    return TrainSpec(
        config=Config.model_validate(content["config"]),
        store=content["store"],
        dataset=content["dataset"],
        version=content["version"],
        run_id=content["run_id"],
        workspace=Path(content["workspace"]),
        resume_from=None if resume_from is None else Path(resume_from),
        stop_after_steps=content["stop_after_steps"],
        new_data=content["new_data"],
        split=content["split"],
    )
