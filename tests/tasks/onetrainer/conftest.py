from pathlib import Path

import pytest

from tests.tasks.onetrainer.onetrainer_files import OneTrainer


@pytest.fixture
def onetrainer(tmp_path: Path) -> OneTrainer:
    """An empty OneTrainer folder."""
    return OneTrainer(tmp_path)
