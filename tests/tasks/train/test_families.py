"""Every family on its whole way: photos, latents and texts, training, backup, resume, samples and
a LoRA that the stock pipeline loads."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from PIL import Image

from tasks.families import FAMILIES, get_family
from tasks.families.loading import load_pipeline, resolve_model
from tasks.sample.draw import add_lora, draw_images
from tasks.train.backup import newest_backup
from tasks.train.child import train_rank
from tasks.train.events import loss_history
from tasks.train.spec import TrainSpec, write_spec
from tests.projects import make_project
from tests.tasks.train.comparing import assert_equal_backups
from tests.tasks.train.synthetic import make_spec

EDGE_PX = 64
TRAIN = """
max_steps = 4
learning_rate = 1e-2
device = "cpu"
caption_dropout = 0.3
backup = { every = 100 }
ema = { kind = "cpu", update_every = 1 }
sample = { prompts = ["a boat"], steps = 2, guidance = 2.0, width = 64, height = 64 }
"""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_goes_from_photos_to_samples_and_a_lora(name, tiny_models, tmp_path):
    project = make_project(tmp_path / "project", tiny_models[name], family=name, num_photos=2)
    text = project.run_toml.read_text().replace("epochs = 1", TRAIN)
    text = text.replace('output = "out.safetensors"', 'output = "lora.safetensors"\n' + OUTPUT)
    project.run_toml.write_text(text)
    prepared = project.prepare()
    assert prepared.computed()["latents"] > 2

    whole, parts = (
        make_spec(tmp_path / run, project.config(), prepared.version) for run in ("whole", "parts")
    )
    assert train(whole) == "done"
    assert train(replace(parts, stop_after_steps=2)) == "stopped"
    assert train(replace(parts, resume_from=newest_backup(parts.backups))) == "done"
    assert_equal_backups(newest_backup(whole.backups), newest_backup(parts.backups))
    assert loss_history(whole.workspace) == loss_history(parts.workspace)

    (sample,) = whole.workspace.glob("samples/*/*.png")
    assert Image.open(sample).size == (EDGE_PX, EDGE_PX)
    assert_the_lora_acts(name, tiny_models[name], whole.workspace / "output" / "lora.safetensors")


OUTPUT = 'output_format = "diffusers_lora"\noutput_dtype = "float32"'


def assert_the_lora_acts(name: str, model: Path, lora: Path) -> None:
    family = get_family(name)
    pipeline = load_pipeline(resolve_model(str(model), family), family, torch.float32)

    def image():
        (drawn,) = draw_images(
            pipeline, ["a boat"], seed=0, steps=2, guidance=1.0, width=EDGE_PX, height=EDGE_PX,
            call=family.sampling,
        )  # fmt: skip
        return drawn.tobytes()

    before = image()
    add_lora(pipeline, family.denoiser, lora)
    assert image() != before


def train(spec: TrainSpec) -> str:
    write_spec(spec)
    return train_rank(spec, Event())
