"""The version of the code: of the package, and of a clone."""

import subprocess
from pathlib import Path

from tasks.lineage import code
from tasks.lineage.code import code_name, code_version

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C")


def test_a_clone_tells_its_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        done = subprocess.run([*GIT, str(tmp_path), *words], capture_output=True, check=True)
        return done.stdout.decode().strip()

    assert code._commit(tmp_path) is None
    git("init", "-q")
    assert code._commit(tmp_path) is None, "it has no commit yet"
    (tmp_path / "file").write_text("one")
    git("add", "-A")
    git("commit", "-qm", "one")
    git("tag", "v1")
    head = git("rev-parse", "HEAD")
    assert code._commit(tmp_path) == head
    (tmp_path / "file").write_text("two")
    assert code._commit(tmp_path) == f"{head}-dirty"
    (tmp_path / "inside").mkdir()
    assert code._commit(tmp_path / "inside") is None, "a clone of something else is around it"


def test_the_name_of_a_version() -> None:
    assert code_version()["version"] == "0.1.0"
    assert code_name({"version": "1.2", "commit": None}) == "1.2"
    commit = "0123456789abcdef" * 2
    assert code_name({"version": "1.2", "commit": commit}) == "1.2+0123456789ab"
    assert code_name({"version": "1.2", "commit": f"{commit}-dirty"}) == "1.2+0123456789ab.dirty"
