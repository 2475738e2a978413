import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tasks.families import FAMILIES
from tasks.families.digests import component_digest
from tasks.families.loading import load_component, load_pipeline
from tasks.families.sources import ModelSource, resolve_model
from tasks.train.formats.original_transformers import LAYOUTS, original_transformer
from tests.model_fixtures import TinyModels

FP32 = torch.float32


def source_of(folder: Path, family: str = "sd15") -> ModelSource:
    return resolve_model(str(folder), FAMILIES[family])


def component(folder: Path, name: str, family: str = "sd15") -> Any:
    return load_component(source_of(folder, family), FAMILIES[family], name, FP32)


def assert_equal(ours: Any, theirs: Any) -> None:
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_single_file_is_bit_identical(tiny_models: TinyModels, name: str, suffix: str) -> None:
    family, folder = FAMILIES[name], tiny_models[name]
    source = resolve_model(str(tiny_models.single_file(name, suffix)), family, str(folder))
    for part in family.single_file_prefixes:
        assert_equal(load_component(source, family, part, FP32), component(folder, part, name))
    pipeline = load_pipeline(source, family, FP32)
    assert type(pipeline).__name__ == family.pipeline
    assert (
        pipeline.tokenizer("a b").input_ids == component(folder, "tokenizer", name)("a b").input_ids
    )


@pytest.fixture(params=["", "model.diffusion_model."])
def transformer_file(
    request: pytest.FixtureRequest, tiny_models: TinyModels, tmp_path: Path
) -> Callable[[str], ModelSource]:
    """Writes a family's transformer as published; its config folder has all but that."""

    def write(name: str) -> ModelSource:
        family, folder = FAMILIES[name], tiny_models[name]
        state = component(folder, "transformer", name).state_dict()
        tensors = original_transformer(LAYOUTS[family.pipeline], state)
        file = tmp_path / "transformer.safetensors"
        named = {request.param + key: value.contiguous() for key, value in tensors.items()}
        save_file(named | {"first_stage_model.x": torch.zeros(1)}, file)
        config = Path(shutil.copytree(folder, tmp_path / "config"))
        for weights in (config / "transformer").glob("*.safetensors"):
            weights.unlink()
        return resolve_model(str(file), family, str(config))

    return write


@pytest.mark.parametrize("name", ["sd3", "sd35"])
def test_a_transformer_alone_is_a_single_file(
    tiny_models: TinyModels, transformer_file: Callable[[str], ModelSource], name: str
) -> None:
    source, folder = transformer_file(name), tiny_models[name]
    pipeline = load_pipeline(source, FAMILIES[name], FP32)
    for part in ("transformer", "vae", "text_encoder_2"):
        assert_equal(getattr(pipeline, part), component(folder, part, name))


@pytest.mark.parametrize("name", ["sd3", "sd35", "flux_dev", "flux_schnell"])
def test_every_tensor_of_a_transformer_is_in_its_digest(
    tiny_models: TinyModels, transformer_file: Callable[[str], ModelSource], name: str
) -> None:
    source = transformer_file(name)
    digest = component_digest(source, "transformer")
    vae = component_digest(source_of(tiny_models[name], name), "vae")
    assert component_digest(source, "vae") == vae
    tensors = load_file(source.path)
    for key in tensors:
        other = {**tensors, key: tensors[key] + 1}
        save_file(other, source.path)
        same = key == "first_stage_model.x"
        assert (component_digest(source, "transformer") == digest) == same, key


@pytest.mark.parametrize("name", FAMILIES)
def test_every_component_of_every_family_loads(tiny_models: TinyModels, name: str) -> None:
    family, source = FAMILIES[name], source_of(tiny_models[name], name)
    pipeline = load_pipeline(source, family, torch.bfloat16)
    assert type(pipeline).__name__ == family.pipeline
    assert pipeline.scheduler.config == component(tiny_models[name], "scheduler", name).config
    models = ["vae", family.denoiser, *(one.model for one in family.text_encoders)]
    assert len({component_digest(source, model) for model in models}) == len(models)
    for model in models:
        parameters = list(getattr(pipeline, model).parameters())
        assert not any(one.requires_grad for one in parameters)
        assert torch.bfloat16 in {one.dtype for one in parameters}
    for encoder in family.text_encoders:
        assert component_digest(source, encoder.tokenizer)


def test_component_is_frozen_in_its_dtype(tiny_models: TinyModels) -> None:
    vae = load_component(
        source_of(tiny_models["sd15"]), FAMILIES["sd15"], "vae", torch.bfloat16, "cpu"
    )
    assert not vae.training
    assert {(p.dtype, p.requires_grad) for p in vae.parameters()} == {(torch.bfloat16, False)}


def test_scheduler_is_the_checkpoints_own(tiny_models: TinyModels) -> None:
    kinds = {
        name: component(tiny_models[name], "scheduler", name).config.prediction_type
        for name in ("sd15", "sd2", "sdxl")
    }
    assert kinds == {"sd15": "epsilon", "sd2": "v_prediction", "sdxl": "epsilon"}


def test_file_that_lacks_a_component(tiny_models: TinyModels, tmp_path: Path) -> None:
    file = tmp_path / "partial.safetensors"
    save_file({"model.diffusion_model.out.2.bias": torch.zeros(4)}, file)
    source = resolve_model(str(file), FAMILIES["sd15"], str(tiny_models["sd15"]))
    with pytest.raises(ValueError, match="lacks weights of 'vae'"):
        load_component(source, FAMILIES["sd15"], "vae", FP32)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_code_never_runs(tiny_models: TinyModels, tmp_path: Path) -> None:
    file, proof = tmp_path / "evil.ckpt", tmp_path / "proof"
    torch.save({"state_dict": {"x": torch.zeros(1)}, "callbacks": Malicious(proof)}, file)
    source = resolve_model(str(file), FAMILIES["sd15"], str(tiny_models["sd15"]))
    with pytest.raises(ValueError, match=r"evil.ckpt: this file holds more than weights"):
        load_component(source, FAMILIES["sd15"], "unet", FP32)
    assert not proof.exists()


def test_folder_cannot_name_a_module_to_import(tiny_models: TinyModels, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_models["sd15"], tmp_path / "m"))
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["os", "system"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="library 'os'; allowed: diffusers, transformers"):
        component(folder, "vae")


def test_unknown_component_lists_what_there_is(tiny_models: TinyModels) -> None:
    with pytest.raises(ValueError, match="no 'text_encoder_2'; it has: .*text_encoder, "):
        component(tiny_models["sd15"], "text_encoder_2")


def _fp16(model: Any, folder: Path) -> None:
    model.half().save_pretrained(folder, variant="fp16")


def _sharded(model: Any, folder: Path) -> None:
    model.save_pretrained(folder, max_shard_size="100KB")


def _sharded_fp16(model: Any, folder: Path) -> None:
    model.half().save_pretrained(folder, max_shard_size="60KB", variant="fp16")


def _bin(model: Any, folder: Path) -> None:
    is_text = type(model).__name__ == "CLIPTextModel"
    stem = "pytorch_model" if is_text else "diffusion_pytorch_model"
    torch.save(model.state_dict(), folder / f"{stem}.bin")


@pytest.mark.parametrize("write", [_fp16, _sharded, _sharded_fp16, _bin])
@pytest.mark.parametrize("name", ["vae", "text_encoder"])
def test_weight_file_kinds(tiny_models: TinyModels, tmp_path: Path, name: str, write: Any) -> None:
    folder = Path(shutil.copytree(tiny_models["sd15"], tmp_path / "m"))
    model = component(folder, name)
    for path in (folder / name).glob("*.safetensors"):
        path.unlink()
    write(model, folder / name)
    loaded = component(folder, name)
    assert loaded.dtype == FP32
    assert_equal(loaded, model.float())
    load_pipeline(source_of(folder), FAMILIES["sd15"], FP32)


def test_full_backup(tiny_models: TinyModels, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    base = tiny_models["sd15"]
    unet = component(base, "unet")
    with torch.no_grad():
        unet.conv_in.bias += 1
    save_file(unet.state_dict(), backup / "denoiser.safetensors")
    facts = {"method": {"kind": "full"}, "base": str(base), "family": "sd15"}
    (backup / "backup.json").write_text(json.dumps(facts))
    assert_equal(component(backup, "unet"), unet)
    assert_equal(component(backup, "vae"), component(base, "vae"))
    assert_equal(load_pipeline(source_of(backup), FAMILIES["sd15"], FP32).unet, unet)


def test_lora_backup_is_merged(tiny_models: TinyModels, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model_state_dict

    backup = tmp_path / "backup"
    backup.mkdir()
    base = tiny_models["sd15"]
    unet = component(base, "unet")
    # Linear layers, a 1x1 and a 3x3 convolution.
    targets = ["to_q", "proj_in", "conv1"]
    unet.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=targets, init_lora_weights=False))
    save_file(get_peft_model_state_dict(unet), backup / "denoiser.safetensors")
    method = {"kind": "lora", "rank": 3, "alpha": 6}
    facts = {"method": method, "base": str(base), "family": "sd15"}
    (backup / "backup.json").write_text(json.dumps(facts))
    merged = component(backup, "unet")
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([10]), torch.randn(1, 77, 32)
    with torch.no_grad():
        plain = component(base, "unet")(*inputs).sample
        expected = unet(*inputs).sample
        got = merged(*inputs).sample
    assert not torch.allclose(plain, expected, atol=1e-3)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_pipeline_around_a_denoiser_in_training(tiny_models: TinyModels) -> None:
    unet = component(tiny_models["sdxl"], "unet", "sdxl").train()
    source = source_of(tiny_models["sdxl"], "sdxl")
    pipeline = load_pipeline(source, FAMILIES["sdxl"], torch.bfloat16, given={"unet": unet})
    assert pipeline.unet is unet
    assert (unet.dtype, pipeline.vae.dtype) == (FP32, torch.bfloat16)
    assert unet.training
