import pickle
import shutil
from dataclasses import replace

import pytest
import torch

from storage.store import open_store
from tasks.train.backup import (
    find_damage,
    keep_newest,
    list_backups,
    newest_backup,
)
from tasks.train.mirror import fetch_newest_backup, mirror
from tasks.train.optimizer_state import flatten_state, unflatten_state


@pytest.fixture
def trained(bench):
    spec = bench.spec(max_steps=3, backup={"every": 1, "keep": 3})
    assert bench.train(spec) == "done"
    return spec


def test_a_damaged_or_half_written_backup_is_passed_over(trained):
    folder = trained.backups
    assert newest_backup(folder).name == "00000003"
    newest = folder / "00000003" / "denoiser.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    (folder / "00000002" / "backup.json").write_text("{")
    (folder / "00000009").mkdir()
    (folder / ".writing-00000010-1").mkdir()
    told = []
    assert newest_backup(folder, told.append).name == "00000001"
    assert "denoiser.safetensors is not as it was written" in " ".join(told)
    assert len(told) == 3


def test_only_complete_old_backups_of_ours_are_deleted(trained):
    folder = trained.backups
    mine = folder / "00000001" / "notes.txt"
    mine.write_text("mine")
    (folder / "00000000").mkdir()
    (folder / "00000000" / "precious").write_text("not ours")
    (folder / "other").mkdir()
    (folder / ".writing-00000002-77").mkdir()
    keep_newest(folder, 1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "00000000",
        "00000001",
        "00000003",
        "other",
    ]
    assert list(mine.parent.iterdir()) == [mine]
    assert find_damage(folder / "00000003") is None


def test_keep_last(bench):
    spec = bench.spec(max_steps=4, backup={"every": 1, "keep": 2})
    bench.train(spec)
    assert [path.name for path in list_backups(spec.backups)] == ["00000003", "00000004"]


def test_a_backup_holds_no_pickle(trained):
    for path in (trained.backups / "00000003").iterdir():
        assert path.suffix in (".json", ".safetensors")
        with pytest.raises((pickle.UnpicklingError, ValueError, KeyError, IndexError, EOFError)):
            pickle.loads(path.read_bytes())


def test_an_optimizer_state_survives_the_way_through_tensors_and_values():
    parameter = torch.nn.Parameter(torch.randn(3, 2))
    for optimizer in (
        torch.optim.AdamW([parameter], lr=0.1, amsgrad=True),
        torch.optim.SGD([parameter], lr=0.1, momentum=0.9),
        torch.optim.Adagrad([parameter]),
    ):
        parameter.square().sum().backward()
        optimizer.step()
        state = optimizer.state_dict()
        values, tensors = flatten_state(state)
        back = unflatten_state(values, tensors)
        assert back["state"].keys() == state["state"].keys()
        for name, value in state["state"][0].items():
            assert torch.equal(torch.as_tensor(back["state"][0][name]), torch.as_tensor(value))
        optimizer.load_state_dict(back)


def test_a_backup_is_a_base_model(bench, trained):
    from tasks.families import get_family
    from tasks.families.loading import resolve_model

    backup = trained.backups / "00000003"
    source = resolve_model(str(backup), get_family("sd15"), None)
    assert source.kind == "backup"
    config = trained.config.model_copy(
        update={"model": trained.config.model.model_copy(update={"base": str(backup)})}
    )
    again = replace(trained, config=config, workspace=bench.folder / "runs" / "again")
    assert bench.train(again) == "done"


def test_a_workspace_is_mirrored_and_fetched_back(trained, s3_url, tmp_path):
    store = open_store(s3_url)
    mirror(store, "run", trained.workspace)
    files = store.list("runs/run")
    assert "runs/run/events.jsonl" in files
    assert "runs/run/backups/00000003/backup.json" in files
    assert not [name for name in files if "/." in name]

    shutil.rmtree(trained.backups / "00000001")
    with (trained.workspace / "events.jsonl").open("a") as log:
        log.write("{}\n")
    mirror(store, "run", trained.workspace)
    files = store.list("runs/run")
    assert not [name for name in files if name.startswith("runs/run/backups/00000001/")]
    assert files["runs/run/events.jsonl"] == (trained.workspace / "events.jsonl").stat().st_size

    elsewhere = tmp_path / "elsewhere"
    backup = fetch_newest_backup(store, "run", elsewhere)
    assert backup.name == "00000003"
    assert find_damage(backup) is None
    assert fetch_newest_backup(store, "nothing", elsewhere) is None


def test_a_half_mirrored_backup_is_not_fetched(trained, s3_url, tmp_path):
    store = open_store(s3_url)
    mirror(store, "run", trained.workspace)
    store.delete("runs/run/backups/00000003/backup.json")
    assert fetch_newest_backup(store, "run", tmp_path / "elsewhere").name == "00000002"
    mirror(store, "run", trained.workspace)
    assert "runs/run/backups/00000003/backup.json" in store.list("runs/run")
