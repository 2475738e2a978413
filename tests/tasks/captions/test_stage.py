"""Captions in a project: what is asked when, what a plan says of it, and what is trained on."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from storage.records import CAPTIONS
from tasks.captions.model import CaptionerError
from tests.caption_server import DIGEST, CaptionServer, Fault
from tests.captioning import (
    CROPS,
    Captioning,
    make_captioning,
    says_which,
    sha_of,
)
from tests.model_fixtures import TinyModels
from tests.projects import Prepared, make_old

NOTHING = {"scan": 0, "prompts": 0, "crops": 0, "text": 0, "latents": 0}
PHOTOS = 2
TILES = 6
"""Of every photo: at scale 1.5 it is 137 x 96, so 3 x 2 tiles of 64 px with an overlap of 8."""
ALL = PHOTOS * TILES
NEW_DIGEST = sha_of(b"another model")
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}, "subject": {"type": "string"}},
    "required": ["colour", "subject"],
}


@pytest.fixture(scope="module")
def captioned_once(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> tuple[Captioning, Prepared]:
    """A project that was planned, captioned and prepared by a server that is gone."""
    with CaptionServer(answer=says_which) as server:
        folder = tmp_path_factory.mktemp("captioned") / "project"
        captioning = make_captioning(folder, tiny_models["sd15"], server, num_photos=PHOTOS)
        captioning = captioning.having("scales=[1.5]")
        told = captioning.plan()["stages"]["captions"]
        assert told["computed"] >= ALL
        assert not told["exact"], "a plan does not decode: any tile may turn out to be blank"
        prepared = captioning.prepare()
        assert sorted(captioning.pictures()) == sorted(set(captioning.pictures()))
        assert len(captioning.pictures()) == ALL
        return captioning, prepared


@pytest.fixture
def server() -> Iterator[CaptionServer]:
    """A server with the same model: the address of a server is in no key."""
    with CaptionServer(answer=says_which) as server:
        yield server


@pytest.fixture
def captioning(
    captioned_once: tuple[Captioning, Prepared], server: CaptionServer, tmp_path: Path
) -> Captioning:
    """The captioned project with a store of its own; its photos are not to be touched."""
    return captioned_once[0].in_store_of(tmp_path / "store").asking(server)


@pytest.fixture
def own(
    captioned_once: tuple[Captioning, Prepared], server: CaptionServer, tmp_path: Path
) -> Captioning:
    """The captioned project with photos of its own, which have other inodes."""
    copied = captioned_once[0].of_its_own(tmp_path / "project").asking(server)
    copied.caption()
    return copied


@pytest.fixture
def uncaptioned(
    captioned_once: tuple[Captioning, Prepared], server: CaptionServer, tmp_path: Path
) -> Captioning:
    """The project with a store that holds all but captions."""
    fresh = captioned_once[0].asking(server).having(f"store.url={str(tmp_path / 'store')!r}")
    fresh.caption("enable_captioning=false")
    return fresh


def prepared_as_planned(captioning: Captioning, *settings: str) -> Prepared:
    """Plans, prepares, and holds one against the other.

    How many texts captions to come will be cannot be known: some may be equal, or known already.
    """
    num_asked = len(captioning.asked())
    plan = captioning.plan(*settings)["stages"]
    assert len(captioning.asked()) == num_asked, "a plan asks nothing"
    prepared = captioning.prepare(*settings)
    for name, counts in prepared.counts.items():
        told = plan.get(name, {"exact": True} | counts.as_json())
        if name == "text" and plan.get("captions", {}).get("computed"):
            assert told["computed"] >= counts.computed
            continue
        assert told["exact"], name
        assert {key: told[key] for key in counts.as_json()} == counts.as_json(), name
    return prepared


def tiles_of(prepared: Prepared, name: str = "") -> list[dict[str, Any]]:
    rows = prepared.rows.to_pylist()
    return [row for row in rows if row["kind"] != "full" and name in row["path"]]


def photos_of(prepared: Prepared) -> list[dict[str, Any]]:
    return [row for row in prepared.rows.to_pylist() if row["kind"] == "full"]


def test_every_tile_trains_on_its_own_caption(
    captioned_once: tuple[Captioning, Prepared],
) -> None:
    captioning, prepared = captioned_once
    assert prepared.computed() == {
        "scan": PHOTOS,
        "prompts": PHOTOS,
        "crops": PHOTOS * (1 + TILES),
        "captions": ALL,
        "text": 1 + PHOTOS + ALL,
        "latents": prepared.rows.num_rows,
    }
    tiles = tiles_of(prepared)
    said = {row["view_id"]: row["prompts"] for row in captioning.answers()}
    assert len(said) == ALL
    assert {row["view_id"]: row["prompts"] for row in tiles} == said
    assert {row["prompt_origin"] for row in tiles} == {"generated"}
    assert {row["prompt_origin"] for row in photos_of(prepared)} == {"sidecar"}
    pictures = {prompts[0].split()[1] for prompts in said.values()}
    assert pictures == {*captioning.pictures()}


def test_every_tile_has_embeddings_of_its_own_caption(
    captioned_once: tuple[Captioning, Prepared],
) -> None:
    _, prepared = captioned_once
    places = [
        (row["path"], (text["shard"], text["offset"]))
        for row in prepared.rows.to_pylist()
        for text in row["texts"]
    ]
    assert len({place for _, place in places}) == PHOTOS + ALL


def test_an_answer_comes_with_all_that_led_to_it(
    captioned_once: tuple[Captioning, Prepared],
) -> None:
    captioning, _ = captioned_once
    crops = captioning.config().concepts[0].image.detail_crops
    (url,) = crops.caption_endpoint
    for row in captioning.answers():
        assert {name for name in CAPTIONS.names if row[name] is None} == {"unusable"}
        told = {name: row[name] for name in CAPTIONS.names[6:] if name in EXPECTED}
        assert told == EXPECTED | {"server": url, "system_prompt": crops.caption_system_prompt}
        assert row["prompts"] == [row["answer"]]
        assert row["answer"].endswith(f"asked {sha_of(row['user_prompt'].encode())[:8]}")
        assert re.fullmatch(r"This is a detail .*: a photo, number [01]", row["user_prompt"])
        assert json.loads(row["options"]) == {"max_tokens": 256, "temperature": 0.0}
        assert 0 < row["seconds"] < 60
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", row["made_at"])


EXPECTED = {
    "server": "",
    "system_prompt": "",
    "protocol": "ollama",
    "model": "tiny:latest",
    "model_digest": DIGEST,
    "template": "This is a detail of a larger photo. About the whole photo: {context}",
    "json_schema": "",
    "sent_width": 64,
    "sent_height": 64,
    "server_version": "0.12.0",
    "attempts": 1,
}


def test_a_second_run_asks_nothing(captioning: Captioning) -> None:
    again = prepared_as_planned(captioning)
    assert again.computed() == NOTHING
    assert (again.counts["captions"].reused, again.created) == (ALL, False)
    assert captioning.asked() == []
    assert captioning.servers[0].unloads == []


def test_another_user_prompt_makes_all_captions_anew(captioning: Captioning) -> None:
    setting = "caption_user_prompt='What is this, in {context}?'"
    after = prepared_as_planned(captioning, setting)
    assert after.computed() == NOTHING | {"captions": ALL, "text": ALL}
    assert after.counts["captions"].changed == ALL
    assert after.counts["captions"].reasons == {"caption_user_prompt changed": ALL}
    assert after.created
    assert len(captioning.asked()) == ALL
    asked = {one.body["prompt"] for one in captioning.asked()}
    assert asked == {f"What is this, in a photo, number {n}?" for n in range(PHOTOS)}
    # The old captions are there still.
    assert prepared_as_planned(captioning).computed() == NOTHING
    assert len(captioning.asked()) == ALL


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("caption_system_prompt='Be short.'", "caption_system_prompt changed"),
        ("caption_system_prompt=''", "caption_system_prompt changed"),
        ("caption_temperature=0.5", "caption_temperature or caption_max_tokens changed"),
        ("caption_max_tokens=99", "caption_temperature or caption_max_tokens changed"),
        (f"caption_json_schema='{json.dumps(SCHEMA)}'", "caption_json_schema changed"),
        ("caption_image_px=32", "caption_image_px changed"),
        ("caption_model='other:1b'", "caption_model changed"),
        ("caption_protocol='openai'", None),
    ],
)
def test_what_decides_an_answer_makes_it_anew_and_is_told(
    captioning: Captioning, setting: str, reason: str | None
) -> None:
    captioning.servers[0].models |= {"other:1b": DIGEST, "tiny": DIGEST}
    plan = captioning.plan(setting)["stages"]["captions"]
    done = captioning.caption(setting)
    assert (done.counts.computed, done.counts.changed) == (ALL, ALL)
    assert plan["computed"] == ALL
    assert plan["reasons"] == done.counts.reasons
    if reason is not None:
        assert done.counts.reasons == {reason: ALL}
    assert len(captioning.asked()) == ALL
    assert captioning.caption(setting).counts.computed == 0


@pytest.mark.parametrize(
    "setting",
    [
        "caption_timeout=7",
        "caption_max_retries=9",
        "caption_parallel=3",
        "caption_min_success=0.5",
        "caption_auto_pull=false",
        "caption_mode='append'",
        "uncaptioned_prompt='empty'",
        "caption_image_px=64",
        "caption_model='TINY:latest'",
        "caption_full_images=true",
    ],
)
def test_what_decides_no_answer_asks_nothing(captioning: Captioning, setting: str) -> None:
    assert captioning.caption(setting).counts.computed == 0
    assert captioning.asked() == []


def test_a_higher_probability_asks_about_more_tiles_only(uncaptioned: Captioning) -> None:
    few, more = "caption_probability=0.2", "caption_probability=0.3"
    uncaptioned = uncaptioned.having("scales=[2, 3]")
    uncaptioned.caption("enable_captioning=false")
    plan = uncaptioned.plan(few)["stages"]["captions"]
    first = uncaptioned.caption(few)
    asked = uncaptioned.pictures()
    assert 0 < len(asked) == first.counts.computed == plan["computed"]
    plan = uncaptioned.plan(more)["stages"]["captions"]
    second = uncaptioned.caption(more)
    added = uncaptioned.pictures()[len(asked) :]
    assert added
    assert not {*added} & {*asked}
    assert (second.counts.reused, second.counts.computed) == (len(asked), len(added))
    assert (plan["reused"], plan["computed"]) == (len(asked), len(added))
    assert second.counts.reasons == {"new": len(added)}
    third = uncaptioned.caption(few)
    assert (third.counts.wanted, third.counts.computed) == (len(asked), 0)
    assert len(uncaptioned.caption("caption_probability=1").answers) > 3 * len(asked)
    assert sorted(uncaptioned.pictures()) == sorted({*uncaptioned.pictures()})


def test_a_lower_probability_gives_tiles_their_inherited_prompts_back(
    captioning: Captioning,
) -> None:
    after = prepared_as_planned(captioning, "caption_probability=0.5")
    counts = after.counts["captions"]
    assert after.computed() == NOTHING
    assert counts.removed == ALL - counts.reused > 0
    origins = [row["prompt_origin"] for row in tiles_of(after)]
    assert origins.count("generated") == counts.reused
    assert origins.count("inherited") == ALL - counts.reused
    assert after.created


def test_another_prompt_of_a_photo_concerns_its_own_tiles(own: Captioning) -> None:
    (own.project.photos / "photo1.txt").write_text("a lighthouse")
    after = prepared_as_planned(own)
    assert after.computed() == NOTHING | {"prompts": 1, "captions": TILES, "text": 1 + TILES}
    assert after.counts["captions"].reasons == {"the prompt of its photo changed": TILES}
    assert {one.body["prompt"] for one in own.asked()} == {
        "This is a detail of a larger photo. About the whole photo: a lighthouse"
    }
    assert len(own.asked()) == TILES


def test_another_prompt_of_a_photo_does_not_matter_where_it_is_not_asked_with(
    own: Captioning,
) -> None:
    own = own.having("caption_user_prompt='What is this?'")
    own.prepare()
    num_asked = len(own.asked())
    (own.project.photos / "photo1.txt").write_text("a lighthouse")
    after = prepared_as_planned(own)
    assert after.computed() == NOTHING | {"prompts": 1, "text": 1}
    assert len(own.asked()) == num_asked


def test_a_renamed_photo_asks_nothing(own: Captioning) -> None:
    before = own.prepare()
    for suffix in (".jpg", ".txt"):
        photo = own.project.photos / f"photo1{suffix}"
        photo.rename(photo.with_name(f"renamed{suffix}"))
    after = prepared_as_planned(own)
    assert after.computed() == NOTHING
    assert after.counts["captions"].removed == 0
    assert own.asked() == []
    assert after.version.content_digest == before.version.content_digest
    named = prepared_as_planned(own, "caption_user_prompt='{file_name}'")
    assert named.counts["captions"].computed == ALL
    assert {one.body["prompt"] for one in own.asked()} == {"photo0.jpg", "renamed.jpg"}


def test_an_added_photo_asks_about_its_own_tiles(own: Captioning) -> None:
    own.project.add_photo("another", 7, "another photo")
    plan = own.plan()["stages"]["captions"]
    after = own.prepare()
    assert after.computed() == {
        "scan": 1,
        "prompts": 1,
        "crops": 1 + TILES,
        "captions": TILES,
        "text": 1 + TILES,
        "latents": 1 + TILES,
    }
    assert after.counts["captions"].new == len(own.asked()) == TILES
    assert (plan["reused"], plan["exact"]) == (ALL, False)
    assert plan["computed"] >= TILES


def test_blank_tiles_are_not_asked_about(captioning: Captioning) -> None:
    setting = ("blank_std_threshold=0.08", "caption_user_prompt='What?'")
    after = prepared_as_planned(captioning, *setting)
    kept = tiles_of(after)
    assert 0 < len(kept) < ALL
    assert after.counts["captions"].computed == len(captioning.asked()) == len(kept)


def test_a_new_model_under_the_name_makes_all_captions_anew(captioning: Captioning) -> None:
    captioning.servers[0].models["tiny:latest"] = NEW_DIGEST
    told = captioning.plan()["stages"]["captions"]
    reason = f"the model behind caption_model changed ({DIGEST[:12]} to {NEW_DIGEST[:12]})"
    assert (told["computed"], told["reasons"]) == (ALL, {reason: ALL})
    after = prepared_as_planned(captioning)
    # It says the same, so nothing is encoded again.
    assert after.computed() == NOTHING | {"captions": ALL}
    assert len(captioning.asked()) == ALL
    assert captioning.caption().counts.computed == 0


@contextmanager
def nobody() -> Iterator[CaptionServer]:
    """A server that was stopped; its port stays its own."""
    with CaptionServer() as server:
        server.stop()
        yield server


def test_a_server_that_is_away_matters_only_when_a_caption_is_missing(
    captioning: Captioning, caplog: pytest.LogCaptureFixture
) -> None:
    with nobody() as away:
        alone = captioning.asking(away)
        assert prepared_as_planned(alone).computed() == NOTHING
        setting = "caption_user_prompt='What?'"
        told = alone.plan(setting)["stages"]["captions"]
        assert (told["computed"], told["reasons"]) == (ALL, {"caption_user_prompt changed": ALL})
        assert f"no caption server answers ({away.url}: no connection)" in caplog.text
        assert f"{ALL} captions are missing" in caplog.text
        with pytest.raises(CaptionerError, match=rf"no caption server answers \({away.url}: no"):
            alone.caption(setting)
        # The other one does its work; what it is to do with the plan's digest is the same.
        done = captioning.asking(away, captioning.servers[0]).caption(setting)
        assert (done.counts.computed, done.rejects) == (ALL, {})


def test_a_server_that_lost_its_model_matters_only_when_a_caption_is_missing(
    captioning: Captioning,
) -> None:
    captioning.servers[0].models.clear()
    assert prepared_as_planned(captioning, "caption_auto_pull=false").computed() == NOTHING
    with pytest.raises(CaptionerError, match="has no model 'tiny:latest'.*ollama pull tiny"):
        captioning.caption("caption_auto_pull=false", "caption_user_prompt='What?'")


def test_a_missing_model_is_downloaded_and_asked(
    uncaptioned: Captioning, caplog: pytest.LogCaptureFixture
) -> None:
    server = uncaptioned.servers[0]
    server.models, server.registry = {}, {"tiny:latest": DIGEST}
    told = uncaptioned.plan()["stages"]["captions"]
    assert (told["computed"], server.models) == (ALL, {})
    assert f"caption server {server.url} has no model tiny:latest yet" in caplog.text
    done = uncaptioned.caption()
    assert done.counts.computed == ALL
    assert {row["model_digest"] for row in done.answers} == {DIGEST}
    assert uncaptioned.caption().counts.computed == 0


def test_captions_may_follow_the_prompt_of_the_photo(captioning: Captioning) -> None:
    after = prepared_as_planned(captioning, "caption_mode='append'")
    assert after.computed() == NOTHING | {"text": ALL}
    said = {row["view_id"]: row["answer"] for row in captioning.answers()}
    for row in tiles_of(after):
        number = Path(row["path"]).stem[-1]
        assert row["prompts"] == [f"a photo, number {number}, {said[row['view_id']]}"]
        assert row["prompt_origin"] == "generated"


def test_tiles_without_a_caption_may_have_the_empty_prompt(captioning: Captioning) -> None:
    settings = ("caption_probability=0.5", "uncaptioned_prompt='empty'")
    after = prepared_as_planned(captioning, *settings)
    assert after.computed() == NOTHING
    prompts = {row["prompt_origin"]: row["prompts"] for row in tiles_of(after)}
    assert prompts.keys() == {"generated", "none"}
    assert prompts["none"] == [""]
    assert {row["prompt_origin"] for row in photos_of(after)} == {"sidecar"}


UNUSABLE = {
    "unclear": Fault.answer("unclear_crop"),
    "empty": Fault.answer("<think>What is it?</think>"),
    "refusal": Fault.answer("I'm sorry, I cannot describe it."),
    "repetition": Fault.answer("a wall, " * 40),
    "cut off": Fault.length("a wall of"),
    "echo": Fault.answer("What do you see in this picture of mine?"),
}


def test_answers_that_are_no_captions_are_kept_and_not_asked_for_again(
    uncaptioned: Captioning,
) -> None:
    server = uncaptioned.servers[0]
    server.script = list(UNUSABLE.values())
    asking = uncaptioned.having(
        "caption_user_prompt='What do you see in this picture of mine?'", "caption_min_success=1"
    )
    first = asking.prepare()
    counts = first.counts["captions"]
    assert (counts.computed, counts.rejected) == (ALL - len(UNUSABLE), len(UNUSABLE))
    reasons = {reason for path, reason in first.rejects}
    assert reasons == {f"the answer is no caption: {kind}" for kind in UNUSABLE}
    assert all(re.search(r"photo[01]\.jpg, detail x1.5 at \d", path) for path, _ in first.rejects)
    bad = {row["unusable"]: row for row in asking.answers() if row["unusable"]}
    assert bad.keys() == UNUSABLE.keys()
    for kind, fault in UNUSABLE.items():
        assert (bad[kind]["answer"], bad[kind]["prompts"]) == (fault.text, None)
        assert bad[kind]["server"] == server.url
    views = {row["view_id"] for row in bad.values()}
    origins = {row["prompt_origin"] for row in tiles_of(first) if row["view_id"] in views}
    assert origins == {"inherited"}
    assert len(asking.asked()) == ALL

    again = prepared_as_planned(asking)
    assert again.computed() == NOTHING
    assert (again.counts["captions"].reused, again.counts["captions"].rejected) == (
        ALL - len(UNUSABLE),
        len(UNUSABLE),
    )
    assert sorted(again.rejects) == sorted(first.rejects)
    assert len(asking.asked()) == ALL

    refreshed = asking.prepare("refresh=['captions']")
    counts = refreshed.counts["captions"]
    assert (counts.computed, counts.rejected) == (ALL, 0)
    assert counts.reasons == {"refresh was asked for": ALL}
    assert len(asking.asked()) == 2 * ALL
    assert {row["prompt_origin"] for row in tiles_of(refreshed)} == {"generated"}
    assert asking.caption().counts.rejected == 0


def test_another_prompt_asks_again_about_what_had_no_caption(uncaptioned: Captioning) -> None:
    uncaptioned.servers[0].script = [Fault.answer("unclear_crop")] * 3
    assert uncaptioned.caption().counts.rejected == 3
    done = uncaptioned.caption("caption_user_prompt='What?'")
    assert (done.counts.computed, done.counts.rejected) == (ALL, 0)
    assert uncaptioned.caption().counts.rejected == 3
    assert len(uncaptioned.asked()) == 2 * ALL


def test_photos_without_a_prompt_may_be_captioned(own: Captioning) -> None:
    (own.project.photos / "photo1.txt").unlink()
    settings = ("enable_captioning=false", "caption_full_images=true")
    after = prepared_as_planned(own, *settings)
    (request,) = own.asked()
    said = says_which_of(request.images[0], request.body["prompt"])
    assert request.body["prompt"].endswith("About the whole photo: nothing")
    assert after.counts["captions"].computed == 1
    rows = [row for row in after.rows.to_pylist() if "photo1" in row["path"]]
    assert {row["prompts"][0] for row in rows} == {said}
    assert {row["prompt_origin"] for row in rows} == {"generated", "inherited"}
    others = [row for row in after.rows.to_pylist() if "photo0" in row["path"]]
    assert {row["prompts"][0] for row in others} == {"a photo, number 0"}
    assert prepared_as_planned(own, *settings).computed() == NOTHING
    # A prompt of its own counts more, and the caption waits for when it goes.
    (own.project.photos / "photo1.txt").write_text("a lighthouse")
    assert own.prepare(*settings).counts["captions"].wanted == 0
    (own.project.photos / "photo1.txt").unlink()
    assert prepared_as_planned(own, *settings).computed() == NOTHING
    assert len(own.asked()) == 1


def says_which_of(sha: str, prompt: str) -> str:
    return f"picture {sha} asked {sha_of(prompt.encode())[:8]}"


def add_concept(own: Captioning, *lines: str) -> tuple[str, ...]:
    """A second concept of the same photos; gives its settings."""
    toml = own.project.run_toml
    more = '[[concepts]]\nname = "second"\npath = "photos"\n[concepts.image.detail_crops]\n'
    toml.write_text("\n".join([toml.read_text(), more, "enabled = true\nscales = [1.5]", *lines]))
    url = own.servers[0].url
    place = CROPS.replace("0", "1")
    return (
        f"{place}enable_captioning=true",
        f"{place}caption_endpoint='{url}'",
        f"{place}caption_model='tiny'",
        f"{place}caption_probability=1",
    )


def test_each_concept_has_captions_of_its_own(own: Captioning) -> None:
    both = own.having(*add_concept(own, 'caption_user_prompt = "As {concept}: {context}"'))
    after = prepared_as_planned(both)
    assert after.counts["captions"].computed == len(own.asked()) == ALL
    by_concept = {
        name: {
            row["view_id"]: row["prompts"][0] for row in tiles_of(after) if row["concept"] == name
        }
        for name in ("photos", "second")
    }
    assert by_concept["photos"].keys() == by_concept["second"].keys()
    assert not {*by_concept["photos"].values()} & {*by_concept["second"].values()}
    assert {one.body["prompt"] for one in own.asked()} == {
        f"As second: a photo, number {number}" for number in range(PHOTOS)
    }


def test_concepts_that_ask_the_same_share_the_answer(own: Captioning) -> None:
    both = own.having(*add_concept(own))
    after = prepared_as_planned(both)
    assert after.counts["captions"].computed == 0
    assert own.asked() == []
    rows = tiles_of(after)
    assert {(row["concept"], row["prompt_origin"]) for row in rows} == {
        ("photos", "generated"),
        ("second", "generated"),
    }
    done = both.caption(
        "caption_user_prompt='What?'", f"{CROPS.replace('0', '1')}caption_user_prompt='What?'"
    )
    assert done.counts.computed == len(own.asked()) == ALL


def exporting(own: Captioning) -> tuple[Captioning, Path]:
    tiles = own.project.folder / "tiles"
    return own.having("save_to_disk=true", f"save_directory={str(tiles)!r}"), tiles


def test_an_edit_counts_more_than_a_caption(own: Captioning) -> None:
    saving, tiles = exporting(own)
    before = saving.prepare()
    sidecars = sorted(tiles.glob("*.txt"))
    assert len(sidecars) == ALL
    captions = {row["prompts"][0] for row in tiles_of(before)}
    assert {path.read_text().strip() for path in sidecars} == captions
    original = sidecars[0].read_text()
    sidecars[0].write_text("rigging against the evening sky")
    after = prepared_as_planned(saving)
    assert after.computed() == NOTHING | {"captions": 1, "text": 1}
    assert own.asked() == []
    (edited,) = [row for row in tiles_of(after) if row["prompt_origin"] == "edited"]
    assert edited["prompts"] == ["rigging against the evening sky"]
    # It is asked about no more, whatever is asked now.
    changed = prepared_as_planned(saving, "caption_user_prompt='What?'")
    assert changed.counts["captions"].computed == len(own.asked()) == ALL - 1
    assert [row["prompts"] for row in tiles_of(changed) if row["prompt_origin"] == "edited"] == [
        ["rigging against the evening sky"]
    ]
    # Set back, its old caption is there again.
    sidecars[0].write_text(original)
    back = prepared_as_planned(saving)
    assert {row["prompt_origin"] for row in tiles_of(back)} == {"generated"}
    assert len(own.asked()) == ALL - 1


def test_no_server_is_needed_for_tiles_that_people_edited(own: Captioning) -> None:
    saving, tiles = exporting(own)
    saving.prepare()
    sidecars = sorted(tiles.glob("*.txt"))
    sidecars[0].write_text("rigging against the evening sky")
    changed = saving.having("caption_user_prompt='What?'")
    changed.prepare()
    num_asked = len(own.asked())
    with nobody() as away:
        after = prepared_as_planned(changed.asking(away))
        assert after.computed() == NOTHING
        sidecars[1].write_text("ropes")
        assert prepared_as_planned(changed.asking(away)).counts["captions"].computed == 1
    assert len(own.asked()) == num_asked == ALL - 1


def test_the_model_leaves_memory_at_the_end_and_only_then(uncaptioned: Captioning) -> None:
    server = uncaptioned.servers[0]
    uncaptioned.caption()
    kinds = [
        "asked" if one.images else "unloaded"
        for one in server.requests
        if one.path == "/api/generate"
    ]
    assert kinds == ["asked"] * ALL + ["unloaded"]
    assert server.unloads == ["tiny:latest"]
    assert not server.loaded


def test_each_model_leaves_memory_when_its_work_is_done(own: Captioning) -> None:
    place = CROPS.replace("0", "1")
    server = own.servers[0]
    server.models["other:latest"] = NEW_DIGEST
    both = own.having(*add_concept(own), f"{place}caption_model='other'")
    done = both.caption("caption_user_prompt='What?'")
    assert done.counts.computed == 2 * ALL
    assert sorted(server.unloads) == ["other:latest", "tiny:latest"]
    assert not server.loaded
    models = [one.body["model"] for one in own.asked()]
    assert len([1 for a, b in zip(models, models[1:], strict=False) if a != b]) == 1


def test_a_schema_is_sent_and_its_values_become_the_caption(uncaptioned: Captioning) -> None:
    server = uncaptioned.servers[0]
    server.answer = lambda picture, prompt: f"word {sha_of(picture)[:6]}"
    broken = '{"subject": "a wall"}'
    server.script = [Fault.answer("no JSON"), Fault.answer(broken), Fault.answer("[]")]
    done = uncaptioned.caption(f"caption_json_schema='{json.dumps(SCHEMA)}'")
    assert (done.counts.computed, done.counts.rejected) == (ALL - 3, 3)
    assert set(done.rejects.values()) == {"the answer is no caption: not the JSON asked for"}
    assert {json.dumps(one.body["format"]) for one in uncaptioned.asked()} == {json.dumps(SCHEMA)}
    usable = [row for row in done.answers if row["unusable"] is None]
    for row in usable:
        said = json.loads(row["answer"])
        assert row["prompts"] == [f"{said['colour']}, {said['subject']}"]
        assert json.loads(row["json_schema"]) == SCHEMA
    assert len(usable) == ALL - 3


def test_the_pictures_are_the_tiles_and_always_the_same(
    uncaptioned: Captioning, tmp_path: Path
) -> None:
    seen: list[dict[str, bytes]] = []
    for number in range(2):
        pictures: dict[str, bytes] = {}

        def answer(picture: bytes, prompt: str, pictures: dict[str, bytes] = pictures) -> str:
            pictures[sha_of(picture)] = picture
            return says_which(picture, prompt)

        with CaptionServer(answer=answer) as server:
            fresh = uncaptioned.asking(server).having(f"store.url={str(tmp_path / str(number))!r}")
            fresh.caption("caption_image_px=48", f"caption_parallel={1 + 3 * number}")
        seen.append(pictures)
    assert seen[0] == seen[1]
    assert len(seen[0]) == ALL
    for picture in seen[0].values():
        image = Image.open(io.BytesIO(picture))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (48, 48))


def test_a_request_is_complete(uncaptioned: Captioning) -> None:
    uncaptioned.servers[0].capabilities = ("completion", "vision", "thinking")
    uncaptioned.caption("caption_temperature=0.25", "caption_max_tokens=77")
    for request in uncaptioned.asked():
        assert (request.method, request.path) == ("POST", "/api/generate")
        prompt = request.body.pop("prompt")  # type: ignore[attr-defined]
        assert prompt.startswith("This is a detail of a larger photo. About the whole photo: a ph")
        assert request.body == {
            "model": "tiny:latest",
            "system": uncaptioned.config().concepts[0].image.detail_crops.caption_system_prompt,
            "options": {"temperature": 0.25, "num_predict": 77, "seed": 0},
            "stream": True,
            "think": False,
        }
        assert len(request.images) == 1


def test_a_server_of_the_other_protocol_captions_as_well(uncaptioned: Captioning) -> None:
    uncaptioned.servers[0].models = {"org/Tiny-VL": DIGEST}
    settings = ("caption_protocol='openai'", "caption_model='org/Tiny-VL'")
    done = uncaptioned.caption(*settings)
    assert (done.counts.computed, done.rejects) == (ALL, {})
    row = done.answers[0]
    told = [row[name] for name in ("protocol", "model", "model_digest", "server_version")]
    assert told == ["openai", "org/Tiny-VL", "", ""]
    assert {one.path for one in uncaptioned.asked()} == {"/v1/chat/completions"}
    assert uncaptioned.caption(*settings).counts.computed == 0
    # The address of such a server is often given with its /v1.
    url = f"{uncaptioned.servers[0].url}/v1"
    refreshed = uncaptioned.caption(*settings, f"caption_endpoint='{url}'", "refresh=['captions']")
    assert refreshed.counts.computed == ALL


def test_a_damaged_or_removed_answer_is_asked_for_again(captioning: Captioning) -> None:
    shards = sorted((Path(captioning.config().store.url) / "stages/captions").glob("*/index/*"))
    assert shards
    shards[0].unlink()
    after = captioning.caption()
    assert after.counts.computed == len(captioning.asked()) > 0
    assert captioning.caption().counts.computed == 0


def test_captions_of_a_validation_concept_are_made_too(own: Captioning) -> None:
    settings = ("concepts.0.type='validation'", "caption_user_prompt='What?'")
    add_concept(own)
    done = own.caption(*settings, f"{CROPS.replace('0', '1')}enable_captioning=false")
    assert done.counts.computed == ALL
    make_old(own.project.run_toml)
