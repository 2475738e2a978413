"""Session-wide tiny models; use with `pytest_plugins` or by importing the fixtures' builder."""

import os
from pathlib import Path

import pytest

# Without these the hub is asked for a minute, and two cores fight over tiny matrices.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


class TinyModels:
    """Builds each tiny model once, on first use: `tiny_models["sdxl"]` is a diffusers folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, family: str) -> Path:
        from tests.tiny import build_tiny

        folder = self.root / family
        return folder if folder.is_dir() else build_tiny(family, folder)

    def single_file(self, family: str, suffix: str) -> Path:
        """The same model as one file in the original layout."""
        from tests.tiny import single_file

        out = self.root / f"{family}{suffix}"
        return out if out.is_file() else single_file(self[family], out)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Never write into these folders; copy them first."""
    return TinyModels(tmp_path_factory.mktemp("tiny-models"))
