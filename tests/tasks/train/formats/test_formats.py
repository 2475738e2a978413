import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tasks.families import FAMILIES
from tasks.families.loading import load_pipeline
from tasks.families.sources import resolve_model
from tasks.sample.draw import draw_images
from tasks.train.formats import FORMAT_METHODS, OUTPUT_FORMATS
from tasks.train.formats.metadata import RunFacts, build_metadata
from tasks.train.formats.model import TrainedModel
from tests.model_fixtures import TinyModels

LORA_FORMATS = [name for name, method in FORMAT_METHODS.items() if method == "lora"]
RANK, ALPHA = 4, 6.0
FACTS = RunFacts(
    title="harbour",
    resolution="512,768",
    started_at=1_700_000_000.0,
    finished_at=1_700_000_060.0,
    steps=10,
    max_steps=20,
    epochs=2,
    num_images=5,
    learning_rate=1e-4,
    batch_size=2,
    seed=42,
    optimizer="adamw",
    schedule="cosine",
    mixed_precision="bfloat16",
    extra={"tilewright.dataset": "harbour@3"},
)

Loader = Callable[[str], Any]


@pytest.fixture(scope="module")
def stock(tiny_models: TinyModels) -> Loader:
    def load(name: str) -> Any:
        source = resolve_model(str(tiny_models[name]), FAMILIES[name])
        return load_pipeline(source, FAMILIES[name], torch.float32)

    return load


def adapted(pipeline: Any, targets: list[str]) -> dict[str, torch.Tensor]:
    """Give the pipeline's UNet a random adapter that changes its images; gives its weights."""
    from peft import LoraConfig, get_peft_model_state_dict

    torch.manual_seed(5)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, init_lora_weights=False)
    pipeline.unet.add_adapter(config)
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(pipeline.unet)
    return state


def trained(
    tiny_models: TinyModels, name: str, weights: dict[str, torch.Tensor], **changes: Any
) -> TrainedModel:
    family = FAMILIES[name]
    source = resolve_model(str(tiny_models[name]), family)
    values: dict[str, Any] = {"dtype": "float32", "rank": RANK, "alpha": ALPHA} | changes
    lora = None if values["rank"] is None else (values["rank"], values["alpha"])
    metadata = build_metadata(family, source, FACTS, lora)
    return TrainedModel(family=family, source=source, weights=weights, metadata=metadata, **values)


def draw(pipeline: Any) -> np.ndarray:
    images = draw_images(
        pipeline, ["a boat"], seed=1, steps=2, guidance=3.0, width=64, height=64, negative="fog"
    )
    return np.asarray(images[0]).astype(int)


def header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize("layout", LORA_FORMATS)
@pytest.mark.parametrize("name", FAMILIES)
def test_lora_loads_in_the_stock_pipeline(
    tiny_models: TinyModels, stock: Loader, tmp_path: Path, name: str, layout: str
) -> None:
    ours, theirs = stock(name), stock(name)
    before = draw(theirs)
    weights = adapted(ours, list(FAMILIES[name].lora_targets))
    path = OUTPUT_FORMATS[layout](
        tmp_path / "out" / "lora.safetensors", trained(tiny_models, name, weights)
    )
    theirs.load_lora_weights(str(path))
    after = draw(theirs)
    assert np.abs(after - before).mean() > 1, "the adapter does not change the image"
    assert np.abs(after - draw(ours)).max() <= 1
    loaded = theirs.unet.peft_config[next(iter(theirs.unet.peft_config))]
    assert loaded.r == RANK
    assert [entry.name for entry in path.parent.iterdir()] == ["lora.safetensors"]


@pytest.mark.parametrize("layout", LORA_FORMATS)
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_lora_of_every_kind_of_layer(
    tiny_models: TinyModels, stock: Loader, tmp_path: Path, name: str, layout: str
) -> None:
    ours, theirs = stock(name), stock(name)
    targets = ["to_q", "conv1", "conv2", "conv_shortcut", "time_emb_proj", "ff.net.2"]
    weights = adapted(ours, targets)
    path = OUTPUT_FORMATS[layout](
        tmp_path / "lora.safetensors", trained(tiny_models, name, weights)
    )
    theirs.load_lora_weights(str(path))
    assert np.abs(draw(theirs) - draw(ours)).max() <= 1


GOLDEN_KEYS = {
    ("sd15", "kohya_lora"): (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight"
    ),
    ("sdxl", "kohya_lora"): (
        "lora_unet_input_blocks_3_1_transformer_blocks_1_attn1_to_out_0.lora_down.weight"
    ),
    ("sd15", "diffusers_lora"): (
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight"
    ),
    ("sdxl", "diffusers_lora"): (
        "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_out.0.lora_A.weight"
    ),
}


@pytest.mark.parametrize(("name", "layout"), GOLDEN_KEYS)
def test_keys_and_dtype(
    tiny_models: TinyModels, stock: Loader, tmp_path: Path, name: str, layout: str
) -> None:
    weights = adapted(stock(name), list(FAMILIES[name].lora_targets))
    path = OUTPUT_FORMATS[layout](
        tmp_path / "lora.safetensors", trained(tiny_models, name, weights, dtype="float16")
    )
    tensors = load_file(path)
    assert GOLDEN_KEYS[name, layout] in tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    is_kohya = layout == "kohya_lora"
    assert len(tensors) == len(weights) // 2 * (3 if is_kohya else 2)
    alphas = {float(value) for key, value in tensors.items() if key.endswith(".alpha")}
    assert alphas == ({ALPHA} if is_kohya else set())


def test_header(tiny_models: TinyModels, stock: Loader, tmp_path: Path) -> None:
    weights = adapted(stock("sd2"), list(FAMILIES["sd2"].lora_targets))
    path = OUTPUT_FORMATS["kohya_lora"](
        tmp_path / "lora.safetensors", trained(tiny_models, "sd2", weights)
    )
    found = header(path)
    expected = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-v2-768-v/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": "harbour",
        "modelspec.date": "2023-11-14T22:14:20",
        "modelspec.resolution": "512x512",
        "modelspec.prediction_type": "v",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "6.0",
        "ss_base_model_version": "sd_v2_v",
        "ss_sd_model_name": "sd2",
        "ss_steps": "10",
        "tilewright.dataset": "harbour@3",
        "format": "pt",
    }
    assert {key: found.get(key) for key in expected} == expected
    content = path.read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    assert found["sshs_model_hash"] == hashlib.sha256(data).hexdigest()
    assert found["modelspec.hash_sha256"] == f"0x{found['sshs_model_hash']}"
    assert re.fullmatch("[0-9a-f]{8}", found["sshs_legacy_hash"])


def test_sdxl_lora_says_whose_names_it_has(tiny_models: TinyModels) -> None:
    metadata = trained(tiny_models, "sdxl", {}).metadata
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert metadata["modelspec.implementation"].endswith("/generative-models")


def test_diffusers_folder_loads_with_stock_diffusers(
    tiny_models: TinyModels, stock: Loader, tmp_path: Path
) -> None:
    import diffusers

    for name, family in FAMILIES.items():
        pipeline = stock(name)
        before = draw(pipeline)
        with torch.no_grad():
            for parameter in pipeline.unet.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        model = trained(tiny_models, name, pipeline.unet.state_dict(), rank=None, alpha=None)
        folder = OUTPUT_FORMATS["diffusers"](tmp_path / name, model)
        loaded = getattr(diffusers, family.pipeline).from_pretrained(folder, local_files_only=True)
        for key, value in pipeline.unet.state_dict().items():
            assert torch.equal(loaded.unet.state_dict()[key], value)
        assert np.array_equal(draw(loaded), draw(pipeline))
        assert np.abs(draw(loaded) - before).mean() > 1
        assert '"tilewright.dataset": "harbour@3"' in (folder / "tilewright.json").read_text()
        assert (folder.stat().st_mode & 0o777) == 0o755
        # The folder is itself a base model of that family.
        assert resolve_model(str(folder), family).kind == "diffusers"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FAMILIES)


@pytest.mark.parametrize("layout", OUTPUT_FORMATS)
def test_never_overwrites(
    tiny_models: TinyModels, stock: Loader, tmp_path: Path, layout: str
) -> None:
    pipeline = stock("sd15")
    is_lora = FORMAT_METHODS[layout] == "lora"
    weights = adapted(pipeline, ["to_q"]) if is_lora else pipeline.unet.state_dict()
    rank, alpha = (RANK, ALPHA) if is_lora else (None, None)
    model = trained(tiny_models, "sd15", weights, rank=rank, alpha=alpha)
    target = tmp_path / "mine"
    target.write_text("precious")
    with pytest.raises(FileExistsError, match="never overwritten"):
        OUTPUT_FORMATS[layout](target, model)
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("layout", OUTPUT_FORMATS)
def test_refuses_the_other_method(tiny_models: TinyModels, tmp_path: Path, layout: str) -> None:
    is_lora = FORMAT_METHODS[layout] == "lora"
    rank, alpha = (None, None) if is_lora else (RANK, ALPHA)
    model = trained(tiny_models, "sd15", {}, rank=rank, alpha=alpha)
    with pytest.raises(ValueError, match="LoRA"):
        OUTPUT_FORMATS[layout](tmp_path / "x", model)
    assert list(tmp_path.iterdir()) == []


def test_values_that_do_not_fit_the_dtype(tiny_models: TinyModels, tmp_path: Path) -> None:
    weights = {
        "mid_block.attentions.0.to_q.lora_A.weight": torch.full((4, 4), 1e5),
        "mid_block.attentions.0.to_q.lora_B.weight": torch.zeros(4, 4),
    }
    model = trained(tiny_models, "sd15", weights, dtype="float16")
    with pytest.raises(ValueError, match=r"to_q.lora_A.weight.*float16.*float32"):
        OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", model)
    with pytest.raises(ValueError, match="expected only lora_A and lora_B"):
        odd = trained(tiny_models, "sd15", {"conv_in.bias": torch.zeros(4)})
        OUTPUT_FORMATS["kohya_lora"](tmp_path / "x.safetensors", odd)
