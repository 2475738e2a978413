from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.families import FAMILIES
from tasks.families.loading import load_pipeline
from tasks.families.sources import resolve_model
from tasks.sample.draw import draw_images, save_grid, save_images
from tests.model_fixtures import TinyModels

SETTINGS: dict[str, Any] = {"steps": 2, "guidance": 3.0, "width": 96, "height": 64}


@pytest.fixture(scope="module")
def pipelines(tiny_models: TinyModels) -> dict[str, Any]:
    return {
        name: load_pipeline(resolve_model(str(tiny_models[name]), family), family, torch.float32)
        for name, family in FAMILIES.items()
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_image_is_a_function_of_prompt_and_seed(pipelines: dict[str, Any], name: str) -> None:
    pipeline = pipelines[name]
    settings = {**SETTINGS, "call": FAMILIES[name].sampling}
    state = torch.random.get_rng_state()
    first, second = draw_images(pipeline, ["a", "b"], seed=7, **settings)
    assert (first.size, first.mode) == ((96, 64), "RGB")
    torch.manual_seed(123)
    (alone,) = draw_images(pipeline, ["b"], seed=8, **settings)
    assert alone.tobytes() == second.tobytes()
    (other,) = draw_images(pipeline, ["a"], seed=8, **settings)
    assert other.tobytes() not in (first.tobytes(), second.tobytes())
    assert np.asarray(first).std() > 0
    torch.random.set_rng_state(state)


def test_negative_prompt_matters(pipelines: dict[str, Any]) -> None:
    (plain,) = draw_images(pipelines["sd15"], ["a"], seed=7, **SETTINGS)
    (negative,) = draw_images(pipelines["sd15"], ["a"], seed=7, negative="fog", **SETTINGS)
    assert plain.tobytes() != negative.tobytes()


def test_training_modes_and_global_randomness_are_left_alone(pipelines: dict[str, Any]) -> None:
    unet = pipelines["sd15"].unet
    unet.mid_block.train()
    before = torch.random.get_rng_state()
    modes = [module.training for module in unet.modules()]
    draw_images(pipelines["sd15"], ["a"], seed=7, **SETTINGS)
    assert [module.training for module in unet.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), before)
    unet.eval()


def test_files(tmp_path: Path) -> None:
    images = [Image.new("RGB", (8, 6), color) for color in ("red", "green", "blue")]
    prompts = ["A harbour, at dawn!", "日本", "../../etc/passwd " + "long " * 30]
    paths = save_images(images, prompts, tmp_path / "samples")
    assert [path.name for path in paths] == [
        "00-a-harbour-at-dawn.png",
        "01.png",
        "02-etc-passwd-long-long-long-long-long-lon.png",
    ]
    with Image.open(paths[1]) as image:
        assert image.getpixel((0, 0)) == (0, 128, 0)
    grid = save_grid(images, tmp_path / "grid" / "all.png", columns=2)
    with Image.open(grid) as image:
        assert image.size == (16, 12)
        assert [image.getpixel(at) for at in ((0, 0), (15, 0), (0, 11), (15, 11))] == [
            (255, 0, 0),
            (0, 128, 0),
            (0, 0, 255),
            (0, 0, 0),
        ]
    with pytest.raises(ValueError, match="empty"):
        save_grid([], tmp_path / "none.png")
