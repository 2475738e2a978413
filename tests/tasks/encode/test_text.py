"""What of a text is stored, and of which text encoders."""

from pathlib import Path

import pytest
import torch

from storage.reading import ItemReader
from storage.store import open_store
from tasks.encode.text import real_tokens
from tasks.families import get_family
from tasks.families.loading import load_component
from tasks.families.sources import resolve_model
from tasks.train.assemble import _read_texts
from tasks.train.rows import item_ref
from tests.model_fixtures import TinyModels
from tests.projects import make_project


def test_padding_is_cut_and_one_token_stays() -> None:
    hidden, mask = torch.arange(12.0).view(4, 3), torch.tensor([1, 1, 0, 0])
    item = {"hidden": hidden, "mask": mask, "pooled": torch.zeros(4)}
    cut = real_tokens(item, "mask")
    assert torch.equal(cut["hidden"], hidden[:2])
    assert cut["mask"].tolist() == [1, 1]
    # Of one dimension and by chance as long as the tokens are many: no tokens.
    assert cut["pooled"].shape == (4,)
    assert real_tokens(item | {"mask": torch.zeros(4)}, "mask")["hidden"].shape == (1, 3)
    assert real_tokens(item, None) is item


@pytest.mark.parametrize("name", ["pixart_sigma", "sana"])
def test_stored_texts_are_read_as_the_encoder_gives_them(
    tmp_path: Path, tiny_models: TinyModels, name: str
) -> None:
    project = make_project(tmp_path / "project", tiny_models[name], family=name, num_photos=1)
    project.add_photo("other", 7, "a photo with a longer description of a harbour")
    result = project.prepare("model.output_format=diffusers_lora")
    rows = {row["prompts"][0]: row["texts"][0] for row in result.rows.to_pylist()}
    refs = [item_ref(text) for text in rows.values()]
    refs += [item_ref(result.version.meta["extra"]["unconditional"][0]), refs[0]]
    prompts = [*rows, "", next(iter(rows))]
    with ItemReader(open_store(str(project.folder / "store"))) as reader:
        read = _read_texts(reader, refs)
        alike = _read_texts(reader, refs[:1])

    family = get_family(name)
    (encoder,) = family.text_encoders
    source = resolve_model(str(tiny_models[name]), family)
    model, tokenizer = (
        load_component(source, family, part, torch.float32)
        for part in (encoder.model, encoder.tokenizer)
    )
    whole = encoder.encode(model, tokenizer, prompts, 0)
    longest = int(whole["mask"].sum(dim=1).max())
    assert longest < encoder.max_tokens
    assert read["mask"].shape == (4, longest)
    assert torch.equal(read["mask"], whole["mask"][:, :longest])
    real = whole["mask"][:, :longest, None]
    torch.testing.assert_close(read["hidden"], whole["hidden"][:, :longest] * real)
    # A batch is no longer than its own longest text.
    assert alike["mask"].shape == (1, int(whole["mask"][0].sum()))


def test_a_text_encoder_that_trains_is_not_cached(tmp_path: Path, tiny_models: TinyModels) -> None:
    project = make_project(tmp_path / "project", tiny_models["sdxl"], family="sdxl", num_photos=1)
    both = project.prepare()
    second = project.prepare("parts.text_encoder_1.train=true")
    names = {text["encoder"] for row in second.rows.to_pylist() for text in row["texts"]}
    assert names == {"text_encoder_2"}
    assert second.rows.num_rows == both.rows.num_rows
    unconditional = second.version.meta["extra"]["unconditional"]
    assert [text["encoder"] for text in unconditional] == ["text_encoder_2"]
    # What the other one gave is still there.
    assert second.counts["text"].computed == 0
    assert project.prepare().counts["text"].computed == 0


def test_no_text_encoder_is_cached_while_words_train(
    tmp_path: Path, tiny_models: TinyModels
) -> None:
    project = make_project(tmp_path / "project", tiny_models["sd15"], num_photos=1)
    word = 'train.embeddings=[{placeholder="<harbour>"}]'
    assert project.plan(word)["stages"]["text"]["wanted"] == 0
    result = project.prepare(word)
    assert result.counts["text"].wanted == 0
    assert result.rows.num_rows > 1
    assert {len(row["texts"]) for row in result.rows.to_pylist()} == {0}
    assert result.version.meta["extra"]["unconditional"] == []
    assert all(row["latent_shard"] for row in result.rows.to_pylist())
