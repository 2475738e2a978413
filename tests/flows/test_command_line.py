import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from storage.records import DATASET
from storage.store import open_store
from storage.versions import commit_version

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_HOME", str(tmp_path / "home"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "boat.jpg").touch()
    (tmp_path / "model").mkdir()
    index = tmp_path / "model" / "model_index.json"
    index.write_text('{"_class_name": "StableDiffusionPipeline"}')
    file = tmp_path / "run.toml"
    file.write_text('extends = "demo"\n[data]\nname = "boats"\n')
    return file


def tilewright(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
    command = [sys.executable, "-m", "flows", *map(str, arguments)]
    everything = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True)


def python(code: str, *arguments: str | Path) -> Done:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def dataset(store_url: Path, name: str = "boats") -> None:
    row = {
        **{key: bytes(range(16)) for key in ("row_id", "sample_id", "source_id", "view_id")},
        "concept": "boats",
        "path": "a/b.jpg",
        "kind": "detail",
        "scale": 1.1,
        "phase": None,
        "left": 1,
        "top": 2,
        "width": 64,
        "height": 64,
        "resized_width": 200,
        "resized_height": 100,
        "bucket_width": 64,
        "bucket_height": 64,
        "variation": 0,
        "original_width": 4000,
        "original_height": 2000,
        "crop_left": 1,
        "crop_top": 2,
        "resolution_index": 0,
        "split": "train",
        "prompts": ["a boat"],
        "context": "a boat",
        "prompt_origin": "sidecar",
        "loss_weight": 0.3,
        "repeats": 1.0,
        "luma_std": 0.1,
        "edge_share": 0.2,
        "latent_stage": "stages/latents/aa",
        "latent_shard": "u1",
        "latent_offset": 8,
        "latent_nbytes": 16,
        "latent_layout": "[]",
        "latent_xxh3": 1,
    }
    text = {"prompt": 0, "encoder": "text_encoder_1", "stage": "stages/text/bb", "shard": "u2"}
    row["texts"] = [{**text, "offset": 0, "nbytes": 4, "layout": "[]", "xxh3": 2}]
    table = pa.Table.from_pylist([row], DATASET)
    commit_version(open_store(str(store_url)), name, table, stages={}, config={}, extra={})


SHOWN: dict[str, Any] = {
    **{key: bytes(range(16)).hex() for key in ("row_id", "sample_id", "source_id")},
    "path": "a/b.jpg",
    "concept": "boats",
    "kind": "detail",
    "scale": 1.1,
    "rect": [1, 2, 64, 64],
    "resized": [200, 100],
    "bucket": [64, 64],
    "epoch": None,
    "variation": 0,
    "prompts": ["a boat"],
    "prompt_origin": "sidecar",
    "context": "a boat",
    "loss_weight": 0.3,
    "repeats": 1.0,
    "latent": {"shard": "stages/latents/aa/shards/u1.safetensors", "offset": 8, "nbytes": 16},
    "text": [
        {"prompt": 0, "encoder": "text_encoder_1"}
        | {"shard": "stages/text/bb/shards/u2.safetensors", "offset": 0, "nbytes": 4}
    ],
    "split": "train",
    "augmentation": {},
    "samples_per_epoch": None,
    "tiles_per_epoch": None,
    "mask": None,
}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("train.epochz=3", "did you mean train.epochs?"),
        ("train.epochs=many", "must be a whole number"),
        ("concepts.0.path=/nowhere/photos", "there is no such folder"),
        ("data.resolution=100", "nearest: 96 or 104"),
        ("model.family=sd16", 'did you mean "sd15"?'),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_bad_input_ends_with_2_and_one_screen(
    config: Path, command: str, setting: str, told: str
) -> None:
    done = tilewright(command, config, "--set", setting)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 24
    assert not (config.parent / "store").exists()


def test_bad_input_is_one_json_object_too(config: Path) -> None:
    config.write_text('extends = "demoo"\n')
    done = tilewright("plan", config, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["exit_code"]) == (2, 2)
    assert 'did you mean "demo"?' in answer["error"]


def test_wrong_usage_ends_with_2() -> None:
    for arguments in (["plan"], ["plan", "a.toml", "--nope"], ["dance"]):
        assert tilewright(*arguments).returncode == 2


def test_the_environment_overrides_the_file(config: Path) -> None:
    done = tilewright("plan", config, env={"TILEWRIGHT__MODEL__FAMILY": "nonsense"})
    assert done.returncode == 2
    assert "TILEWRIGHT__MODEL__FAMILY" in done.stderr


def test_presets_are_listed_and_printed() -> None:
    listed = tilewright("presets")
    lines = listed.stdout.splitlines()
    sdxl = lines[lines.index("sdxl") + 1 :]
    assert [line.split()[0] for line in sdxl[:4]] == [
        "sdxl-embedding",
        "sdxl-full",
        "sdxl-lora",
        "sdxl-lora-8gb",
    ]
    rows = json.loads(tilewright("presets", "--json").stdout)["presets"]
    (row,) = [one for one in rows if one["name"] == "sdxl-full"]
    assert (row["family"], row["method"], row["memory_gb"], row["own"]) == (
        "sdxl",
        "full",
        24,
        False,
    )
    printed = tilewright("presets", "sdxl-lora")
    assert 'family = "sdxl"' in printed.stdout
    assert json.loads(tilewright("presets", "demo", "--json").stdout)["name"] == "demo"
    assert tilewright("presets", "sdxl-lra").returncode == 2


def test_the_version_is_told() -> None:
    assert tilewright("--version").stdout.startswith("tilewright ")


@pytest.mark.parametrize("code", ["import flows.__main__", "import tasks.pipeline.plan"])
def test_help_and_plan_import_nothing_heavy(code: str) -> None:
    heavy = {"torch", "diffusers", "transformers", "prefect", "accelerate", "peft"}
    done = python(f"import sys; {code}; print(sorted({heavy!r} & set(sys.modules)))")
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_help_is_fast() -> None:
    started = os.times()
    assert tilewright("--help").returncode == 0
    ended = os.times()
    cpu = ended.children_user - started.children_user
    assert cpu + ended.children_system - started.children_system < 2.0


@pytest.mark.parametrize("command", ["plan", "prepare", "run"])
def test_a_folder_without_images_starts_nothing(config: Path, command: str) -> None:
    (config.parent / "photos" / "boat.jpg").unlink()
    done = tilewright(command, config)
    assert (done.returncode, "holds no image" in done.stderr) == (2, True)
    (config.parent / "photos" / "inner").mkdir()
    (config.parent / "photos" / "inner" / "boat.JPG").touch()
    done = tilewright(command, config)
    assert done.returncode == 2
    assert "set include_subdirectories = true" in done.stderr
    assert not (config.parent / "store").exists()


def test_show_prints_the_contract(config: Path) -> None:
    dataset(config.parent / "store")
    for arguments in ([config], [config.parent / "store"], [config, "--dataset", "boats@1"]):
        done = tilewright("show", *arguments, "--jsonl")
        assert done.returncode == 0, done.stderr
        assert [json.loads(line) for line in done.stdout.splitlines()] == [SHOWN]
    assert list(json.loads(done.stdout)) == list(SHOWN)


def test_show_tells_people_each_sample_and_its_prompt(config: Path) -> None:
    dataset(config.parent / "store")
    done = tilewright("show", config)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a/b.jpg  detail x1.1 at 1,2 64x64  [sidecar] a boat\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["store", "--dataset", "boats@7"], "no such dataset version"),
        (["store", "--dataset", "ships"], "datasets: boats, cars"),
        (["store", "--dataset", "boats@x"], "must be NAME or NAME@NUMBER"),
        (["store"], "must name one of the store's datasets: boats, cars"),
        (["nowhere"], "there is no store"),
        (["gone.toml"], "there is no such file"),
    ],
)
def test_show_refuses_what_is_not_there(config: Path, arguments: list[str], told: str) -> None:
    for name in ("boats", "cars"):
        dataset(config.parent / "store", name)
    done = tilewright("show", config.parent / arguments[0], *arguments[1:], "--jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_training_without_a_dataset_starts_nothing(config: Path) -> None:
    done = tilewright("train", config, "--json")
    assert done.returncode == 2
    assert "there is no store" in json.loads(done.stdout)["error"]
    dataset(config.parent / "store", "cars")
    for arguments, told in (([], "no dataset 'boats' yet"), (["--dataset", "cars@7"], "cars")):
        done = tilewright("train", config, *arguments)
        assert (done.returncode, told in done.stderr) == (2, True)
    assert not (config.parent / "home" / "server.json").exists()


def test_drawing_with_what_is_no_model_starts_nothing(tmp_path: Path) -> None:
    done = tilewright("sample", tmp_path / "nowhere", "--prompt", "a boat")
    assert (done.returncode, "RUN_OR_MODEL" in done.stderr) == (2, True)
    assert tilewright("sample", tmp_path).returncode == 2  # no prompt
    assert not (tmp_path / "home" / "server.json").exists()


def test_a_failed_run_is_one_screen_and_a_log(tmp_path: Path) -> None:
    code = """
import sys
from flows.command_outcome import finish, stderr
from flows.run_log import command_log

def work(log):
    print("noise of a library")
    with command_log(log, stderr):
        raise OSError("disk full\\nand more")

finish("prepare", work, print, as_json=True)
"""
    done = python(code)
    answer = json.loads(done.stdout)
    assert not (tmp_path / "home" / "server.json").exists()
    assert (answer["error"], answer["exit_code"]) == (
        "prepare failed: OSError: disk full\nand more",
        1,
    )
    assert "Traceback" in Path(answer["log"]).read_text()
    assert "noise of a library" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130(number: int) -> None:
    code = """
import time, typer
from flows.command_outcome import finish

app = typer.Typer()

@app.command()
def wait():
    def work(log):
        print("ready", flush=True)
        time.sleep(30)
    finish("wait", work, print, as_json=False)

app()
"""
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, **pipes)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=10)
    assert (process.returncode, told) == (130, "tilewright: wait was interrupted\n")
