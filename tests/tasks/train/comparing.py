"""Comparing what two trainings left."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tasks.train.backup import read_facts


def assert_equal_backups(first: Path, second: Path) -> None:
    files = read_facts(first)["files"]
    assert files.keys() == read_facts(second)["files"].keys()
    for name in files:
        if name.endswith(".safetensors"):
            left, right = load_file(first / name), load_file(second / name)
            assert left.keys() == right.keys()
            assert all(torch.equal(left[key], right[key]) for key in left), name
        else:
            assert (first / name).read_bytes() == (second / name).read_bytes()
    ignored = ("files", "run_id")
    left, right = read_facts(first), read_facts(second)
    assert {k: v for k, v in left.items() if k not in ignored} == {
        k: v for k, v in right.items() if k not in ignored
    }
