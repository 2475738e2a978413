from pathlib import Path

import pytest
from PIL import Image

from deployments.demo import set_up
from tasks.imaging.decode import decode
from tasks.wording.sources import decode_text, split_prompts

SHIPPED = Path(set_up.__file__).parent
PHOTOS = sorted((SHIPPED / "photos").glob("*.jpg"))


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_demo_is_set_up_and_says_what_is_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my demo"
    set_up.main([str(folder)])
    made = files(folder)
    for path in (SHIPPED / "demo.toml", SHIPPED / "LICENCES.md", *(SHIPPED / "photos").iterdir()):
        assert made[path.relative_to(SHIPPED).as_posix()] == path.read_bytes()
    assert "model/model_index.json" in made and not (folder / "model.unfinished").exists()
    out, err = capsys.readouterr()
    assert out == "" and f"tilewright run '{folder / 'demo.toml'}'" in err


def test_a_second_set_up_changes_nothing(tmp_path: Path) -> None:
    set_up.main([str(tmp_path)])
    (tmp_path / "demo.toml").write_text("# mine\n")
    (tmp_path / "photos" / "tabby-cat.txt").write_text("my cat\n")
    (tmp_path / "model" / "mine.txt").write_text("kept\n")
    before = files(tmp_path)
    set_up.main([str(tmp_path)])
    assert files(tmp_path) == before


def test_an_interrupted_model_is_built_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "model.unfinished"
    unfinished.mkdir()
    (unfinished / "half.txt").write_text("half\n")
    assert set_up.build_model(tmp_path)
    assert not unfinished.exists() and not (tmp_path / "model" / "half.txt").exists()
    assert not set_up.build_model(tmp_path)


def test_photographs_are_small_readable_and_captioned() -> None:
    assert len(PHOTOS) >= 4
    assert sum(path.stat().st_size for path in PHOTOS) < 2_000_000
    for path in PHOTOS:
        pixels = decode(path.read_bytes())
        assert min(pixels.shape[:2]) >= 256
        assert not Image.open(path).getexif()
        assert split_prompts(decode_text(path.with_suffix(".txt").read_bytes()), "lines")


def test_every_photograph_has_its_licence_written_down() -> None:
    licences = (SHIPPED / "LICENCES.md").read_text()
    table = [line for line in licences.splitlines() if line.startswith("| `")]
    assert sorted(line.split("`")[1] for line in table) == [path.name for path in PHOTOS]
    assert all("| CC0 1.0 |" in line for line in table)
