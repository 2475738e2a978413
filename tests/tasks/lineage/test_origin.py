"""What files and folders say of their run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tasks.lineage.origin import is_ours, is_run_folder, origin_of, workspaces_near

OURS = {"tilewright.run_id": "run", "tilewright.lineage": "ab"}


def model_file(path: Path, metadata: dict[str, str] | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    return path


def test_models_of_every_kind_name_their_run(tmp_path: Path) -> None:
    file = model_file(tmp_path / "lora.safetensors", OURS)
    assert origin_of(file).run_id == "run" and origin_of(file).lineage == "ab"
    assert is_ours(file)
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "tilewright.json").write_text(json.dumps(OURS))
    assert origin_of(whole).lineage == "ab"
    model_file(tmp_path / "words" / "word.safetensors", OURS)
    assert origin_of(tmp_path / "words").run_id == "run"
    backup = tmp_path / "00000002"
    backup.mkdir()
    (backup / "backup.json").write_text('{"run_id": "run"}')
    assert origin_of(backup).run_id == "run" and origin_of(backup).lineage is None


def test_what_says_nothing_is_told(tmp_path: Path) -> None:
    foreign = model_file(tmp_path / "foreign.safetensors", {"ss_steps": "1"})
    bare = model_file(tmp_path / "bare.safetensors", None)
    for model in (foreign, bare, tmp_path):
        if model.is_file():
            assert not is_ours(model)
            with pytest.raises(ValueError, match="does not say which run made it"):
                origin_of(model)
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "backup.json").write_text('{"family": "sd15"}')
    for folder in ("empty", "old"):
        with pytest.raises(ValueError, match="does not say which run made it"):
            origin_of(tmp_path / folder)
    for content in (b"", b"text that is no model", (9).to_bytes(8, "little") + b"not JSON!"):
        (tmp_path / "text").write_bytes(content)
        assert not is_ours(tmp_path / "text")
        with pytest.raises(ValueError, match="no safetensors file"):
            origin_of(tmp_path / "text")
    (tmp_path / "old" / "tilewright.json").write_text("{")
    with pytest.raises(ValueError, match="damaged tilewright.json"):
        origin_of(tmp_path / "old")


def test_the_workspace_of_a_run_is_around_a_model_or_beside_it(tmp_path: Path) -> None:
    workspace = tmp_path / "store" / "runs" / "run"
    (workspace / "output").mkdir(parents=True)
    (workspace / "run.json").write_text("{}")
    places = (workspace / "output" / "a", tmp_path / "a", tmp_path / "models" / "lora" / "a")
    for model in places:
        model.parent.mkdir(parents=True, exist_ok=True)
        model.touch()
        assert workspace in list(filter(is_run_folder, workspaces_near(model, "run")))
        assert not list(filter(is_run_folder, workspaces_near(model, "another")))
