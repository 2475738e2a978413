"""Which run a command goes on with, and where its model ends up."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from storage.store import open_store
from storage.versions import Version
from tasks.config.models import Config
from tasks.train.events import write_status
from tasks.train.mirror import mirror
from tasks.train.runs import choose_run, export_output, is_finished, resumed_run, run_key

VERSION = Version("data", 3, "uri", "digest-a", 5, {})
OTHER = Version("data", 4, "uri", "digest-b", 6, {})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {
            "store": {"url": str(tmp_path / "store")},
            "model": {
                "family": "sd15",
                "base": "model",
                "output": str(tmp_path / "out.safetensors"),
            },
            "concepts": [],
        }
    )


def finished(workspace: Path, value: float = 0.0) -> Path:
    made = workspace / "output" / "out.safetensors"
    made.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"weight": np.full(3, value, np.float32)}
    save_file(tensors, made, metadata={"tilewright.run_id": workspace.name})
    write_status(workspace, "done", step=4, epoch=1, outputs=[str(made)])
    return made


def value_of(path: Path) -> float:
    return float(load_file(path)["weight"][0])


def ended(workspace: Path, state: str, **facts: object) -> None:
    write_status(workspace, state, step=2, epoch=0, **facts)  # type: ignore[arg-type]


def test_a_crashed_run_is_gone_on_with(config: Config) -> None:
    first = choose_run(config, VERSION, reuse="crashed")
    ended(first, "running", pid=2**22 + 1, create_time=1.0)
    assert choose_run(config, VERSION, reuse="crashed") == first
    ended(first, "interrupted")
    assert choose_run(config, VERSION, reuse="any") == first


def test_a_run_that_still_trains_is_left_alone(config: Config) -> None:
    first = choose_run(config, VERSION, reuse="any")
    me = psutil.Process(os.getpid())
    ended(first, "running", pid=me.pid, create_time=me.create_time())
    assert choose_run(config, VERSION, reuse="any") != first


def test_a_finished_run_counts_for_run_but_not_for_train(config: Config) -> None:
    first = choose_run(config, VERSION, reuse="any")
    made = finished(first)
    assert is_finished(first)
    assert choose_run(config, VERSION, reuse="any") == first
    assert choose_run(config, VERSION, reuse="crashed") != first
    made.unlink()
    assert not is_finished(first)


def test_a_hopeless_run_is_not_started_again(config: Config) -> None:
    first = choose_run(config, VERSION, reuse="any")
    ended(first, "failed", resumable=False)
    assert choose_run(config, VERSION, reuse="any") != first


@pytest.mark.parametrize("change", [{"learning_rate": 0.5}, {"seed": 1}, {"max_steps": 9}])
def test_other_settings_are_another_run(config: Config, change: dict[str, object]) -> None:
    other = config.model_copy(update={"train": config.train.model_copy(update=change)})
    assert run_key(config, VERSION) != run_key(other, VERSION)


def test_a_file_to_go_on_from_counts_by_its_content(config: Config, tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    method = config.train.method.model_copy(update={"initial": str(file)})
    train = config.train.model_copy(update={"method": method})
    config = config.model_copy(update={"train": train})
    keys = set()
    for content in (b"one", b"two"):
        file.write_bytes(content)
        keys.add(run_key(config, VERSION))
    assert len(keys) == 2


def test_data_counts_by_content_and_the_output_name_not_at_all(config: Config) -> None:
    renamed = config.model_copy(
        update={"model": config.model.model_copy(update={"output": "x.safetensors"})}
    )
    assert run_key(config, VERSION) == run_key(renamed, VERSION)
    assert run_key(config, VERSION) != run_key(config, OTHER)


def test_a_named_run_must_exist_and_have_the_same_data_unless_asked(config: Config) -> None:
    first = choose_run(config, VERSION, reuse="never")
    assert resumed_run(config, VERSION, first.name, new_data=False) == first
    with pytest.raises(ValueError, match=rf"no run 'no-such-run'.*{first.name}"):
        resumed_run(config, VERSION, "no-such-run", new_data=True)
    with pytest.raises(ValueError, match=r"other content.*--new-data"):
        resumed_run(config, OTHER, first.name, new_data=False)
    assert resumed_run(config, OTHER, first.name, new_data=True) == first
    assert resumed_run(config, OTHER, first.name, new_data=False) == first


def test_the_model_is_copied_to_where_it_was_asked_for(config: Config, tmp_path: Path) -> None:
    workspace = choose_run(config, VERSION, reuse="never")
    finished(workspace, 1.0)
    wanted = tmp_path / "out.safetensors"
    assert export_output(workspace, wanted) == [wanted]
    assert value_of(wanted) == 1.0
    later = choose_run(config, VERSION, reuse="never")
    finished(later, 2.0)
    assert export_output(later, wanted) == [wanted], "an earlier model of ours is replaced"
    assert value_of(wanted) == 2.0


def test_a_finished_model_can_be_wanted_under_another_name(config: Config, tmp_path: Path) -> None:
    workspace = choose_run(config, VERSION, reuse="never")
    finished(workspace, 1.0)
    assert value_of(*export_output(workspace, tmp_path / "other.safetensors")) == 1.0


def test_a_file_that_is_not_ours_is_never_overwritten(config: Config, tmp_path: Path) -> None:
    workspace = choose_run(config, VERSION, reuse="never")
    finished(workspace, 1.0)
    wanted = tmp_path / "out.safetensors"
    wanted.write_bytes(b"the only copy of my favourite LoRA")
    (written,) = export_output(workspace, wanted)
    assert written == tmp_path / f"out-{workspace.name}.safetensors"
    assert wanted.read_bytes() == b"the only copy of my favourite LoRA"
    assert value_of(written) == 1.0


def test_a_model_folder_is_exported_whole(config: Config, tmp_path: Path) -> None:
    workspace = choose_run(config, VERSION, reuse="never")
    made = workspace / "output" / "model"
    made.mkdir(parents=True)
    for name in ("model_index.json", "tilewright.json"):
        (made / name).write_text(json.dumps({"a": 1}))
    for _ in range(2):
        assert export_output(workspace, tmp_path / "model") == [tmp_path / "model"]
    assert (tmp_path / "model/model_index.json").exists()


@pytest.fixture
def on_s3(config: Config, s3_url: str, tmp_path: Path) -> Config:
    """A run of another machine is one whose folder is not on this one."""
    update = {"store": {"url": s3_url}, "workspace": str(tmp_path / "runs")}
    return Config.model_validate(config.model_dump() | update)


def elsewhere(config: Config, state: str) -> str:
    """A run that another machine has mirrored to the store."""
    store, workspace = open_store(config.store.url), choose_run(config, VERSION, reuse="never")
    (workspace / "events.jsonl").write_text("{}\n")
    ended(workspace, state)
    mirror(store, workspace.name, workspace)
    shutil.rmtree(workspace)
    return workspace.name


def test_a_run_that_another_machine_did_not_finish_is_gone_on_with(on_s3: Config) -> None:
    run = elsewhere(on_s3, "interrupted")
    workspace = choose_run(on_s3, VERSION, reuse="crashed")
    assert workspace.name == run
    assert (workspace / "events.jsonl").read_text() == "{}\n"
    assert choose_run(on_s3, OTHER, reuse="crashed").name != run


def test_a_run_that_may_be_at_work_elsewhere_is_gone_on_with_only_by_name(
    on_s3: Config, caplog: pytest.LogCaptureFixture
) -> None:
    run = elsewhere(on_s3, "running")
    assert choose_run(on_s3, VERSION, reuse="crashed").name != run
    assert f"--resume {run}" in caplog.text
    with pytest.raises(ValueError, match="other content"):
        resumed_run(on_s3, OTHER, run, new_data=False)
    assert resumed_run(on_s3, VERSION, run, new_data=False).name == run


def test_a_run_that_was_stopped_elsewhere_is_left_alone_by_train(on_s3: Config) -> None:
    run = elsewhere(on_s3, "stopped")
    assert choose_run(on_s3, VERSION, reuse="crashed").name != run
    shutil.rmtree(on_s3.workspace)
    assert choose_run(on_s3, VERSION, reuse="any").name == run


def test_what_another_machine_has_added_is_never_lost(on_s3: Config, tmp_path: Path) -> None:
    """This machine's folder is older than the copy in the store."""
    store, workspace = open_store(on_s3.store.url), choose_run(on_s3, VERSION, reuse="never")
    ended(workspace, "interrupted")
    mirror(store, workspace.name, workspace)
    assert choose_run(on_s3, VERSION, reuse="crashed") == workspace
    other = tmp_path / "other" / workspace.name
    shutil.copytree(workspace, other)
    write_status(other, "done", step=9, epoch=1, outputs=[])
    mirror(store, workspace.name, other)
    with pytest.raises(ValueError, match="at step 2 in .*, and at step 9 in the store"):
        choose_run(on_s3, VERSION, reuse="crashed")
    with pytest.raises(ValueError, match="another machine went on"):
        resumed_run(on_s3, VERSION, workspace.name, new_data=False)
    workspace.rename(tmp_path / "aside")
    assert choose_run(on_s3, VERSION, reuse="any") == workspace
