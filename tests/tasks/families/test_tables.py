import pickle
import subprocess
import sys

import pytest
import torch

from tasks.families import FAMILIES, get_family
from tasks.families.base import Family


def test_names_are_keys() -> None:
    assert [family.name for family in FAMILIES.values()] == list(FAMILIES)
    assert list(FAMILIES)[:5] == ["sd15", "sd2", "sdxl", "sd3", "sd35"]


def test_unknown_family_lists_choices() -> None:
    with pytest.raises(ValueError, match=r"'sd16'.*sd15, sd15_inpaint, sd2, sd3, sd35, sdxl"):
        get_family("sd16")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_records_are_complete_and_travel_to_other_processes(family: Family) -> None:
    assert pickle.loads(pickle.dumps(family)) == family
    assert set(family.architectures) == set(family.base_model_versions)
    assert (family.objective == "flow") == (set(family.architectures) == {"flow"})
    if family.single_file_prefixes:
        assert family.denoiser in family.single_file_prefixes
    for number, encoder in enumerate(family.text_encoders, start=1):
        assert encoder.name == f"text_encoder_{number}"
        assert encoder.mask is None or encoder.mask in encoder.fields


def test_sdxl_refuses_missing_sizes() -> None:
    texts = {
        "text_encoder_1": {"hidden": torch.zeros(1, 77, 32)},
        "text_encoder_2": {"hidden": torch.zeros(1, 77, 48), "pooled": torch.zeros(1, 48)},
    }
    with pytest.raises(ValueError, match=r"shape \(B, 6\).*got None"):
        FAMILIES["sdxl"].condition(texts, None)
    with pytest.raises(ValueError, match=r"got \(1, 4\)"):
        FAMILIES["sdxl"].condition(texts, torch.zeros(1, 4))


def test_planning_imports_stay_light() -> None:
    code = (
        "import sys, tasks.families, tasks.families.loading, tasks.sample.draw, "
        "tasks.train.formats, deployments.demo.build_model\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
