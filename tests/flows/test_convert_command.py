import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[2]


def tilewright(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TILEWRIGHT_HOME": str(folder / "home")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture
def word(tmp_path: Path) -> Path:
    path = tmp_path / "boat.safetensors"
    save_file({"emb_params": torch.ones(2, 8)}, path)
    return path


def test_convert(tmp_path: Path, word: Path) -> None:
    options = ("--to", "embedding", "--dtype", "float16", "--json")
    done = tilewright("convert", word.name, "half.safetensors", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "path": "half.safetensors",
        "from": "embedding",
        "to": "embedding",
        "dtype": "float16",
    }
    assert load_file(tmp_path / "half.safetensors")["emb_params"].dtype == torch.float16
    # Once more: it is there already, and stays as it is.
    again = tilewright("convert", word.name, "half.safetensors", *options, folder=tmp_path)
    assert again.returncode == 2
    assert "never overwritten" in json.loads(again.stdout)["error"]
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_file()) == [
        ".safetensors",
        ".safetensors",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("x.safetensors", "--to", "gguf"), "--to = gguf must be one of diffusers, single_file"),
        (
            ("x.safetensors", "--to", "embedding", "--dtype", "int8"),
            "--dtype = int8 must be one of",
        ),
        (("x", "--to", "embedding"), "must end with .safetensors for --to embedding"),
        (("x.safetensors", "--to", "diffusers"), "must be a folder without suffix"),
        (
            ("x.safetensors", "--to", "kohya_lora"),
            "is a word of textual inversion; --to kohya_lora cannot be made of it, but embedding",
        ),
    ],
)
def test_bad_input_ends_with_two_and_says_why(
    tmp_path: Path, word: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = tilewright("convert", word.name, *arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in " ".join(done.stderr.split())
