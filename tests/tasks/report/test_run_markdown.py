"""A run as artifacts: small enough, and pictures that are whole."""

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from tasks.pages.markdown import escaped
from tasks.report.run_history import read_history
from tasks.report.run_markdown import MAX_BYTES, files_table, loss_markdown, samples_markdown
from tests.tasks.report import runs

PICTURE = re.compile(r"!\[[^]]*\]\(data:image/([a-z+]+);base64,([^)]*)\)")


def test_the_curves_are_pictures_of_their_own() -> None:
    text = loss_markdown(runs.make_run())
    pictures = PICTURE.findall(text)
    assert [kind for kind, _ in pictures] == ["svg+xml", "svg+xml"]
    loss, validation = (ElementTree.fromstring(base64.b64decode(data)) for _, data in pictures)
    name = "{http://www.w3.org/2000/svg}"
    assert loss.tag == f"{name}svg"
    labels = [element.text for element in loss.iter(f"{name}text")]
    assert {"step", "smoothed: 0.658", "each step: 0.158"} <= set(labels)
    drawn = [path for path in validation.iter(f"{name}path") if "L" in path.attrib["d"]]
    assert len(drawn) == 3
    assert "**40 steps** of 40" in text and "validation loss **0.05**" in text


def test_a_long_run_has_small_curves() -> None:
    history = read_history(runs.trained(20_000, every=50))
    assert len(loss_markdown(runs.make_run(history))) < 100_000


def test_samples_are_a_strip_for_each_prompt(tmp_path: Path) -> None:
    images = runs.images(tmp_path, steps=9, prompts=2, size=48)
    images[90][1].unlink()
    text = samples_markdown(runs.make_run(images=images))
    assert "after step 10, 30, 40, 60, 70, 90." in text
    strips = [Image.open(io.BytesIO(base64.b64decode(data))) for _, data in PICTURE.findall(text)]
    assert [strip.size for strip in strips] == [(6 * 52 - 4, 48)] * 2
    last = strips[1].convert("RGBA").crop((5 * 52, 0, 5 * 52 + 48, 48))
    assert last.getextrema()[3] == (0, 0)
    # The images are in the order of their steps.
    first = strips[0].convert("RGB").crop((52, 0, 100, 48)).resize((1, 1), Image.Resampling.BOX)
    original = Image.open(images[30][0]).resize((1, 1), Image.Resampling.BOX)
    pairs = zip(first.getpixel((0, 0)), original.getpixel((0, 0)), strict=True)
    assert all(abs(one - other) < 8 for one, other in pairs)


def test_prompts_are_left_out_to_keep_an_artifact_small(tmp_path: Path) -> None:
    images = runs.images(tmp_path, steps=6, prompts=16, size=112)
    run = runs.make_run(images=images)
    whole, small = samples_markdown(run), samples_markdown(run, 60_000)
    assert len(whole.encode()) <= MAX_BYTES
    assert len(small.encode()) <= 60_000
    shown = len(PICTURE.findall(small))
    assert 0 < shown < 16
    assert f"The first {shown} of 16 prompts." in small


def test_files_are_rows() -> None:
    rows = files_table(runs.make_run())
    assert [row["what"] for row in rows] == ["output", "backup", "backup"]
    assert [row["step"] for row in rows] == ["", 40, 30]


def test_text_of_users_stays_text() -> None:
    odd = "a-b *c* <b>d</b>\n# [x](y) | `h` _i_ ü"
    text = escaped(odd)
    assert "\n" not in text
    assert not re.search(r"(?<!\\)[*<>\[\]()|`_#]", text)
    assert re.sub(r"\\(.)", r"\1", text) == odd.replace("\n", " ")
