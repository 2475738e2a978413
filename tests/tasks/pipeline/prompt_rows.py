"""What the tests of prompts read off a preparation."""

from pathlib import Path
from typing import Any

from storage.store import open_store
from storage.versions import list_versions, read_rows
from tests.projects import Prepared, Project, make_old

NOTHING = {"scan": 0, "prompts": 0, "crops": 0, "text": 0, "latents": 0}
WRITTEN = [f"Boat {number}, red sail, sunset, calm sea" for number in range(3)]


def full(prepared: Prepared, column: str = "prompts") -> dict[str, Any]:
    """A column of the full images, by the stem of their file."""
    rows = prepared.rows.to_pylist()
    return {Path(row["path"]).stem: row[column] for row in rows if row["kind"] == "full"}


def origins(prepared: Prepared) -> set[str]:
    return set(prepared.rows["prompt_origin"].to_pylist())


def prompts(prepared: Prepared) -> set[str]:
    return {prompt for row in prepared.rows["prompts"].to_pylist() for prompt in row}


def changed(project: Project, *options: str) -> Prepared:
    """A preparation with other settings, which a plan must have told; only new texts are made."""
    known = {"", *known_prompts(project)}
    plan = project.plan(*options)["stages"]
    after = project.prepare(*options)
    assert {name: plan[name]["computed"] for name in NOTHING} == after.computed()
    made = {"text": len(prompts(after) - known), "prompts": after.computed()["prompts"]}
    assert after.computed() == NOTHING | made
    return after


def known_prompts(project: Project) -> set[str]:
    """The prompts of all versions so far."""
    store = open_store(project.config().store.url)
    tables = [read_rows(store, version) for version in list_versions(store, "test")]
    return {prompt for table in tables for row in table["prompts"].to_pylist() for prompt in row}


def write(path: Path, text: str) -> None:
    path.write_text(text)
    make_old(path)
