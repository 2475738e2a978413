import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flows.onetrainer_import import import_onetrainer
from tasks.config.problems import ConfigError
from tests.tasks.onetrainer.onetrainer_files import SD15_LORA, OneTrainer, concept

ROOT = Path(__file__).parents[2]


@pytest.fixture
def onetrainer(tmp_path: Path) -> OneTrainer:
    (tmp_path / "onetrainer").mkdir()
    return OneTrainer(tmp_path / "onetrainer")


@pytest.fixture
def preset(onetrainer: OneTrainer) -> Path:
    config = {**SD15_LORA, "force_circular_padding": True}
    return onetrainer.preset(config, [concept(name="boats", path="data/boats")])


def tilewright(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TILEWRIGHT_HOME": str(folder / "home")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_the_command_writes_a_file_and_says_what_it_could_not_hold(
    tmp_path: Path, preset: Path
) -> None:
    done = tilewright("import-onetrainer", preset, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["config"] == str(tmp_path / "run.toml")
    assert summary["mapped"] > 8
    assert all(one.keys() == {"key", "value", "why"} for one in summary["not_mapped"])
    told = {one["key"]: one for one in summary["not_mapped"]}
    assert told["force_circular_padding"]["value"] is True
    assert told["force_circular_padding"]["why"].startswith("not yet: ")
    written = tomllib.loads((tmp_path / "run.toml").read_text())
    assert written["concepts"] == [{"name": "boats", "path": "onetrainer/data/boats"}]


def test_people_get_the_counts_and_the_next_step(tmp_path: Path, preset: Path) -> None:
    done = tilewright("import-onetrainer", preset, "-o", "boats.toml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "settings taken over into" in done.stderr
    assert "for a later version" in done.stderr
    assert f"next: tilewright plan {tmp_path / 'boats.toml'}" in done.stderr


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, preset: Path) -> None:
    (tmp_path / "run.toml").write_text("mine")
    done = tilewright("import-onetrainer", preset, "--json", folder=tmp_path)
    assert done.returncode == 2
    assert "never overwritten; name another" in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 2
    assert (tmp_path / "run.toml").read_text() == "mine"


def test_bad_input_writes_nothing_and_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "photos.json").write_text('{"width": 3}')
    done = tilewright("import-onetrainer", "photos.json", folder=tmp_path)
    assert done.returncode == 2
    assert "photos.json" in done.stderr
    assert "neither a configuration (model_type, training_method, ...)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run.toml").exists()


def test_nothing_is_left_behind_and_the_file_is_readable_by_others(
    tmp_path: Path, preset: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    import_onetrainer(str(preset), str(out / "run.toml"), None)
    assert [path.name for path in out.iterdir()] == ["run.toml"]
    mask = os.umask(0o077)
    os.umask(mask)
    assert (out / "run.toml").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_dead_link_is_not_written_through(tmp_path: Path, preset: Path) -> None:
    (tmp_path / "run.toml").symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(ConfigError, match="never overwritten"):
        import_onetrainer(str(preset), str(tmp_path / "run.toml"), None)
    assert not (tmp_path / "elsewhere.toml").exists()


@pytest.mark.parametrize(
    ("output", "why"),
    [("nowhere/run.toml", "make it first"), ("run.json", "must end with .toml")],
)
def test_an_output_that_cannot_be(tmp_path: Path, preset: Path, output: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        import_onetrainer(str(preset), str(tmp_path / output), None)


def test_infinity_is_text_in_the_answer(tmp_path: Path, onetrainer: OneTrainer) -> None:
    config = {**SD15_LORA, "of_another_version": float("inf")}
    summary = import_onetrainer(
        str(onetrainer.preset(config, [concept()])), str(tmp_path / "run.toml"), None
    )
    text = json.dumps(summary, allow_nan=False)
    assert '"value": "inf"' in text
