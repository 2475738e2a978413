"""Whoever changes what a stage makes raises its VERSION: otherwise old items would pass for new.

`tests/golden/code_digests.json` holds, per stage, its VERSION and a digest of the pure modules that
decide its output. Comments, docstrings and formatting do not count.
"""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).relative_to(ROOT)
GOLDEN = ROOT / "tests" / "golden" / "code_digests.json"


@dataclass(frozen=True)
class Guarded:
    """A constant that names a version of code, and the modules that are this code."""

    constant: str
    where: str
    modules: tuple[str, ...]


TEXT_ENCODERS = ("clip", "t5", "qwen", "mistral")
"""Modules of `tasks/families` that encode text."""
FAMILIES = (
    *("stable_diffusion", "sdxl", "inpainting", "sd3", "flux", "pixart", "sana", "chroma"),
    *("qwen_image", "z_image", "flux2"),
)
"""Modules of `tasks/families` with records: which encoder, how long, and which layers."""
ENCODE_IMAGES = ("flux2", "qwen_image", "sana")
"""The ones with an `encode_image`."""

GUARDED = {
    "imaging": Guarded("IMAGING_VERSION", "tasks/imaging/decode.py", ("tasks/imaging/*.py",)),
    "scan": Guarded("VERSION", "tasks/scan/stage.py", ("tasks/scan/*.py",)),
    "prompts": Guarded(
        "VERSION", "tasks/prompts/stage.py", ("tasks/prompts/*.py", "tasks/wording/*.py")
    ),
    "crops": Guarded("VERSION", "tasks/crops/stage.py", ("tasks/crops/*.py",)),
    "captions": Guarded(
        "VERSION",
        "tasks/captions/generated.py",
        tuple(
            f"tasks/captions/{name}.py"
            for name in ("captioning", "chosen", "cleaning", "generated", "pictures", "protocols/*")
        ),
    ),
    "edits": Guarded(
        "VERSION",
        "tasks/captions/edits.py",
        ("tasks/captions/edits.py", "tasks/captions/sidecars.py", "tasks/export/record.py"),
    ),
    "masks": Guarded(
        "VERSION",
        "tasks/masks/stage.py",
        ("tasks/masks/*.py", "tasks/files/masks.py", "tasks/imaging/mask.py"),
    ),
    "text": Guarded(
        "VERSION",
        "tasks/encode/text.py",
        (
            "tasks/encode/text.py",
            *(f"tasks/families/{name}.py" for name in (*TEXT_ENCODERS, *FAMILIES)),
        ),
    ),
    "latents": Guarded(
        "VERSION",
        "tasks/encode/latents.py",
        (
            *(f"tasks/encode/{name}.py" for name in ("latents", "holes", "workers")),
            *(f"tasks/families/{name}.py" for name in ("vae", *ENCODE_IMAGES)),
            *("tasks/files/masks.py", "tasks/imaging/mask.py"),
        ),
    ),
}


def present(guarded: Guarded) -> dict[str, Any]:
    """The version and the digest as they are in the working tree."""
    files = sorted({path for pattern in guarded.modules for path in ROOT.glob(pattern)})
    assert files, guarded
    parts = [path.relative_to(ROOT).as_posix() + code_text(path.read_text()) for path in files]
    digest = blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
    return {"version": constant(guarded), "digest": digest}


def constant(guarded: Guarded) -> int:
    """The integer that a module assigns to the version's name; nothing is imported."""
    for node in ast.parse((ROOT / guarded.where).read_text()).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant() as value)
            ) if name == guarded.constant:
                return int(ast.literal_eval(value))
    raise AssertionError(f"{guarded.where} assigns no {guarded.constant}")


def code_text(source: str) -> str:
    """What the interpreter sees of a module, without docstrings; alike in every Python."""
    return _text(ast.parse(source))


def _text(node: Any) -> str:
    if isinstance(node, list):
        return "[" + ",".join(_text(one) for one in node if not _is_docstring(one)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    return f"{type(node).__name__}({','.join(_fields(node))})"


def _fields(node: ast.AST) -> Iterator[str]:
    """The fields that hold something: newer versions of Python add ones that do not."""
    for name, value in ast.iter_fields(node):
        if value is not None and value != []:
            yield f"{name}={_text(value)}"


def _is_docstring(node: Any) -> bool:
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def verdict(name: str, now: dict[str, Any], golden: dict[str, Any] | None) -> str | None:
    """What is wrong, and what to do about it; None when nothing is."""
    guarded = GUARDED[name]
    accept = f"accept the new digest with `pytest {HERE} --golden=write`"
    if golden == now:
        return None
    if golden is not None and now["version"] == golden["version"]:
        return (
            f"the code of {name} changed ({', '.join(guarded.modules)}). If what it makes changed, "
            f"raise {guarded.constant} in {guarded.where}; then, or if not, {accept}"
        )
    return f"{guarded.constant} of {name} is new: {accept}"


@pytest.mark.parametrize("name", GUARDED)
def test_code_changes_with_its_version(name: str, request: pytest.FixtureRequest) -> None:
    now = present(GUARDED[name])
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--golden") == "write":
        known = {key: known[key] for key in GUARDED if key in known} | {name: now}
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    told = verdict(name, now, known.get(name))
    assert told is None, told


CODE = 'VERSION = 1\ndef f(x: int) -> int:\n    """Doc."""\n    return x + 1\n'


@pytest.mark.parametrize(
    "same",
    [
        "# why\nVERSION   =   1\n\n\ndef f(x: int) -> int:\n    return (x + 1)  # more\n",
        'VERSION = 1\n"""About it."""\ndef f(\n    x: int,\n) -> int:\n    return x + 1\n',
    ],
)
def test_comments_docstrings_and_layout_do_not_count(same: str) -> None:
    assert code_text(same) == code_text(CODE)


@pytest.mark.parametrize(("old", "new"), [("x + 1", "x + 2"), ("x + 1", "x - 1"), ("= 1", "= 2")])
def test_code_counts(old: str, new: str) -> None:
    assert code_text(CODE.replace(old, new)) != code_text(CODE)


def test_the_verdict_says_what_to_do() -> None:
    golden = {"version": 1, "digest": "a"}
    assert verdict("latents", golden, golden) is None
    changed = verdict("latents", golden | {"digest": "b"}, golden)
    assert changed is not None
    assert "raise VERSION in tasks/encode/latents.py" in changed
    assert "--golden=write" in changed
    raised = verdict("latents", {"version": 2, "digest": "b"}, golden)
    assert raised is not None
    assert "raise" not in raised
