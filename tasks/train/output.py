"""The finished model: written by the table of output formats, with where it came from."""

import shutil
from pathlib import Path

from tasks.train.formats import OUTPUT_FORMATS, words_folder
from tasks.train.formats.metadata import RunFacts, build_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.parts import WORD
from tasks.train.run_facts import run_facts
from tasks.train.setup import Run
from tasks.train.state import weights_in_use


def write_output(run: Run, folder: Path, started_at: float, lineage: str = "") -> Path:
    """Writes the model as it is now into `folder`, under its configured name.

    `lineage` is the digest of the lineage that is kept in the workspace, if there is one.
    """
    config, training = run.spec.config, run.training
    destination = folder / Path(config.model.output).name
    # Formats never overwrite; what is here is ours, from before the run was prolonged.
    if destination.is_dir():
        shutil.rmtree(destination)
    shutil.rmtree(words_folder(destination), ignore_errors=True)
    destination.unlink(missing_ok=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with weights_in_use(training):
        model = trained_model(run, run_facts(run, started_at, lineage))
        return OUTPUT_FORMATS[config.model.output_format](destination, model)


def keep_saves(folder: Path, keep: int | None) -> None:
    """Deletes all but the newest `keep` models that were saved in between."""
    saves = sorted(folder.glob("step-*"))
    for old in saves[: len(saves) - keep] if keep else ():
        shutil.rmtree(old)


def trained_model(run: Run, facts: RunFacts) -> TrainedModel:
    """The trained weights with where they came from."""
    config, training = run.spec.config, run.training
    method = config.train.method
    is_word = {part.name: part.name.startswith(f"{WORD}.") for part in training.parts}
    return TrainedModel(
        family=training.family,
        source=run.model,
        method=method,
        parts={part.name: part.state() for part in training.parts if not is_word[part.name]},
        embeddings={
            part.name.removeprefix(f"{WORD}."): part.state()
            for part in training.parts
            if is_word[part.name]
        },
        dtype=config.model.output_dtype,
        scheduler=training.objective.sampler_changes,
        metadata=build_metadata(training.family, run.model, facts, method),
    )
