"""Rows of a lineage: every key and model is the one that the store's own records tell."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.index import read_index
from storage.store import Store
from storage.tables import get_table
from tasks.captions.generated import STAGE_ID
from tasks.lineage.record import dataset_facts, row_counts
from tasks.lineage.rows import LINEAGE_ROWS, lineage_rows
from tasks.stage import Context
from tests.caption_server import DIGEST, CaptionServer
from tests.captioning import Captioning, make_captioning, says_which
from tests.model_fixtures import TinyModels
from tests.projects import Prepared, make_project


@pytest.fixture(scope="module")
def captioned(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: TinyModels
) -> Iterator[tuple[Captioning, Prepared]]:
    """Two photos, some of whose tiles have captions."""
    folder = tmp_path_factory.mktemp("lineage") / "project"
    with CaptionServer(answer=says_which) as server:
        captioning = make_captioning(folder, tiny_models["sd15"], server, num_photos=2)
        captioning = captioning.having("scales=[1.5]", "caption_probability=0.5")
        yield captioning, captioning.prepare()


def store_of(captioning: Captioning) -> Store:
    return Context(captioning.config()).store


def test_captions_have_their_model(captioned: tuple[Captioning, Prepared]) -> None:
    captioning, prepared = captioned
    store = store_of(captioning)
    rows = lineage_rows(store, prepared.version)
    assert rows.schema.equals(LINEAGE_ROWS) and rows["row_id"] == prepared.rows["row_id"]
    made = {
        row["view_id"]: (row["model"], row["model_digest"], row["prompts"])
        for row in read_index(store, "captions", STAGE_ID).to_pylist()
    }
    origins = Counter(rows["prompt_origin"].to_pylist())
    assert origins["generated"] == len(made) > 0 and origins["inherited"] > 0
    for row in rows.to_pylist():
        told = (row["caption_model"], row["caption_model_digest"])
        if row["prompt_origin"] == "generated":
            assert (*told, row["prompts"]) == made[row["view_id"]]
            assert told[1] == DIGEST
        else:
            assert told == (None, None)
    (counted,) = row_counts(rows)["captions"]
    assert counted == {"model": "tiny:latest", "digest": DIGEST, "rows": origins["generated"]}


def test_keys_are_those_of_the_stages(captioned: tuple[Captioning, Prepared]) -> None:
    captioning, prepared = captioned
    store = store_of(captioning)
    stages = prepared.version.meta["stages"]
    texts = {
        (row["encoder"], row["prompt"]): row["key"]
        for row in get_table(store, stages["text"]["manifest"]).to_pylist()
    }
    latents = read_index(store, "latents", stages["latents"]["stage_id"], ["key"])
    known = set(latents["key"].to_pylist())
    for row in lineage_rows(store, prepared.version).to_pylist():
        assert row["latent_key"] in known
        assert [text["prompt"] for text in row["texts"]] == list(range(len(row["prompts"])))
        for text in row["texts"]:
            assert text["key"] == texts[text["encoder"], row["prompts"][text["prompt"]]]


def test_stages_tell_what_made_them(captioned: tuple[Captioning, Prepared]) -> None:
    captioning, prepared = captioned
    facts = dataset_facts(store_of(captioning), prepared.version)
    stages = facts["stages"]
    (vae,) = stages["latents"]["made_by"].values()
    assert vae["vae"] and vae["dtype"] == "float32"
    (encoder,) = stages["text"]["made_by"].values()
    assert encoder["encoder"] == "text_encoder_1" and encoder["weights"]
    assert STAGE_ID in stages["captions"]["made_by"]
    assert facts["dataset"]["content_digest"] == prepared.version.content_digest


def test_without_latents_or_manifests_keys_are_unknown(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    project.prepare()
    live = project.prepare("data.latent_caching=false", "parts.text_encoder_1={train=true}")
    store = Context(project.config()).store
    rows = lineage_rows(store, live.version)
    assert rows["latent_key"].null_count == rows.num_rows > 0
    assert set(map(len, rows["texts"].to_pylist())) == {0}

    cached = project.prepare()
    for stage in ("latents", "text"):
        store.delete(cached.version.meta["stages"][stage]["manifest"])
    rows = lineage_rows(store, cached.version)
    assert rows["latent_key"].null_count == rows.num_rows
    assert {text["key"] for texts in rows["texts"].to_pylist() for text in texts} == {None}
