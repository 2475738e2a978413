"""docs/invalidation.md says truly, for every setting, which stages a change of it invalidates."""

from pathlib import Path

import pytest

from tasks.config.loading import load_config
from tasks.config.models import Config
from tasks.config.schema import all_keys
from tests.caption_server import DIGEST, CaptionServer
from tests.model_fixtures import TinyModels
from tests.projects import Project
from tests.tasks.pipeline import settings_effects as effects
from tests.tiny import build_tiny

DOCUMENT = Path(__file__).parents[3] / "docs" / "invalidation.md"
MARK = "<!-- generated: pytest tests/tasks/pipeline/test_settings_effects.py --golden=write -->\n"


def leaves() -> set[str]:
    """All settings that are no tables; those of the many optimizers count as one."""
    keys = [key for key in dict.fromkeys(all_keys()) if not key.startswith("train.optimizer.")]
    return {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)}


def test_every_setting_is_in_the_table_or_says_why_not() -> None:
    assert set(effects.CHANGES) | set(effects.NOT_MEASURED) == leaves()
    assert not set(effects.CHANGES) & set(effects.NOT_MEASURED)


def test_the_table_is_what_a_plan_says(
    tmp_path: Path, tiny_models: TinyModels, request: pytest.FixtureRequest
) -> None:
    models = {name: tiny_models[name] for name in ("sd15", "sd2")}
    models["other"] = build_tiny("sd15", tmp_path / "other-model", seed=1)
    with CaptionServer({"tiny:latest": DIGEST, "other:latest": DIGEST}) as server:
        project = effects.make_base(tmp_path / "project", models, server.url)
        project.prepare()
        before = effects.effect(project.config())
        assert all(counts.computed == 0 for counts in before.stages.values())
        lines = [
            effects.row(key, before, effects.effect(_config(project, key, models)))
            for key in effects.CHANGES
        ]
    table = "\n".join([_head(), *lines, "", *_not_measured()]) + "\n"
    kept, _, found = DOCUMENT.read_text().partition(MARK)
    if request.config.getoption("--golden") == "write":
        DOCUMENT.write_text(kept + MARK + table)
    else:
        assert found == table, "the table is out of date: run this test with --golden=write"


def _config(project: Project, key: str, models: dict[str, Path]) -> Config:
    return load_config(project.run_toml, effects.overrides(key, project, models))


def _head() -> str:
    names = [*effects.STAGE_NAMES, "training again"]
    return f"| setting | {' | '.join(names)} |\n|---|{'---|' * len(names)}"


def _not_measured() -> list[str]:
    return [f"- `{key}`: {why}." for key, why in effects.NOT_MEASURED.items()]
