"""What is stored is what the models give: latents of the cut pixels, text of the prompts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from safetensors import safe_open

from storage.quarantine import read_quarantine
from storage.store import open_store
from tasks.encode import latents
from tasks.families import get_family, vae
from tasks.families.loading import load_component
from tasks.families.sources import resolve_model
from tasks.families.vae import encode_latents
from tasks.imaging.decode import decode
from tasks.imaging.jobs import row_view
from tasks.imaging.views import view_pixels
from tests.model_fixtures import TinyModels
from tests.projects import Prepared, Project, make_project


@pytest.fixture(scope="module", params=["sd15", "sdxl", "sd3", "sana"])
def prepared(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_models: TinyModels,
) -> tuple[Project, Prepared]:
    folder = tmp_path_factory.mktemp("encode") / "project"
    project = make_project(folder, tiny_models[request.param], family=request.param, num_photos=2)
    # Of the formats, the one that every family has.
    text = project.run_toml.read_text()
    project.run_toml.write_text(text.replace("[data]", 'output_format = "diffusers_lora"\n[data]'))
    return project, project.prepare("data.resolution='128'")


def stored(project: Project, stage: str, shard: str) -> Path:
    return project.folder / "store" / stage / "shards" / f"{shard}.safetensors"


def test_a_latent_is_the_vae_mean_of_the_cut_pixels(prepared: tuple[Project, Prepared]) -> None:
    project, result = prepared
    model = project.config().model
    family = get_family(model.family)
    source = resolve_model(model.base, family)
    vae = load_component(source, family, "vae", torch.float32)
    vae = vae.to(memory_format=torch.channels_last)
    for row in result.rows.to_pylist()[::7]:
        pixels = view_pixels(decode(Path(row["path"]).read_bytes()), row_view(row))
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        batch = batch.contiguous(memory_format=torch.channels_last)
        expected = encode_latents(vae, batch, family.encode_image)[0]
        with safe_open(stored(project, row["latent_stage"], row["latent_shard"]), "pt") as shard:
            latent = shard.get_tensor(f"{row['sample_id'].hex()}.latent")
        edges = (row["bucket_height"], row["bucket_width"])
        assert tuple(latent.shape[1:]) == tuple(edge // family.latent_factor for edge in edges)
        torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-5)


def test_texts_are_there_for_every_encoder_and_the_empty_prompt(
    prepared: tuple[Project, Prepared],
) -> None:
    project, result = prepared
    family = get_family(project.config().model.family)
    names = [encoder.name for encoder in family.text_encoders]
    for row in result.rows.to_pylist():
        assert [text["encoder"] for text in row["texts"]] == names
    empty = result.version.meta["extra"]["unconditional"]
    assert [text["encoder"] for text in empty] == names
    fields = {encoder.name: encoder.fields for encoder in family.text_encoders}
    for text in empty:
        with safe_open(stored(project, text["stage"], text["shard"]), "pt") as shard:
            found = {name.split(".")[1] for name in shard.keys() if not name.endswith("._pad")}  # noqa: SIM118
        assert found == set(fields[text["encoder"]])


def test_a_non_finite_latent_is_rejected_with_advice(
    tmp_path: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=2)
    real = encode_latents
    calls = iter(range(10**6))

    def sometimes_infinite(vae: object, pixels: torch.Tensor, reader: None) -> torch.Tensor:
        found = real(vae, pixels, reader)
        return found / 0 if next(calls) == 0 else found

    # A float16 VAE that overflows cannot be had on this CPU; its output can.
    monkeypatch.setattr(vae, "encode_latents", sometimes_infinite)
    result = project.prepare("data.encode_batch_size=1")
    assert result.counts["latents"].rejected == 1
    rejected = read_quarantine(open_store(project.config().store.url), "latents")
    assert "not finite" in rejected["reason"][0].as_py()
    again = project.prepare()
    assert again.counts["latents"].computed == 0
    assert again.counts["latents"].rejected == 1


def test_a_source_that_changes_during_the_run_is_left_for_the_next_one(
    tmp_path: Path, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=3)
    victim = project.photos / "photo1.jpg"
    original = victim.read_bytes()
    real = latents.cut_sources

    def change_then_read(*arguments: object) -> object:
        victim.write_bytes(original[:-2] + b"\xff\xd9\x00")
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(latents, "cut_sources", change_then_read)
        result = project.prepare()
    paths = set(result.rows["path"].to_pylist())
    assert str(victim) not in paths
    assert len(paths) == 2
    assert result.counts["latents"].rejected == 1
    victim.write_bytes(original)
    healed = project.prepare()
    assert str(victim) in set(healed.rows["path"].to_pylist())
    assert (
        healed.counts["latents"].computed
        == pc.sum(pc.equal(healed.rows["path"], pa.scalar(str(victim)))).as_py()
    )
