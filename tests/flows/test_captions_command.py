"""`tilewright captions`: out into a table and back in, through the installed command."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.pipeline.captions import captioned
from tests.caption_server import CaptionServer
from tests.captioning import TILES, Captioning, make_captioning
from tests.model_fixtures import TinyModels
from tests.projects import make_project
from tests.tasks.pipeline.exporting import Exporting, copy_exporting, make_exporting, rows_of

PROGRAM = Path(sys.executable).parent / "tilewright"
NOTHING = {"scan": 0, "prompts": 0, "crops": 0, "text": 0, "latents": 0}
EDIT = "=rigging – 'golden' in the evening"
Table = list[dict[str, str]]


@dataclass(frozen=True)
class Command:
    """Runs `tilewright` with the settings of a project."""

    folder: Path
    config: Path
    settings: Sequence[str] = ()

    def __call__(self, *words: str | Path, **env: str) -> "subprocess.CompletedProcess[str]":
        everything = {**os.environ, "TILEWRIGHT_HOME": str(self.folder / "home"), **env}
        settings = self.settings if words[0] == "captions" else ()
        options = [part for setting in settings for part in ("--set", setting)]
        command = [*map(str, (PROGRAM, *words)), *options]
        return subprocess.run(
            command, cwd=self.folder, env=everything, capture_output=True, text=True
        )

    def captions(self, what: str, *words: str | Path, **env: str) -> dict[str, Any]:
        """The object that a command prints with --json; it must be the only thing."""
        done = self("captions", what, self.config, *words, "--json", **env)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1
        return dict(json.loads(done.stdout))

    def refused(self, *words: str | Path) -> str:
        """What a command says that must end because of bad input."""
        done = self("captions", *words)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 24
        return " ".join(done.stderr.split())


def read(file: Path) -> Table:
    return list(csv.DictReader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")))


def write(file: Path, table: Table, between: str = ",") -> None:
    """As a spreadsheet would: in an order and with columns of its own."""
    with file.open("w", newline="", encoding="utf-8") as out:
        names = ["notes", *reversed(table[0])]
        writer = csv.DictWriter(out, names, delimiter=between)
        writer.writeheader()
        writer.writerows(table)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def exported_once(tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels) -> Exporting:
    return make_exporting(tmp_path_factory.mktemp("captions") / "project", tiny_models["sd15"])


@pytest.fixture
def exporting(exported_once: Exporting, tmp_path: Path) -> Exporting:
    return copy_exporting(exported_once, tmp_path / "project")


@pytest.fixture
def command(exporting: Exporting, tmp_path: Path) -> Command:
    return Command(tmp_path, exporting.project.run_toml, exporting.settings())


@pytest.fixture
def table(command: Command, tmp_path: Path) -> Path:
    """An export of every tile."""
    file = tmp_path / "captions.csv"
    told = command.captions("export", file, "--all")
    assert told == {"file": str(file), "rows": 2 * TILES, "origins": {"inherited": 2 * TILES}}
    return file


def test_a_table_and_back(exporting: Exporting, command: Command, table: Path) -> None:
    rows = read(table)
    assert all(row["caption"] == row["context"] for row in rows)
    sidecar, original = exporting.sidecars()[4], exporting.sidecars()[4].read_text()
    short = sidecar.stem.split("_")[-3]
    (mine,) = [row for row in rows if row["view_id"].startswith(short)]
    mine["caption"] = EDIT
    rows[-1]["caption"] = f"'+1\nsecond\n\n{rows[-1]['caption']}"
    write(table, rows, ";")
    counts = {"edited": 2, "withdrawn": 0, "unchanged": 2 * TILES - 2}
    assert command.captions("import", table) == {"file": str(table), **counts}

    plan = exporting.plan()
    after = exporting.prepare()
    # Three texts are new: the edit, and two of the other's three lines.
    assert after.computed() == NOTHING | {"text": 3}
    assert plan["stages"]["text"]["computed"] == 3
    assert after.counts["captions"].reused == 2
    (row,) = rows_of(after, sidecar)
    assert (row["prompts"], row["prompt_origin"]) == ([EDIT], "edited")
    assert sidecar.read_text() == f"{EDIT}\n"
    shown = command("show", command.config, "--jsonl").stdout
    edited = [
        one for one in map(json.loads, shown.splitlines()) if one["prompt_origin"] == "edited"
    ]
    assert sorted(one["prompts"] for one in edited) == [
        ["+1", "second", rows[-1]["context"]],
        [EDIT],
    ]

    before = files(exporting.project.folder / "store/stages")
    assert command.captions("import", table)["unchanged"] == 2 * TILES
    assert files(exporting.project.folder / "store/stages") == before
    assert not exporting.prepare().created

    mine["caption"] = mine["context"]
    write(table, rows)
    assert command.captions("import", table) == {
        "file": str(table),
        "edited": 0,
        "withdrawn": 1,
        "unchanged": 2 * TILES - 1,
    }
    after = exporting.prepare()
    assert after.computed() == NOTHING
    (row,) = rows_of(after, sidecar)
    assert row["prompt_origin"] == "inherited"
    assert sidecar.read_text() == original


def test_only_what_has_a_text_of_its_own_is_in_the_table(
    exporting: Exporting, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "a table.csv"
    done = command("captions", "export", command.config, file)
    assert (done.returncode, done.stdout) == (0, "")
    assert "0 captions written" in done.stderr and "--all writes every tile" in done.stderr
    exporting.sidecars()[0].write_text(EDIT)
    exporting.prepare()
    assert "is there already" in command.refused("export", command.config, file)
    assert read(file) == []
    done = command("captions", "export", command.config, file, "--force")
    assert done.returncode == 0
    assert "1 captions written to" in done.stderr and "1 edited" in done.stderr
    words = f"tilewright captions import {command.config} '{file}' --set "
    assert words in " ".join(done.stderr.split())
    (row,) = read(file)
    assert (row["caption"], row["origin"]) == (f"'{EDIT}", "edited")
    assert not list(tmp_path.glob(".*.tmp"))
    done = command("captions", "export", command.config, "-")
    assert done.returncode == 0
    assert done.stdout.encode() == file.read_bytes().replace(b"\r\n", b"\n")


def test_people_are_told_what_comes_next(command: Command, table: Path) -> None:
    rows = read(table)
    rows[0]["caption"] = EDIT
    write(table, rows)
    done = command("captions", "import", command.config, table)
    assert (done.returncode, done.stdout) == (0, "")
    told = " ".join(done.stderr.split())
    assert f"captions: 1 edited, 0 withdrawn, {2 * TILES - 1} unchanged" in told
    assert f"next: tilewright prepare {command.config} --set" in told
    done = command("captions", "import", command.config, table)
    assert f"0 edited, 0 withdrawn, {2 * TILES} unchanged" in done.stderr
    assert "next:" not in done.stderr


def test_a_table_with_anything_wrong_changes_nothing(
    exporting: Exporting, command: Command, table: Path
) -> None:
    before = files(exporting.project.folder / "store")
    rows = read(table)
    for row in rows[:4]:
        row["caption"] = EDIT
    rows[1]["view_id"] = "1.2E+31"
    rows[2]["view_id"] = "00" * 16
    rows.append(rows[3] | {"caption": "another"})
    write(table, rows)
    told = command.refused("import", command.config, table)
    assert f"3 problems in {table}" in told
    assert "line 3, view_id = 1.2e+31" in told
    assert f"line 4, view_id = {'00' * 16} there is no such tile" in told
    assert f"line 5 and line {len(rows) + 1}" in told and "different captions" in told
    done = command("captions", "import", command.config, table, "--json")
    assert done.returncode == json.loads(done.stdout)["exit_code"] == 2
    assert files(exporting.project.folder / "store") == before


def test_what_cannot_be_is_refused_before_anything_is_read(
    exporting: Exporting, command: Command, tmp_path: Path
) -> None:
    config = command.config
    assert "make it first" in command.refused("export", config, tmp_path / "none/a.csv")
    assert "is a folder" in command.refused("export", config, tmp_path, "--force")
    assert "No such file" in command.refused("import", config, tmp_path / "none.csv")
    photo = exporting.project.photos / "photo0.jpg"
    assert "is not UTF-8" in command.refused("import", config, photo)
    done = command("captions", "export", config, "-", "--json")
    assert done.returncode == json.loads(done.stdout)["exit_code"] == 2
    assert "tilewright captions" in command("captions").stdout + command("captions").stderr


def test_without_a_store_there_is_nothing(tmp_path: Path, tiny_models: TinyModels) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    command = Command(tmp_path, project.run_toml)
    words: list[tuple[str | Path, ...]] = [
        ("export", project.run_toml, tmp_path / "a.csv"),
        ("sheet", project.run_toml),
        ("approve", project.run_toml),
    ]
    for one in words:
        told = command.refused(*one)
        assert "there is no store at" in told
        assert f"`tilewright prepare {project.run_toml}` comes first" in told
    assert not (project.folder / "store").exists()
    assert not (tmp_path / "a.csv").exists()


@pytest.fixture
def captioning(
    tmp_path: Path, tiny_models: TinyModels, caption_server: Callable[..., CaptionServer]
) -> Captioning:
    return make_captioning(tmp_path / "project", tiny_models["sd15"], caption_server())


@pytest.fixture
def caption_server(request: pytest.FixtureRequest) -> Callable[..., CaptionServer]:
    def start(**options: Any) -> CaptionServer:
        server = CaptionServer(**options).start()
        request.addfinalizer(server.close)
        return server

    return start


def test_a_new_caption_does_not_override_an_edit(captioning: Captioning, tmp_path: Path) -> None:
    captioning.prepare()
    command = Command(tmp_path, captioning.project.run_toml, captioning.overrides())
    file = tmp_path / "captions.csv"
    told = command.captions("export", file)
    assert told["origins"] == {"generated": TILES}
    rows = read(file)
    assert all(row["generated"] == row["caption"] != row["context"] for row in rows)
    assert {row["model"] for row in rows} == {"tiny:latest"}
    rows[0]["caption"] = EDIT
    write(file, rows)
    assert command.captions("import", file)["edited"] == 1
    num_asked = len(captioning.asked())
    after = captioning.prepare()
    assert after.computed() == NOTHING | {"text": 1}
    assert len(captioning.asked()) == num_asked
    again = captioning.prepare("caption_user_prompt='Say it in other words: {context}'")
    assert again.computed()["captions"] == TILES - 1
    assert len(captioning.asked()) == num_asked + TILES - 1
    tiles = {row["view_id"].hex(): row for row in again.rows.to_pylist()}
    for row in rows:
        new = tiles[row["view_id"]]
        assert new["prompt_origin"] == ("edited" if row is rows[0] else "generated")
        assert (new["prompts"] == [row["caption"]]) == (row is rows[0])


def test_a_sheet_and_an_approval(captioning: Captioning, tmp_path: Path) -> None:
    captioning.prepare()
    command = Command(tmp_path, captioning.project.run_toml, captioning.overrides())
    program, asked = tmp_path / "browser", tmp_path / "asked"
    program.write_text(f'#!/bin/sh\necho "$1" > {asked}\n')
    program.chmod(0o755)
    page = captioning.project.folder / "store/datasets/test/captions.html"
    done = command("captions", "sheet", command.config, "--open", BROWSER=f"{program} %s")
    assert (done.returncode, done.stdout) == (0, f"{page}\n"), done.stderr
    assert asked.read_text().strip() == page.as_uri()
    assert page.read_text().count("<article") == TILES
    told = command.captions("sheet")
    facts = {"captions": TILES, "shown": TILES, "origins": {"generated": TILES}}
    assert told == {"page": str(page), **facts, "unusable": {}, "failed": {}}
    assert command.captions("approve") == {"approved": TILES}
    done = command("captions", "approve", command.config)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no caption was left to approve" in done.stderr
    assert len(captioned(captioning.config())) == TILES


def test_tiles_are_dropped_by_the_numbers_of_the_sheet_and_taken_back(
    captioning: Captioning, tmp_path: Path
) -> None:
    """A dropped tile is no sample any more; nothing is asked or encoded anew for the others."""
    before = captioning.prepare()
    asked = len(captioning.asked())
    command = Command(tmp_path, captioning.project.run_toml, captioning.overrides())
    command.captions("sheet")
    page = captioning.project.folder / "store/datasets/test/captions.html"
    numbers = re.findall(r"<code>([0-9a-f]{10})</code>", page.read_text())
    assert len(set(numbers)) == TILES
    done = command("captions", "drop", command.config, numbers[0], "0000000000")
    assert done.returncode == 2
    assert "0000000000" in done.stderr
    assert command.captions("drop", numbers[0], numbers[1][:8]) == {"dropped": 2}
    assert command.captions("drop", numbers[0]) == {"dropped": 0}
    after = captioning.prepare()
    assert after.version.num_samples == before.version.num_samples - 2
    assert all(after.counts[stage].computed == 0 for stage in after.counts)
    assert len(captioning.asked()) == asked
    assert command.captions("drop", numbers[0], numbers[1], "--restore") == {"restored": 2}
    assert captioning.prepare().version.content_digest == before.version.content_digest


def test_the_command_is_light() -> None:
    heavy = "{'torch', 'prefect', 'pyarrow', 'PIL'}"
    code = f"import flows.captions_command, sys; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
