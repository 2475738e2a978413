"""Where prompts come from: every source, by its effect on the rows and on what is made anew."""

import json
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.projects import Project
from tests.tasks.pipeline.prompt_rows import (
    NOTHING,
    WRITTEN,
    changed,
    full,
    origins,
    prompts,
    write,
)


def test_a_caption_file_is_read_where_there_is_no_txt(tagged: Project) -> None:
    write(tagged.photos / "photo0.caption", "not this one")
    (tagged.photos / "photo1.txt").rename(tagged.photos / "photo1.caption")
    after = changed(tagged)
    assert after.computed() == NOTHING, "the same words are the same prompt"
    (tagged.photos / "photo1.caption").write_text("a caption")
    after = changed(tagged)
    assert full(after) == {"photo0": WRITTEN[:1], "photo1": ["a caption"], "photo2": WRITTEN[2:]}
    assert origins(after) == {"sidecar", "inherited"}


@pytest.mark.parametrize(
    ("multiline", "expected"),
    [
        ("lines", ["one", "two", "three"]),
        ("paragraphs", ["one two", "three"]),
        ("joined", ["one two three"]),
    ],
)
def test_what_a_prompt_of_a_sidecar_is(
    tagged: Project, multiline: str, expected: list[str]
) -> None:
    (tagged.photos / "photo1.txt").write_text("one\ntwo\n \nthree\n")
    after = changed(tagged, f"concepts.0.multiline={multiline}")
    assert full(after) == {"photo0": WRITTEN[:1], "photo1": expected, "photo2": WRITTEN[2:]}


def test_how_lines_are_told_apart_does_not_count_for_file_names(tagged: Project) -> None:
    option = "concepts.0.prompt_source=filename"
    after = changed(tagged, option)
    assert full(after) == {f"photo{number}": [f"photo{number}"] for number in range(3)}
    assert origins(after) == {"filename", "inherited"}
    assert changed(tagged, option, "concepts.0.multiline=joined").computed() == NOTHING


def test_one_line_of_a_text_file_for_each_sample_and_variation(tagged: Project) -> None:
    lines = [f"line {number}" for number in range(20)]
    write(tagged.folder / "lines.txt", "\n".join(lines))
    source = (
        "concepts.0.prompt_source=text_file",
        f"concepts.0.prompt_path={tagged.folder}/lines.txt",
    )
    once = changed(tagged, *source)
    assert once.computed()["prompts"] == 1, "the file is one item"
    assert prompts(once) <= set(lines)
    assert {len(row) for row in once.rows["prompts"].to_pylist()} == {1}
    assert origins(once) == {"text_file", "inherited"}
    more = changed(tagged, *source, "concepts.0.text_variations=3")
    assert {len(row) for row in more.rows["prompts"].to_pylist()} <= {1, 3}
    assert [row[:1] for row in more.rows["prompts"].to_pylist()] == once.rows["prompts"].to_pylist()


JSONL = "concepts.0.prompt_source=jsonl"


def write_lines(tagged: Project, *lines: object, name: str = "metadata.jsonl") -> Path:
    path = tagged.photos / name
    write(path, "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))
    return path


def line(name: str, text: Any) -> dict[str, Any]:
    return {"file_name": name, "text": text}


def test_a_jsonl_file_has_the_prompts_of_every_image(tagged: Project) -> None:
    write_lines(
        tagged,
        line("photo0.jpg", "a boat"),
        line("sub/photo2.jpg", ["one", "two"]),
        line("gone.jpg", "of no photo"),
        line("photo0.jpg", "another line"),
    )
    after = changed(tagged, JSONL)
    assert full(after) == {
        "photo0": ["a boat", "another line"],
        "photo1": [""],
        "photo2": ["one", "two"],
    }
    assert full(after, "prompt_origin") == {"photo0": "jsonl", "photo1": "none", "photo2": "jsonl"}
    assert origins(after) == {"jsonl", "none", "inherited"}
    assert set(full(after, "context").values()) == {"a boat", "", "one"}
    assert after.rejects == []


def test_another_place_and_name_of_the_jsonl_file(tagged: Project) -> None:
    path = tagged.folder / "captions.jsonl"
    write(path, json.dumps(line("photos/sub/photo2.jpg", "found")))
    after = changed(tagged, JSONL, f"concepts.0.prompt_path={path}")
    assert full(after) == {"photo0": [""], "photo1": [""], "photo2": ["found"]}


def test_an_edited_line_is_one_prompt(tagged: Project) -> None:
    lines = [line(f"photo{number}.jpg", WRITTEN[number]) for number in range(2)]
    lines.append(line("sub/photo2.jpg", WRITTEN[2]))
    write_lines(tagged, *lines)
    assert changed(tagged, JSONL).computed() == NOTHING | {"prompts": 3}
    write_lines(tagged, lines[0], line("photo1.jpg", "edited"), lines[2])
    after = changed(tagged, JSONL)
    assert after.computed() == NOTHING | {"prompts": 1, "text": 1}
    assert full(after)["photo1"] == ["edited"]
    write_lines(tagged, lines[2], line("photo1.jpg", "edited"), line("new.jpg", "x"), lines[0])
    assert changed(tagged, JSONL).computed() == NOTHING
    assert changed(tagged, JSONL, "concepts.0.multiline=joined").computed() == NOTHING


def test_a_broken_line_is_told_by_its_number_and_ends_nothing(tagged: Project) -> None:
    path = write_lines(tagged, line("photo0.jpg", "a boat"), "{", line("photo1.jpg", 3))
    plan = tagged.plan(JSONL)["stages"]["prompts"]
    after = changed(tagged, JSONL)
    assert [
        (place, reason.partition(" must")[0].partition(":")[0]) for place, reason in after.rejects
    ] == [
        (f"{path} line 2", "is no JSON"),
        (f"{path} line 3", 'its "text"'),
    ]
    assert plan["rejected"] == after.counts["prompts"].rejected == 2
    assert full(after) == {"photo0": ["a boat"], "photo1": [""], "photo2": [""]}
    write_lines(tagged, line("photo0.jpg", "a boat"), line("photo1.jpg", "a pier"))
    mended = changed(tagged, JSONL)
    assert (mended.rejects, full(mended)["photo1"]) == ([], ["a pier"])


def test_a_jsonl_file_beside_remote_images(tagged: Project, s3_url: str) -> None:
    s3, folder = fsspec.core.url_to_fs(s3_url)
    s3.pipe_file(f"{folder}/a.jpg", (tagged.photos / "photo0.jpg").read_bytes())
    s3.pipe_file(f"{folder}/metadata.jsonl", json.dumps(line("a.jpg", "from afar")).encode())
    after = tagged.prepare(JSONL, f"concepts.0.path={s3_url}")
    assert full(after) == {"a": ["from afar"]}
    assert after.computed()["latents"] == 0, "the same photo"


def test_a_jsonl_file_that_is_no_text_leaves_its_concept_out_with_the_reason(
    tagged: Project,
) -> None:
    (tagged.folder / "others").mkdir()
    shutil.copy2(tagged.photos / "photo0.jpg", tagged.folder / "others/other.jpg")
    extra = "\n[[concepts]]\nname = 'others'\npath = 'others'\nprompt_source = 'filename'\n"
    tagged.run_toml.write_text(tagged.run_toml.read_text() + extra)
    (tagged.photos / "metadata.jsonl").write_bytes('{"file_name": "a"}'.encode("utf-16"))
    after = tagged.prepare(JSONL)
    assert set(after.rows["concept"].to_pylist()) == {"others"}
    assert len(after.rejects) == 3
    assert {reason.partition(";")[0] for _, reason in after.rejects} == {
        "metadata.jsonl: line 1: not UTF-8 text: byte 0xff at position 0"
    }


def test_a_sidecar_that_changes_or_vanishes_meanwhile_is_left_to_the_next_run(
    tagged: Project,
) -> None:
    from tasks.pipeline.stages import STAGES
    from tasks.stage import Context

    stages = {stage.name: stage for stage in STAGES}
    context = Context(tagged.config())
    for number in range(2):
        (tagged.photos / f"photo{number}.txt").write_text(f"new words {number}")
    scan = stages["scan"].wanted(context, {})
    scanned = stages["scan"].manifest(context, stages["scan"].check(context, scan))
    stage = stages["prompts"]
    wanted = stage.wanted(context, {"scan": scanned})
    checked = stage.check(context, wanted)
    assert checked.counts.computed == 2
    (tagged.photos / "photo0.txt").write_text("newer words")
    (tagged.photos / "photo1.txt").unlink()
    stage.work(context, wanted, checked.missing, lambda _: None)
    assert stage.check(context, wanted).counts.computed == 2, "neither made nor rejected"
    after = tagged.prepare()
    assert full(after) == {"photo0": ["newer words"], "photo1": [""], "photo2": WRITTEN[2:]}
    assert after.rejects == []


def test_a_sidecar_that_is_no_text_is_rejected_until_it_is_corrected(tagged: Project) -> None:
    (tagged.photos / "photo1.txt").write_bytes("Zürich".encode("latin-1"))
    after = tagged.prepare()
    assert [Path(path).name for path, _ in after.rejects] == ["photo1.jpg"]
    assert after.rejects[0][1].startswith("photo1.txt: not UTF-8 text: byte 0xfc at position 1")
    assert set(full(after)) == {"photo0", "photo2"}
    (tagged.photos / "photo1.txt").unlink()
    assert full(tagged.prepare())["photo1"] == [""]
