"""How prompts are varied: every setting, by its effect on the rows and on what is made anew."""

import shutil
from collections import Counter
from pathlib import Path

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

TEXT, CROPS = "concepts.0.text.", "concepts.0.image.detail_crops."
SHUFFLE = (TEXT + "enable_tag_shuffling=true",)
DROP = (TEXT + "tag_dropout_enable=true", TEXT + "tag_dropout_probability=1.0")
CAPS = (TEXT + "caps_randomize_enable=true", TEXT + "caps_randomize_probability=1.0")
LISTED = TEXT + 'tag_dropout_special_tags=["sunset"]'
BOATS = [f"Boat {number}" for number in range(3)]


def with_tags(*tags: str) -> list[str]:
    return [", ".join([boat, *tags]) for boat in BOATS]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            (TEXT + "prompt_template=art of {concept}: {prompt}",),
            [f"art of photos: {p}" for p in WRITTEN],
        ),
        (DROP, BOATS),
        ((*DROP, TEXT + "keep_tags_count=2"), with_tags("red sail")),
        ((*DROP, TEXT + "keep_tags_count=0"), [""] * 3),
        ((*DROP, TEXT + "tag_delimiter=;"), WRITTEN),
        ((*DROP, TEXT + "tag_dropout_mode=random"), BOATS),
        ((*DROP, TEXT + "tag_dropout_special_tags_mode=whitelist", LISTED), with_tags("sunset")),
        (
            (*DROP, TEXT + "tag_dropout_special_tags_mode=blacklist", LISTED),
            with_tags("red sail", "calm sea"),
        ),
        (
            (
                *DROP,
                TEXT + "tag_dropout_special_tags_mode=whitelist",
                TEXT + 'tag_dropout_special_tags=["s.*", "calm"]',
                TEXT + "tag_dropout_special_tags_regex=true",
            ),
            with_tags("sunset"),
        ),
        (
            (*CAPS, TEXT + 'caps_randomize_mode=["capslock"]'),
            with_tags("RED SAIL", "SUNSET", "CALM SEA"),
        ),
        (
            (*CAPS, TEXT + 'caps_randomize_mode=["first"]', TEXT + "caps_randomize_lowercase=true"),
            [f"boat {number}, Red sail, Sunset, Calm sea" for number in range(3)],
        ),
        ((TEXT + "tag_dropout_probability=1.0",), WRITTEN),
        (("concepts.0.text_variations=5",), WRITTEN),
    ],
)
def test_settings_that_leave_nothing_to_chance(
    tagged: Project, options: tuple[str, ...], expected: list[str]
) -> None:
    after = changed(tagged, *options)
    assert full(after) == {f"photo{number}": [expected[number]] for number in range(3)}
    assert origins(after) == {"sidecar", "inherited"}
    assert set(full(after, "context").values()) == set(WRITTEN)


@pytest.mark.parametrize(
    "options",
    [
        SHUFFLE,
        (*DROP[:1], TEXT + "tag_dropout_probability=0.5", TEXT + "tag_dropout_mode=random"),
        (*DROP, TEXT + "tag_dropout_mode=random_weighted"),
        (*CAPS[:1], TEXT + "caps_randomize_probability=0.5"),
    ],
)
def test_settings_that_draw_for_every_sample_and_variation(
    tagged: Project, options: tuple[str, ...]
) -> None:
    once = changed(tagged, *options)
    of_photo0 = Counter(
        tuple(row["prompts"]) for row in once.rows.to_pylist() if Path(row["path"]).stem == "photo0"
    )
    assert len(of_photo0) > 2, "its samples draw for themselves"
    assert all(prompt.partition(", ")[0] == "Boat 0" for row in of_photo0 for prompt in row)
    three = changed(tagged, *options, "concepts.0.text_variations=3")
    for first, more in zip(
        *(one.rows["prompts"].to_pylist() for one in (once, three)), strict=True
    ):
        assert more[0] == first[0]
    assert max(len(set(row)) for row in three.rows["prompts"].to_pylist()) == 3
    fewer = changed(tagged, *options)
    assert fewer.computed() == NOTHING
    assert fewer.counts["text"].removed == len(prompts(three) - prompts(once))
    other = changed(tagged, *options, "data.seed=1")
    assert prompts(other) != prompts(once)


def test_an_edit_of_the_file_of_special_tags_changes_only_what_it_changes(tagged: Project) -> None:
    tags = tagged.folder / "tags.txt"
    options = (
        *DROP,
        TEXT + "tag_dropout_special_tags_mode=whitelist",
        f"{TEXT}tag_dropout_special_tags_path={tags}",
    )
    write(tags, "sunset, Boat 9\n")
    (tagged.photos / "photo1.txt").write_text("Boat 1, red sail, fog")
    before = changed(tagged, *options)
    assert full(before) == {
        "photo0": ["Boat 0, sunset"],
        "photo1": ["Boat 1"],
        "photo2": ["Boat 2, sunset"],
    }
    write(tags, "fog\nsunset\n")
    after = changed(tagged, *options)
    assert full(after)["photo1"] == ["Boat 1, fog"]
    assert after.computed() == NOTHING | {"text": 1}
    tags.rename(tagged.folder / "renamed.txt")
    moved = (*options[:-1], f"{TEXT}tag_dropout_special_tags_path={tagged.folder}/renamed.txt")
    again = changed(tagged, *moved)
    assert again.computed() == NOTHING
    assert again.version.content_digest == after.version.content_digest


def test_tiles_without_a_text_of_their_own(tagged: Project) -> None:
    after = changed(tagged, CROPS + "uncaptioned_prompt=empty")
    found = {
        (row["kind"], row["prompt_origin"], row["prompts"] == [""])
        for row in after.rows.to_pylist()
    }
    assert found == {("full", "sidecar", False), ("detail", "none", True)}


def test_a_validation_concept_trains_on_its_first_prompt_without_draws(tagged: Project) -> None:
    (tagged.folder / "held").mkdir()
    shutil.copy2(tagged.photos / "photo0.jpg", tagged.folder / "held/held.jpg")
    write(tagged.folder / "held/held.txt", "a, b, c, d\nsecond")
    extra = "\n[[concepts]]\nname = 'held'\npath = 'held'\ntype = 'validation'\n"
    extra += "text = { enable_tag_shuffling = true, prompt_template = '{prompt}!' }\n"
    tagged.run_toml.write_text(tagged.run_toml.read_text() + extra)
    assert full(tagged.prepare())["held"] == ["a, b, c, d!"]
