import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.families import FAMILIES
from tasks.families.digests import component_digest
from tasks.families.sources import read_config, resolve_model
from tests.model_fixtures import TinyModels

SD15, SD2, SDXL = FAMILIES["sd15"], FAMILIES["sd2"], FAMILIES["sdxl"]


def make_folder(folder: Path, class_name: str = "StableDiffusionPipeline") -> Path:
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name}))
    return folder


def test_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "my-model")
    source = resolve_model(str(folder), SD15)
    assert (source.kind, source.path, source.folder, source.name) == (
        "diffusers",
        folder,
        folder,
        str(folder),
    )


def test_missing_path_names_the_nearest(tmp_path: Path) -> None:
    make_folder(tmp_path / "my-model")
    with pytest.raises(ValueError, match=re.escape(f"did you mean '{tmp_path}/my-model'?")):
        resolve_model(str(tmp_path / "my-modle"), SD15)
    with pytest.raises(ValueError, match="nothing exists at.*hub name"):
        resolve_model("weights.safetensors", SD15)


def test_folder_of_another_family(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "xl", "StableDiffusionXLPipeline")
    with pytest.raises(ValueError, match="StableDiffusionXLPipeline, but family 'sd15'"):
        resolve_model(str(folder), SD15)


def test_folder_without_a_model_names_models_inside(tmp_path: Path) -> None:
    make_folder(tmp_path / "zoo" / "first")
    with pytest.raises(ValueError, match=r"model_index.json is missing; models inside it: first"):
        resolve_model(str(tmp_path / "zoo"), SD15)


def test_damaged_index(tmp_path: Path) -> None:
    (make_folder(tmp_path / "m") / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model_index.json: damaged JSON"):
        resolve_model(str(tmp_path / "m"), SD15)


def test_hub_name_without_a_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # A process of its own: huggingface_hub reads the variable when it is imported.
    code = (
        "from tasks.families import get_family\n"
        "from tasks.families.sources import resolve_model\n"
        "resolve_model('some-one/no-such-model', get_family('sd15'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: `model.base`: 'some-one/no-such-model' is no file")
    assert "HF_HUB_OFFLINE" in last
    assert "path of a local model" in last


def test_hub_model_from_the_local_cache(
    tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--some-one--tiny"
    snapshot = repository / "snapshots" / revision
    shutil.copytree(tiny_models["sd15"], snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    code = (
        "import torch\n"
        "from tasks.families import get_family\n"
        "from tasks.families.loading import component_digest, load_component, resolve_model\n"
        "family = get_family('sd15')\n"
        "source = resolve_model('some-one/tiny', family)\n"
        "load_component(source, family, 'tokenizer', torch.float32)\n"
        "print(source.kind, source.name, source.path, component_digest(source, 'vae').hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    digest = component_digest(resolve_model(str(tiny_models["sd15"]), SD15), "vae").hex()
    assert done.stdout.split() == ["hub", "some-one/tiny", str(snapshot), digest]


def test_single_file(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "config")
    file = tmp_path / "model.safetensors"
    file.touch()
    source = resolve_model(str(file), SD15, str(folder))
    assert (source.kind, source.path, source.folder) == ("single_file", file, folder)
    with pytest.raises(ValueError, match="config_folder.*did you mean '.*/config'"):
        resolve_model(str(file), SD15, str(tmp_path / "confg"))
    with pytest.raises(ValueError, match="epsilon or v; set `model.config_folder`"):
        resolve_model(str(file), SD2)
    (tmp_path / "model.gguf").touch()
    with pytest.raises(ValueError, match="unknown kind; allowed: .safetensors, .ckpt"):
        resolve_model(str(tmp_path / "model.gguf"), SD15, str(folder))


def test_single_file_of_a_family_without_such_a_layout(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "config", "SanaPipeline")
    file = tmp_path / "sana.safetensors"
    file.touch()
    with pytest.raises(ValueError, match="sana cannot be read from one; give a diffusers folder"):
        resolve_model(str(file), FAMILIES["sana"], str(folder))


def test_backup_leads_to_its_base(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "base")
    backup = tmp_path / "backup"
    backup.mkdir()
    facts = {"base": str(folder), "family": "sd15", "files": {"denoiser.safetensors": {}}}
    (backup / "backup.json").write_text(json.dumps(facts | {"method": {"kind": "lora"}}))
    with pytest.raises(ValueError, match=r"cannot be used: denoiser.safetensors is missing"):
        resolve_model(str(backup), SD15)
    (backup / "denoiser.safetensors").touch()
    source = resolve_model(str(backup), SD15)
    assert (source.kind, source.path, source.folder) == ("backup", backup, folder)
    with pytest.raises(ValueError, match="family 'sd15'; `model.family` is 'sdxl'"):
        resolve_model(str(backup), SDXL)
    folder.rename(tmp_path / "gone")
    with pytest.raises(ValueError, match="started from is gone.*nothing exists"):
        resolve_model(str(backup), SD15)


def test_read_config(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    (folder / "vae").mkdir()
    (folder / "vae" / "config.json").write_text('{"scaling_factor": 0.5}')
    source = resolve_model(str(folder), SD15)
    assert read_config(source, "vae") == {"scaling_factor": 0.5}
    with pytest.raises(ValueError, match="no 'unet'"):
        read_config(source, "unet")
