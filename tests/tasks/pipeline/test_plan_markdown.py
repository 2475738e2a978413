"""A plan as an artifact shows it."""

from pathlib import Path

from tasks.pipeline.plan_markdown import plan_markdown
from tests.model_fixtures import TinyModels
from tests.projects import make_project


def test_a_plan_tells_what_would_work_and_why(tmp_path: Path, tiny_models: TinyModels) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=2)
    before = plan_markdown(project.plan())
    assert "Would work: scan, prompts, crops, text, latents" in before
    assert "at most: " in before
    project.prepare()
    assert "Nothing would be computed." in plan_markdown(project.plan())
    project.photos.joinpath("photo0.txt").write_text("another | prompt")
    after = plan_markdown(project.plan())
    assert "Would work: prompts, text" in after
    (row,) = [line for line in after.splitlines() if line.startswith("| prompts |")]
    assert "1 the prompt" in row
