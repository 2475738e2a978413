import hashlib
import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from tasks.families import FAMILIES
from tasks.train.formats import OUTPUT_FORMATS
from tasks.train.formats.metadata import build_metadata, count_tags
from tests.model_fixtures import TinyModels
from tests.tasks.train.formats.models import (
    DORA,
    FACTS,
    FULL,
    LOKR,
    LORA,
    adapt,
    load,
    source_of,
    trained,
)


def header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_header(tiny_models: TinyModels, tmp_path: Path) -> None:
    parts = {"denoiser": adapt(load(tiny_models["sd2"], "sd2", "unet"), LORA, ["to_q"])}
    path = OUTPUT_FORMATS["kohya_lora"](
        tmp_path / "lora.safetensors", trained(tiny_models["sd2"], "sd2", LORA, parts)
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
        "modelspec.trigger_phrase": "<boat>",
        "modelspec.trained_words": "<boat>",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "6.0",
        "ss_base_model_version": "sd_v2_v",
        "ss_sd_model_name": "sd2",
        "ss_steps": "10",
        "ss_unet_lr": "0.0001",
        "ss_text_encoder_lr": "5e-05",
        "ss_session_id": "123",
        "ss_training_comment": "by a test",
        "ss_clip_skip": "None",
        "tilewright.dataset": "harbour@3",
        "format": "pt",
    }
    assert {key: found.get(key) for key in expected} == expected
    assert json.loads(found["ss_tag_frequency"]) == {"harbour": {"boat": 4}}
    assert json.loads(found["ss_dataset_dirs"]) == {"harbour": {"n_repeats": 2, "img_count": 5}}
    assert json.loads(found["ss_bucket_info"])["buckets"] == {
        "0": {"resolution": [448, 576], "count": 2},
        "1": {"resolution": [512, 512], "count": 3},
    }
    content = path.read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    assert found["sshs_model_hash"] == hashlib.sha256(data).hexdigest()
    assert found["modelspec.hash_sha256"] == f"0x{found['sshs_model_hash']}"
    assert re.fullmatch("[0-9a-f]{8}", found["sshs_legacy_hash"])
    assert str(tiny_models["sd2"].parent) not in json.dumps(found), "a path of this machine"


def test_kohyas_keys_are_all_there(tiny_models: TinyModels) -> None:
    """peers.md, section 5, less what only kohya's own code has: its commit and file hashes."""
    source = source_of(tiny_models["sd15"], "sd15")
    metadata = build_metadata(FAMILIES["sd15"], source, FACTS, LORA)
    names = """base_model_version sd_model_name v2 clip_skip network_module network_dim
    network_alpha network_args resolution enable_bucket bucket_info tag_frequency dataset_dirs
    num_train_images num_reg_images num_batches_per_epoch num_epochs epoch steps max_train_steps
    learning_rate unet_lr text_encoder_lr optimizer lr_scheduler seed mixed_precision
    training_started_at training_finished_at output_name training_comment session_id"""
    assert {f"ss_{name}" for name in names.split()} <= metadata.keys()
    assert all(isinstance(value, str) for value in metadata.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_an_architecture(tiny_models: TinyModels, name: str) -> None:
    source = source_of(tiny_models[name], name)
    metadata = build_metadata(FAMILIES[name], source, FACTS, FULL)
    flow = FAMILIES[name].objective == "flow"
    assert (metadata["modelspec.prediction_type"] == "flow") == flow
    assert metadata["modelspec.architecture"] in FAMILIES[name].architectures.values()
    assert "ss_network_module" not in metadata


def test_how_adapters_are_told(tiny_models: TinyModels) -> None:
    source = source_of(tiny_models["sdxl"], "sdxl")
    lokr = build_metadata(FAMILIES["sdxl"], source, FACTS, LOKR)
    assert lokr["ss_network_module"] == "lycoris.kohya"
    assert json.loads(lokr["ss_network_args"]) == {"algo": "lokr"}
    dora = build_metadata(FAMILIES["sdxl"], source, FACTS, DORA)
    assert json.loads(dora["ss_network_args"]) == {"dora_wd": True}
    assert dora["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert dora["modelspec.implementation"].endswith("/generative-models")


def test_tags_are_counted_once_a_prompt() -> None:
    assert count_tags(["boat, sea", " sea ,, boat, sea", ""]) == {"boat": 2, "sea": 2}
