import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.families import FAMILIES
from tasks.families.digests import component_digest, weight_files
from tasks.families.sources import ModelSource, resolve_model
from tests.model_fixtures import TinyModels

SD15 = FAMILIES["sd15"]
VAE = Path("vae/diffusion_pytorch_model.safetensors")
COMPONENTS = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")


@pytest.fixture
def copied(tiny_models: TinyModels, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models["sd15"], tmp_path / "copy"))


def digests(folder: Path) -> dict[str, bytes]:
    source = resolve_model(str(folder), SD15)
    return {name: component_digest(source, name) for name in COMPONENTS}


def test_independent_of_path_and_time(tiny_models: TinyModels, copied: Path) -> None:
    os.utime(copied / VAE, (1, 1))
    assert digests(copied) == digests(tiny_models["sd15"])
    assert all(len(value) == 16 for value in digests(copied).values())
    assert len(set(digests(copied).values())) == len(COMPONENTS)


def test_one_changed_weight_changes_its_component_only(copied: Path) -> None:
    before = digests(copied)
    data = bytearray((copied / VAE).read_bytes())
    data[-1] ^= 1
    (copied / VAE).write_bytes(data)
    after = digests(copied)
    assert {name for name in COMPONENTS if before[name] != after[name]} == {"vae"}


def test_configs_count_but_versions_in_them_do_not(copied: Path) -> None:
    before = digests(copied)
    path = copied / "vae" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(config.items())) | {"_diffusers_version": "9.9"}))
    assert digests(copied) == before
    path.write_text(json.dumps(config | {"scaling_factor": 0.5}))
    assert digests(copied)["vae"] != before["vae"]


def test_tokenizer_files_count(copied: Path) -> None:
    before = digests(copied)
    merges = copied / "tokenizer" / "merges.txt"
    merges.write_text(merges.read_text() + "a b\n")
    after = digests(copied)
    assert {name for name in COMPONENTS if before[name] != after[name]} == {"tokenizer"}


def test_cache_is_used_while_the_file_is_the_same(copied: Path) -> None:
    source = resolve_model(str(copied), SD15)
    cache: dict[str, bytes] = {}
    os.utime(copied / VAE)
    component_digest(source, "vae", cache=cache)
    assert cache == {}, "a file written a moment ago may still change unseen"
    os.utime(copied / VAE, (1_000_000_000, 1_000_000_000))
    value = component_digest(source, "vae", cache=cache)
    assert len(cache) == 1
    key = next(iter(cache))
    cache[key] = b"from the cache.."
    assert component_digest(source, "vae", cache=cache) != value
    os.utime(copied / VAE, (1_000_000_001, 1_000_000_001))
    assert component_digest(source, "vae", cache=cache) == value


def test_single_file_components_are_told_apart(tiny_models: TinyModels, tmp_path: Path) -> None:
    file = Path(shutil.copy(tiny_models.single_file("sd15", ".safetensors"), tmp_path))
    source = resolve_model(str(file), SD15, str(tiny_models["sd15"]))
    names = ("vae", "unet", "text_encoder", "tokenizer")
    before = {name: component_digest(source, name) for name in names}
    tensors = load_file(file)
    tensors["first_stage_model.quant_conv.bias"] += 1
    save_file(tensors, file, metadata={"any": "header"})
    after = {name: component_digest(source, name) for name in names}
    assert {name for name in names if before[name] != after[name]} == {"vae"}


def test_missing_tensors_of_a_component(tiny_models: TinyModels, tmp_path: Path) -> None:
    file = tmp_path / "no-vae.safetensors"
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, file)
    source = resolve_model(str(file), SD15, str(tiny_models["sd15"]))
    with pytest.raises(ValueError, match="no tensor starts with first_stage_model. or vae."):
        component_digest(source, "vae")
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="damaged safetensors"):
        component_digest(source, "vae")
    with pytest.raises(ValueError, match="no 'text_encoder_9'"):
        component_digest(ModelSource("diffusers", "sd15", tiny_models["sd15"]), "text_encoder_9")


def test_backup_changes_the_denoiser_only(tiny_models: TinyModels, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    method = {"kind": "full"}
    facts = {"method": method, "base": str(tiny_models["sd15"]), "family": "sd15"}
    (backup / "backup.json").write_text(json.dumps(facts))
    save_file({"conv_in.bias": torch.zeros(16)}, backup / "denoiser.safetensors")
    source = resolve_model(str(backup), SD15)
    base = digests(tiny_models["sd15"])
    assert component_digest(source, "vae") == base["vae"]
    first = component_digest(source, "unet")
    assert first != base["unet"]
    save_file({"conv_in.bias": torch.ones(16)}, backup / "denoiser.safetensors")
    assert component_digest(source, "unet") != first


@pytest.mark.parametrize(
    ("names", "chosen", "variant"),
    [
        (["model.safetensors", "pytorch_model.bin"], "model.safetensors", None),
        (["model.fp16.safetensors", "model.safetensors"], "model.safetensors", None),
        (["model.fp16.safetensors", "pytorch_model.bin"], "model.fp16.safetensors", "fp16"),
        (["pytorch_model.bin"], "pytorch_model.bin", None),
        (["diffusion_pytorch_model.bin"], "diffusion_pytorch_model.bin", None),
    ],
)
def test_choice_of_weight_files(
    tmp_path: Path, names: list[str], chosen: str, variant: str | None
) -> None:
    for name in names:
        (tmp_path / name).touch()
    found = weight_files(tmp_path)
    assert ([path.name for path in found.files], found.variant) == ([chosen], variant)
    assert found.safetensors == chosen.endswith(".safetensors")


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weights found"):
        weight_files(tmp_path)
