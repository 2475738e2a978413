"""The layout that flat packages and Prefect's way of loading flow files ask for."""

import ast
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = ("flows", "tasks", "storage", "deployments")
MAX_LINES = 300
FLOW_FILES = sorted(
    path for path in (ROOT / "flows").glob("*.py") if "\n@flow" in path.read_text(encoding="utf-8")
)
ENTRYPOINTS = [
    deployment["entrypoint"]
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
]


def python(code: str, cwd: Path) -> object:
    """What a fresh process prints as JSON."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_packages_come_from_this_root(tmp_path: Path) -> None:
    code = f"""
import importlib.util, json
specs = [importlib.util.find_spec(name) for name in {PACKAGES!r}]
print(json.dumps([spec and spec.origin for spec in specs]))
"""
    assert python(code, tmp_path) == [str(ROOT / name / "__init__.py") for name in PACKAGES]


@pytest.mark.parametrize("path", sorted((ROOT / "flows").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_no_flow_stem_shadows_a_module(path: Path) -> None:
    """Prefect loads a flow file as a module of its stem, with its folder first in `sys.path`."""
    taken = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions(), *PACKAGES}
    assert path.stem not in taken
    elsewhere = importlib.util.find_spec(path.stem)
    assert elsewhere is None, f"{path} would hide {elsewhere.origin if elsewhere else ''}"


@pytest.mark.parametrize("path", FLOW_FILES, ids=lambda path: path.stem)
def test_a_flow_file_holds_one_flow_and_no_class(path: Path) -> None:
    """What a flow file defines exists twice: as `flows.x` and, loaded by Prefect, as `x`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert functions == [path.stem]


def test_every_flow_has_an_entrypoint() -> None:
    assert sorted(ENTRYPOINTS) == [f"flows/{path.name}:{path.stem}" for path in FLOW_FILES]


def test_entrypoints_load_strictly() -> None:
    """By default a flow file with a broken import still deploys, as a placeholder."""
    code = f"""
import json
from prefect.flows import load_flow_from_entrypoint
flows = [load_flow_from_entrypoint(e, use_placeholder_flow=False) for e in {ENTRYPOINTS!r}]
print(json.dumps([flow.name for flow in flows]))
"""
    stems = [entrypoint.rpartition(":")[2] for entrypoint in ENTRYPOINTS]
    assert python(code, ROOT) == [stem.replace("_", "-") for stem in stems]


def test_importing_flows_imports_no_torch(tmp_path: Path) -> None:
    names = [f"flows.{path.stem}" for path in sorted((ROOT / "flows").glob("[!_]*.py"))]
    code = f"""
import importlib, json, sys
for name in {names!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{"torch", "diffusers", "transformers", "peft"}} & set(sys.modules))))
"""
    assert python(code, tmp_path) == []


def test_help_imports_no_torch(tmp_path: Path) -> None:
    code = """
import contextlib, json, runpy, sys
sys.argv = ["tilewright", "--help"]
with contextlib.suppress(SystemExit):
    runpy.run_module("flows", run_name="__main__")
print()
print(json.dumps(["flows.local_server" in sys.modules, "torch" in sys.modules]))
"""
    assert python(code, tmp_path) == [True, False]


def test_torchvision_is_absent() -> None:
    """Its registry build breaks next to a CPU torch, and diffusers with it."""
    assert importlib.util.find_spec("torchvision") is None
    for name in ("requirements.in", "requirements.lock", "pyproject.toml"):
        assert "torchvision" not in (ROOT / name).read_text(), name


def test_no_file_is_too_long() -> None:
    folders = [ROOT / name for name in (*PACKAGES, "benchmarks")]
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in folder.rglob("*.py")
    }
    assert len(lengths) > 50
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_packages_have_docstrings_and_tests_are_no_package() -> None:
    for name in PACKAGES:
        for folder in {path.parent for path in (ROOT / name).rglob("*.py")}:
            marker = folder / "__init__.py"
            assert marker.is_file(), folder
            assert ast.get_docstring(ast.parse(marker.read_text(encoding="utf-8"))), marker
    assert list((ROOT / "tests").rglob("__init__.py")) == []
