"""The finished model: written by the table of output formats, with where it came from."""

import shutil
import time
from pathlib import Path

from tasks.config.methods import LoraMethod
from tasks.train.formats import OUTPUT_FORMATS
from tasks.train.formats.metadata import RunFacts, build_metadata
from tasks.train.formats.model import TrainedModel
from tasks.train.setup import Run


def write_output(run: Run, started_at: float) -> Path:
    """Writes the trained model into the workspace's output folder, under its configured name."""
    config, training = run.spec.config, run.training
    destination = run.spec.workspace / "output" / Path(config.model.output).name
    # Formats never overwrite; what is here is ours, from before the run was prolonged.
    if destination.is_dir():
        shutil.rmtree(destination)
    destination.unlink(missing_ok=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    method = config.train.method
    lora = (method.rank, method.alpha) if isinstance(method, LoraMethod) else None
    model = TrainedModel(
        family=training.family,
        source=run.model,
        weights=training.method.state(training.denoiser),
        dtype=config.model.output_dtype,
        rank=lora[0] if lora else None,
        alpha=lora[1] if lora else None,
        metadata=build_metadata(training.family, run.model, _facts(run, started_at), lora),
    )
    return OUTPUT_FORMATS[config.model.output_format](destination, model)


def _facts(run: Run, started_at: float) -> RunFacts:
    config, training = run.spec.config, run.training
    return RunFacts(
        title=Path(config.model.output).stem,
        resolution=config.data.resolution,
        started_at=started_at,
        finished_at=time.time(),
        steps=training.progress.step,
        max_steps=training.total_steps,
        epochs=config.train.epochs,
        num_images=run.version.num_samples,
        learning_rate=config.train.learning_rate,
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        optimizer=config.train.optimizer.kind,
        schedule=config.train.schedule.kind,
        mixed_precision={"bfloat16": "bf16", "float16": "fp16"}.get(config.train.train_dtype, "no"),
        extra={
            "tilewright.run_id": run.spec.run_id,
            "tilewright.dataset": run.facts.dataset,
            "tilewright.dataset_digest": run.facts.dataset_digest,
            "tilewright.config_digest": run.facts.config_digest,
        },
    )
