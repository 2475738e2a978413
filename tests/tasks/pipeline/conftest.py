import shutil
from pathlib import Path

import pytest

from tests.model_fixtures import TinyModels
from tests.projects import Project, make_project
from tests.tasks.pipeline.augmenting import NO_TILES, PHOTOS
from tests.tasks.pipeline.prompt_rows import WRITTEN


@pytest.fixture(scope="module")
def tagged_once(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    """Three photos, of which the third lies in a subfolder; 13 samples each."""
    project = make_project(
        tmp_path_factory.mktemp("prompts") / "project", tiny_models["sd15"], num_photos=0
    )
    text = project.run_toml.read_text()
    project.run_toml.write_text(
        text.replace('path = "photos"', 'path = "photos"\ninclude_subdirectories = true')
    )
    for number, prompt in enumerate(WRITTEN):
        project.add_photo(f"photo{number}", number, prompt)
    (project.photos / "sub").mkdir()
    for suffix in (".jpg", ".txt"):
        (project.photos / f"photo2{suffix}").rename(project.photos / f"sub/photo2{suffix}")
    project.prepare()
    return project


@pytest.fixture
def tagged(tagged_once: Project, tmp_path: Path) -> Project:
    """A prepared project of its own, with its store."""
    shutil.copytree(tagged_once.folder, tmp_path / "project")
    copied = Project(tmp_path / "project")
    copied.prepare()
    return copied


@pytest.fixture(scope="session")
def plain_once(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Project:
    """Photos whose full images are encoded without augmentation."""
    folder = tmp_path_factory.mktemp("plain") / "project"
    project = make_project(folder, tiny_models["sd15"], num_photos=PHOTOS)
    project.prepare(NO_TILES)
    return project


@pytest.fixture
def plain(plain_once: Project, tmp_path: Path) -> Project:
    """A prepared project of its own, with its store."""
    shutil.copytree(plain_once.folder, tmp_path / "project")
    copied = Project(tmp_path / "project")
    copied.prepare(NO_TILES)
    return copied
