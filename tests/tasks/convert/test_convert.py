"""Conversions between output formats: what comes out acts as what went in."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tasks.convert.content import look_into
from tasks.convert.convert import Wish, convert
from tasks.families.clip import CLIP_LORA_TARGETS
from tasks.families.loading import load_component
from tasks.families.sources import resolve_model
from tasks.train.formats import OUTPUT_FORMATS
from tests.model_fixtures import TinyModels
from tests.tasks.train.formats.models import (
    FAMILIES,
    LOHA,
    LORA,
    adapt,
    load,
    predict,
    stock,
    trained,
)


def a_lora(folder: Path, name: str, layout: str, path: Path, method=LORA) -> Path:
    pipeline = stock(folder, name)
    parts = {"denoiser": adapt(pipeline.unet, method, ["to_q", "conv1"])}
    if method is LORA:
        parts["text_encoder_1"] = adapt(pipeline.text_encoder, method, CLIP_LORA_TARGETS)
    return OUTPUT_FORMATS[layout](path, trained(folder, name, method, parts))


def drawn_with(folder: Path, name: str, lora: Path) -> torch.Tensor:
    pipeline = stock(folder, name)
    pipeline.load_lora_weights(str(lora))
    return predict(pipeline, name)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize(
    ("before", "after"), [("kohya_lora", "diffusers_lora"), ("diffusers_lora", "kohya_lora")]
)
def test_a_lora_between_the_layouts(
    tiny_models: TinyModels, tmp_path: Path, name: str, before: str, after: str
) -> None:
    folder = tiny_models[name]
    path = a_lora(folder, name, before, tmp_path / "a.safetensors")
    wish = Wish(path=path, destination=tmp_path / "b.safetensors", to=after, base=str(folder))
    assert convert(wish) == {
        "path": str(tmp_path / "b.safetensors"),
        "from": before,
        "to": after,
        "dtype": "float32",
    }
    wanted, found = (drawn_with(folder, name, tmp_path / f"{one}.safetensors") for one in "ab")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert look_into(wish.destination).layout == after
    with safe_open(wish.destination, "pt") as file, safe_open(path, "pt") as original:
        new, old = file.metadata(), original.metadata()
    assert new["ss_tag_frequency"] == old["ss_tag_frequency"]
    assert new["tilewright.dataset"] == "harbour@3"
    assert new["sshs_model_hash"] != old["sshs_model_hash"]


def test_there_and_back_is_the_same_file(tiny_models: TinyModels, tmp_path: Path) -> None:
    folder = tiny_models["sdxl"]
    path = a_lora(folder, "sdxl", "diffusers_lora", tmp_path / "a.safetensors")
    for source, target, to in (("a", "b", "kohya_lora"), ("b", "c", "diffusers_lora")):
        places = (tmp_path / f"{one}.safetensors" for one in (source, target))
        wish = Wish(
            **dict(zip(("path", "destination"), places, strict=True)), to=to, base=str(folder)
        )
        convert(wish)
    first, last = load_file(path), load_file(tmp_path / "c.safetensors")
    assert first.keys() == last.keys()
    assert all(torch.equal(first[key], last[key]) for key in first)


@pytest.mark.parametrize("name", ["sd15", "sd2", "sdxl"])
def test_a_folder_and_a_single_file(tiny_models: TinyModels, tmp_path: Path, name: str) -> None:
    folder = tiny_models[name]
    file, back = tmp_path / "m.safetensors", tmp_path / "back"
    convert(Wish(path=folder, destination=file, to="single_file", family=name))
    made = convert(Wish(path=file, destination=back, to="diffusers", base=str(folder), family=name))
    assert made["dtype"] == "float32"
    for component in ("unet", "vae", "text_encoder"):
        before, after = (load(one, name, component).state_dict() for one in (folder, back))
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert resolve_model(str(back), FAMILIES[name]).kind == "diffusers"


def test_the_family_is_that_of_the_base(tiny_models: TinyModels, tmp_path: Path) -> None:
    folder, file = tiny_models["sdxl"], tmp_path / "m.safetensors"
    convert(Wish(path=folder, destination=file, to="single_file"))
    convert(Wish(path=file, destination=tmp_path / "back", to="diffusers", base=str(folder)))
    with pytest.raises(ValueError, match="--family"):
        convert(Wish(path=file, destination=tmp_path / "x", to="diffusers"))


def test_data_types(tiny_models: TinyModels, tmp_path: Path) -> None:
    folder = tiny_models["sd15"]
    half = convert(Wish(path=folder, destination=tmp_path / "h", to="diffusers", dtype="float16"))
    assert half["dtype"] == "float16"
    assert look_into(tmp_path / "h").dtype == "float16"
    source = resolve_model(str(tmp_path / "h"), FAMILIES["sd15"])
    kept = load_component(source, FAMILIES["sd15"], "unet", torch.float16).state_dict()
    before = load(folder, "sd15", "unet").state_dict()
    assert all(torch.equal(kept[key], one.half()) for key, one in before.items())

    path = a_lora(folder, "sd15", "kohya_lora", tmp_path / "a.safetensors")
    wish = Wish(
        path=path, destination=tmp_path / "b.safetensors", to="kohya_lora", dtype="bfloat16"
    )
    convert(wish)  # no base: the names stay
    first, last = load_file(path), load_file(wish.destination)
    assert first.keys() == last.keys()
    assert all(torch.equal(first[key].bfloat16(), last[key]) for key in first)


def test_words(tmp_path: Path) -> None:
    path = tmp_path / "boat.safetensors"
    save_file({"emb_params": torch.randn(2, 8)}, path)
    wish = Wish(path=path, destination=tmp_path / "b.safetensors", to="embedding", dtype="float16")
    assert convert(wish)["from"] == "embedding"
    assert torch.equal(
        load_file(wish.destination)["emb_params"], load_file(path)["emb_params"].half()
    )
    save_file({"emb_params": torch.full((2, 8), 1e6)}, tmp_path / "big.safetensors")
    with pytest.raises(ValueError, match="no torch.float16 numbers"):
        convert(
            Wish(
                path=tmp_path / "big.safetensors",
                destination=tmp_path / "c.safetensors",
                to="embedding",
                dtype="float16",
            )
        )


def test_what_cannot_be(tiny_models: TinyModels, tmp_path: Path) -> None:
    folder, out = tiny_models["sd15"], tmp_path / "out.safetensors"
    path = a_lora(folder, "sd15", "kohya_lora", tmp_path / "a.safetensors")
    with pytest.raises(
        ValueError, match="adapter in kohya's layout; --to diffusers.*kohya_lora or"
    ):
        convert(Wish(path=path, destination=out, to="diffusers"))
    with pytest.raises(ValueError, match="name the model that it is for with --base"):
        convert(Wish(path=path, destination=out, to="diffusers_lora"))
    with pytest.raises(ValueError, match="none of this sdxl model"):
        base = str(tiny_models["sdxl"])
        convert(Wish(path=path, destination=out, to="diffusers_lora", base=base))
    loha = a_lora(folder, "sd15", "kohya_lora", tmp_path / "l.safetensors", LOHA)
    with pytest.raises(ValueError, match="stock diffusers loads no loha"):
        convert(Wish(path=loha, destination=out, to="diffusers_lora", base=str(folder)))
    out.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        convert(Wish(path=path, destination=out, to="kohya_lora", dtype="float16"))
    assert out.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"mystery": (2, 2, 2)}, "no adapter.*1 tensors such as mystery"),
        ({"a.weight": (2, 2), "b.weight": (2, 2)}, "2 tensors such as a.weight, b.weight"),
    ],
)
def test_what_is_unknown(tmp_path: Path, tensors: dict, told: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({key: torch.ones(shape) for key, shape in tensors.items()}, path)
    with pytest.raises(ValueError, match=told):
        look_into(path)


def test_what_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing exists"):
        look_into(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"without model_index.json"):
        look_into(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"not one")
    with pytest.raises(ValueError, match="no safetensors file"):
        look_into(tmp_path / "x.safetensors")
