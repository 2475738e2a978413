"""Words of textual inversion: files that stock diffusers loads, alone, several, beside a model."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tasks.config.methods import Embedding
from tasks.families import FAMILIES
from tasks.train.embeddings import add_words, spell_out
from tasks.train.formats import OUTPUT_FORMATS, words_folder
from tasks.train.formats.embedding import encoder_keys, read_words, word_file
from tests.model_fixtures import TinyModels
from tests.tasks.train.formats.models import (
    FULL,
    LORA,
    WORDS,
    adapt,
    load,
    source_of,
    stock,
    trained,
)


def some_words(pipeline, name: str, counts: dict[str, int]):
    """Random vectors for each placeholder, put into the pipeline as in training."""
    encoders = {
        one.name: (getattr(pipeline, one.tokenizer), getattr(pipeline, one.model))
        for one in FAMILIES[name].text_encoders
    }
    settings = [Embedding(placeholder=word, num_vectors=n) for word, n in counts.items()]
    words = add_words(settings, encoders, torch.float32)
    for word in words:
        for vectors in word.vectors.values():
            torch.nn.init.normal_(vectors)
    return words, {
        word.settings.placeholder: {key: one.detach() for key, one in word.vectors.items()}
        for word in words
    }


def encoded(pipeline, name: str, prompt: str) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {
            f"{one.name} {field}": value
            for one in FAMILIES[name].text_encoders
            for field, value in one.encode(
                getattr(pipeline, one.model), getattr(pipeline, one.tokenizer), [prompt], 0
            ).items()
        }


def load_word(pipeline, name: str, path: Path, token: str) -> None:
    """As the documentation of diffusers says."""
    if name != "sdxl":
        pipeline.load_textual_inversion(str(path), token=token)
        return
    tensors = load_file(path)
    for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
        encoder = getattr(pipeline, f"text_encoder{suffix}")
        tokenizer = getattr(pipeline, f"tokenizer{suffix}")
        pipeline.load_textual_inversion(
            tensors[key], token=token, text_encoder=encoder, tokenizer=tokenizer
        )


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize("count", [1, 3])
def test_stock_diffusers_loads_a_word(
    tiny_models: TinyModels, tmp_path: Path, name: str, count: int
) -> None:
    ours, theirs = stock(tiny_models[name], name), stock(tiny_models[name], name)
    words, vectors = some_words(ours, name, {"<boat>": count})
    model = trained(tiny_models[name], name, WORDS, {}, embeddings=vectors)
    path = OUTPUT_FORMATS["embedding"](tmp_path / "boat.safetensors", model)
    load_word(theirs, name, path, "<boat>")
    wanted = encoded(ours, name, spell_out("a <boat> at dawn", words))
    prompt = theirs.maybe_convert_prompt("a <boat> at dawn", theirs.tokenizer)
    found = encoded(theirs, name, prompt)
    for key, value in wanted.items():
        if key.endswith("pooled"):
            continue  # the stock encoder looks for the largest id, which is now the new word's
        torch.testing.assert_close(found[key], value)
    back = read_words(path, FAMILIES[name], source_of(tiny_models[name], name))["boat"]
    assert all(torch.equal(back[key], one) for key, one in vectors["<boat>"].items())
    with safe_open(path, "pt") as file:
        assert file.metadata()["modelspec.trigger_phrase"] == "<boat>"
        assert file.metadata()["modelspec.architecture"].endswith("/textual-inversion")


def test_several_words_are_a_folder(tiny_models: TinyModels, tmp_path: Path) -> None:
    _, vectors = some_words(stock(tiny_models["sd15"], "sd15"), "sd15", {"<a b/c>": 1, "sea": 2})
    model = trained(tiny_models["sd15"], "sd15", WORDS, {}, embeddings=vectors, dtype="float16")
    folder = OUTPUT_FORMATS["embedding"](tmp_path / "words", model)
    shapes = {path.name: load_file(path)["emb_params"].shape for path in folder.iterdir()}
    assert shapes == {"a_b_c.safetensors": (1, 32), "sea.safetensors": (2, 32)}
    assert load_file(folder / "sea.safetensors")["emb_params"].dtype == torch.float16
    twins = trained(
        tiny_models["sd15"], "sd15", WORDS, {}, embeddings={"<x>": vectors["sea"], "x": {}}
    )
    with pytest.raises(ValueError, match="same file 'x.safetensors'"):
        OUTPUT_FORMATS["embedding"](tmp_path / "twins", twins)
    assert [path.name for path in tmp_path.iterdir()] == ["words"]


@pytest.mark.parametrize(
    ("placeholder", "file"),
    [("<boat>", "boat"), ("../x", "x"), ("<<", "word"), ("Möwe-2", "Möwe-2"), ("a|b", "a_b")],
)
def test_names_of_files(placeholder: str, file: str) -> None:
    assert word_file(placeholder) == f"{file}.safetensors"


def test_words_of_a_lora_lie_beside_it(tiny_models: TinyModels, tmp_path: Path) -> None:
    """In the file itself they would make stock diffusers refuse it."""
    ours = stock(tiny_models["sd15"], "sd15")
    parts = {"denoiser": adapt(ours.unet, LORA, ["to_q"])}
    _, vectors = some_words(ours, "sd15", {"<boat>": 1})
    model = trained(tiny_models["sd15"], "sd15", LORA, parts, embeddings=vectors)
    path = OUTPUT_FORMATS["kohya_lora"](tmp_path / "harbour.safetensors", model)
    assert words_folder(path) == tmp_path / "harbour-words"
    assert [one.name for one in words_folder(path).iterdir()] == ["boat.safetensors"]
    stock(tiny_models["sd15"], "sd15").load_lora_weights(str(path))
    path.unlink()
    with pytest.raises(FileExistsError, match="harbour-words"):
        OUTPUT_FORMATS["kohya_lora"](path, model)
    assert not path.exists()


def test_a_trained_encoder_is_written_without_the_words_in_it(
    tiny_models: TinyModels, tmp_path: Path
) -> None:
    folder = tiny_models["sd15"]
    ours = stock(folder, "sd15")
    _, vectors = some_words(ours, "sd15", {"<boat>": 2})
    parts = {"text_encoder_1": ours.text_encoder.state_dict()}
    model = trained(folder, "sd15", FULL, parts, embeddings=vectors)
    out = OUTPUT_FORMATS["diffusers"](tmp_path / "model", model)
    before, after = (load(one, "sd15", "text_encoder").state_dict() for one in (folder, out))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_keys_of_families_with_several_encoders(tiny_models: TinyModels) -> None:
    wanted = {
        "sd15": ["emb_params"],
        "sdxl": ["clip_l", "clip_g"],
        "sd3": ["clip_l", "clip_g", "t5xxl"],
        "flux_dev": ["clip_l", "t5xxl"],
        "pixart_sigma": ["emb_params"],
    }
    for name, keys in wanted.items():
        source = source_of(tiny_models[name], name)
        assert sorted(encoder_keys(FAMILIES[name], source).values()) == sorted(keys)


def test_a_word_of_another_family_is_refused(tiny_models: TinyModels, tmp_path: Path) -> None:
    _, vectors = some_words(stock(tiny_models["sd15"], "sd15"), "sd15", {"<boat>": 1})
    model = trained(tiny_models["sd15"], "sd15", WORDS, {}, embeddings=vectors)
    path = OUTPUT_FORMATS["embedding"](tmp_path / "boat.safetensors", model)
    with pytest.raises(ValueError, match="no vectors for clip_g, clip_l of sdxl.*emb_params"):
        read_words(path, FAMILIES["sdxl"], source_of(tiny_models["sdxl"], "sdxl"))
