import json
from collections.abc import Callable
from pathlib import Path

import pytest

RUN = """
extends = "sd15-lora"
[model]
base = "model"
[[concepts]]
path = "photos"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what a config needs: photos, a model that says what it is."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "model").mkdir()
    index = {"_class_name": "StableDiffusionPipeline"}
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(index))
    return tmp_path


@pytest.fixture
def write(project: Path) -> Callable[..., Path]:
    """Writes a config file; by default the smallest valid one plus some lines."""

    def write(extra: str = "", *, name: str = "run.toml", text: str = RUN) -> Path:
        file = project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + extra)
        return file

    return write
