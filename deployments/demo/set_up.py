"""Put the demo into a folder: photographs with captions, a config, and a tiny random model.

python -m deployments.demo.set_up FOLDER
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from deployments.demo.build_model import build_demo_model

MODEL_SEED = 0
_SHIPPED = Path(__file__).resolve().parent


def copy_files(folder: Path) -> list[Path]:
    """Copy the photographs, their captions and the config; return what was copied.

    Files that exist are left alone, so that a second call never undoes a person's edits.
    """
    shipped = [_SHIPPED / "demo.toml", _SHIPPED / "LICENCES.md"]
    shipped += sorted((_SHIPPED / "photos").iterdir())
    targets = [folder / path.relative_to(_SHIPPED) for path in shipped]
    copied = []
    for path, target in zip(shipped, targets, strict=True):
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        copied.append(target)
    return copied


def build_model(folder: Path, seed: int = MODEL_SEED) -> bool:
    """Build the demo model in `folder`/model unless it is there; return whether it was built."""
    model = folder / "model"
    if model.exists():
        return False
    # Built aside and renamed, so that an interrupted set-up leaves no half of a model.
    unfinished = folder / "model.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    build_demo_model(unfinished, seed)
    unfinished.rename(model)
    return True


def main(arguments: list[str] | None = None) -> None:
    """Set the demo up and say what to do next."""
    parser = argparse.ArgumentParser(prog="python -m deployments.demo.set_up", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo"))
    folder: Path = parser.parse_args(arguments).folder
    copied = copy_files(folder)
    built = build_model(folder)
    config = shlex.quote(str(folder / "demo.toml"))
    sys.stderr.write(
        f"{len(copied)} files copied to {folder}, "
        f"model {'built' if built else 'was there already'}.\n"
        "Next:\n"
        f"  tilewright plan {config}      what would be done\n"
        f"  tilewright run {config}       prepare, train and draw samples\n"
    )


if __name__ == "__main__":
    main()
