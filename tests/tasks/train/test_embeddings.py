import pytest
import torch

from tasks.config.methods import Embedding
from tasks.families import get_family
from tasks.families.loading import load_component, resolve_model
from tasks.train.embeddings import add_words, spell_out, token_names


def encoders(folder, family_name):
    family = get_family(family_name)
    source = resolve_model(str(folder), family)
    return family, {
        one.name: (
            load_component(source, family, one.tokenizer, torch.float32),
            load_component(source, family, one.model, torch.float32),
        )
        for one in family.text_encoders
    }


def encode(family, loaded, prompts):
    return {
        one.name: one.encode(loaded[one.name][1], loaded[one.name][0], prompts, 0)
        for one in family.text_encoders
    }


def test_other_prompts_are_encoded_as_before_and_words_begin_as_their_initial_text(tiny_models):
    family, loaded = encoders(tiny_models["sdxl"], "sdxl")
    before = encode(family, loaded, ["a red boat", "blue"])
    words = add_words([Embedding(placeholder="<x>", initial_text="red")], loaded, torch.float32)
    tokens = [one(" red", add_special_tokens=False).input_ids for one, _ in loaded.values()]
    assert [word.num_vectors for word in words] == [len(tokens[0])] == [len(tokens[1])]
    after = encode(family, loaded, ["a red boat", "blue"])
    spelled = encode(family, loaded, [spell_out("a <x> boat", words), "blue"])
    for name, fields in before.items():
        for field, value in fields.items():
            assert torch.equal(after[name][field], value), (name, field)
            torch.testing.assert_close(spelled[name][field], value)


def test_a_word_of_several_vectors_is_so_many_tokens(tiny_models):
    _, loaded = encoders(tiny_models["sd15"], "sd15")
    settings = [
        Embedding(placeholder="<x>", initial_text="red", num_vectors=3),
        Embedding(placeholder="<y>", initial_text="a red boat"),
    ]
    words = add_words(settings, loaded, torch.float32)
    tokenizer, _ = loaded["text_encoder_1"]
    count = len(tokenizer("a red boat", add_special_tokens=False).input_ids)
    assert [word.num_vectors for word in words] == [3, count]
    text = spell_out("one <x>, <y>", words)
    assert text.startswith("one <x> <x>_1 <x>_2, <y> <y>_1 <y>_2")
    ids = tokenizer(text, add_special_tokens=False).input_ids
    names = [*token_names("<x>", 3), *token_names("<y>", count)]
    new = tokenizer.convert_tokens_to_ids(names)
    assert [number for number in ids if number in new] == new


def test_only_the_words_get_gradients(tiny_models):
    family, loaded = encoders(tiny_models["sd15"], "sd15")
    settings = Embedding(placeholder="<x>", initial_text="a", num_vectors=2)
    (word,) = add_words([settings], loaded, torch.float32)
    hidden = encode(family, loaded, [spell_out("a <x>", [word])])["text_encoder_1"]["hidden"]
    hidden.square().sum().backward()
    vectors = word.vectors["text_encoder_1"]
    assert (vectors.grad != 0).any(dim=1).all()
    trained = [p for p in loaded["text_encoder_1"][1].parameters() if p.grad is not None]
    assert trained == [vectors]


def test_a_known_word_and_an_empty_start_are_refused(tiny_models):
    _, loaded = encoders(tiny_models["sd15"], "sd15")
    known = next(iter(loaded["text_encoder_1"][0].get_vocab()))
    with pytest.raises(ValueError, match="a word that the model knows already"):
        add_words([Embedding(placeholder=known)], loaded, torch.float32)
    with pytest.raises(ValueError, match="has no token"):
        add_words([Embedding(placeholder="<x>", initial_text="")], loaded, torch.float32)
