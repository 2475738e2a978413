import hashlib
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline

from deployments.demo.build_model import build_demo_model
from tasks.families import FAMILIES
from tests.model_fixtures import TinyModels
from tests.tiny import build_tiny


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_bytes(tiny_models: TinyModels, tmp_path: Path, family: str) -> None:
    assert content(build_tiny(family, tmp_path / "again")) == content(tiny_models[family])
    files = [path for path in tiny_models[family].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_500_000


def test_another_seed_is_another_model(tiny_models: TinyModels, tmp_path: Path) -> None:
    other = content(build_demo_model(tmp_path / "other", seed=1))
    differing = {
        name for name, value in content(tiny_models["sd15"]).items() if other[name] != value
    }
    assert {name.split("/")[0] for name in differing} == {"unet", "vae", "text_encoder"}


def test_demo_model_is_real_and_small(tiny_models: TinyModels) -> None:
    folder = tiny_models["sd15"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 2_000_000
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert pipeline.vae_scale_factor == 8
    image = pipeline("a harbour", num_inference_steps=1, width=64, height=96).images[0]
    assert image.size == (64, 96)


def test_tokenizer_has_a_token_for_every_byte(tiny_models: TinyModels) -> None:
    pipeline = DiffusionPipeline.from_pretrained(tiny_models["sd15"], local_files_only=True)
    tokenizer = pipeline.tokenizer
    assert (len(tokenizer), tokenizer.model_max_length) == (514, 77)
    ids = tokenizer("Zoë 🚢").input_ids
    assert (ids[0], ids[-1]) == (512, 513)
    # z, o, two bytes of e with diaeresis, four bytes of the ship.
    assert len(ids) == 2 + 4 + 4
    assert tokenizer.unk_token_id not in ids[1:-1]
