"""What trains with which settings: parts, methods, layer filters, embeddings, ends of parts."""

import dataclasses

import pytest
import torch

from tasks.config.models import Config
from tasks.families import get_family
from tasks.families.loading import resolve_model
from tasks.train.methods.layers import matching
from tasks.train.setup import build_training
from tasks.train.step import optimizer_step, predict_losses
from tests.tasks.train.synthetic import make_config
from tests.tasks.train.test_step import as_step, make_batch

ENCODERS = {"text_encoder_1": {"train": True}, "text_encoder_2": {"train": True}}


def make(model, name="sdxl", parts=None, **train):
    config = make_config(model[name], "unused", **train)
    model_config = config.model.model_copy(update={"family": name})
    values = config.model_copy(update={"model": model_config}).model_dump()
    config = Config.model_validate(values | {"parts": parts or {}})
    family = get_family(name)
    source = resolve_model(str(model[name]), family)
    training = build_training(config, family, source, torch.device("cpu"))
    training.total_steps = 10
    return training


def live_batch(training, name="sdxl"):
    """A batch without the texts of encoders that run."""
    batch = make_batch(name)
    texts = {key: value for key, value in batch.texts.items() if key not in training.forward.live}
    return dataclasses.replace(batch, texts=texts)


def values(training):
    return {part.name: [p.detach().clone() for p in part.parameters] for part in training.parts}


def changed(training, before):
    return {
        part.name
        for part in training.parts
        if any(
            not torch.equal(a, b) for a, b in zip(before[part.name], part.parameters, strict=True)
        )
    }


def steps(training, count=1):
    batch = live_batch(training)
    for _ in range(count):
        result = optimizer_step(training, as_step(batch), lambda: False)
        training.progress = training.progress.after_step(result.loss, as_step(batch))
    return result


@pytest.mark.parametrize(
    "method",
    [
        {"kind": "full"},
        {"kind": "lora", "rank": 2},
        {"kind": "lora", "rank": 2, "dora": True},
        {"kind": "loha", "rank": 2},
        {"kind": "lokr", "rank": 2},
    ],
    ids=lambda method: "dora" if method.get("dora") else method["kind"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_method_trains_denoiser_and_text_encoders(tiny_models, method, dtype):
    training = make(tiny_models, parts=ENCODERS, method=method, train_dtype=dtype)
    assert [part.name for part in training.parts] == ["denoiser", *ENCODERS]
    before = values(training)
    steps(training, 3)
    assert changed(training, before) == {"denoiser", *ENCODERS}
    for part in training.parts:
        state = {name: tensor.clone() for name, tensor in part.state().items()}
        with torch.no_grad():
            for parameter in part.parameters:
                parameter.add_(1.0)
        part.restore(state)
        assert all(torch.equal(part.state()[name], state[name]) for name in state)


def test_parts_have_learning_rates_and_ends_of_their_own(tiny_models):
    encoder = {"train": True, "learning_rate": 1e-3, "stop_after": {"n": 2, "unit": "step"}}
    training = make(tiny_models, parts={"text_encoder_1": encoder}, schedule={"kind": "constant"})
    assert steps(training).learning_rates == {"denoiser": 1e-2, "text_encoder_1": 1e-3}
    steps(training)
    before = values(training)
    assert steps(training).learning_rates == {"denoiser": 1e-2}
    assert changed(training, before) == {"denoiser"}


def test_a_frozen_denoiser_leaves_its_text_encoder_training(tiny_models):
    parts = {"denoiser": {"train": False}, "text_encoder_2": {"train": True}}
    training = make(tiny_models, parts=parts)
    before = values(training)
    steps(training)
    assert changed(training, before) == {"text_encoder_2"}
    assert list(training.forward.live) == ["text_encoder_2"]


def test_layer_filters_choose_by_preset_and_pattern(tiny_models):
    names = ["a.attn1.to_q", "a.attn2.to_k", "a.ff.net", "conv_in"]
    presets = {"attn-only": ("attn[12]",)}
    assert matching(names, ["attn-only"], presets) == names[:2]
    assert matching(names, [r"attn1", "^conv"], presets) == [names[0], names[3]]
    with pytest.raises(ValueError, match=r"matches none of 4 layers; presets.*attn-only"):
        matching(names, ["nothing"], presets)
    some = make(tiny_models, method={"kind": "lora", "rank": 2, "layers": ["attn2.to_k"]})
    (part,) = some.parts
    assert all("attn2.to_k" in name for name in part.state())
    full = make(tiny_models, method={"kind": "full", "layers": ["attn2.to_k"]})
    trained = [n for n, p in full.denoiser.named_parameters() if p.requires_grad]
    assert trained
    assert all("attn2.to_k" in name for name in trained)


def test_embeddings_train_alone_and_beside_a_lora(tiny_models):
    word = {"placeholder": "<x>", "initial_text": "a", "num_vectors": 2, "learning_rate": 0.1}
    alone = make(tiny_models, method={"kind": "embedding"}, embeddings=[word])
    assert [part.name for part in alone.parts] == ["embedding.<x>"]
    assert list(alone.forward.live) == ["text_encoder_1", "text_encoder_2"]
    beside = make(tiny_models, embeddings=[word])
    assert [part.name for part in beside.parts] == ["denoiser", "embedding.<x>"]
    for training in (alone, beside):
        before = values(training)
        batch = dataclasses.replace(live_batch(training), prompts=("a <x>", "<x> boat"))
        optimizer_step(training, as_step(batch), lambda: False)
        assert changed(training, before) == set(before)


def test_weights_in_bfloat16_are_rounded_stochastically(tiny_models):
    training = make(
        tiny_models, method={"kind": "full"}, weight_dtype="bfloat16", train_dtype="bfloat16"
    )
    assert {p.dtype for p in training.parameters} == {torch.bfloat16}
    before = values(training)
    steps(training)
    assert changed(training, before) == {"denoiser"}


def test_prior_rows_train_on_what_the_untrained_model_predicts(tiny_models):
    training = make(tiny_models)
    batch = dataclasses.replace(live_batch(training), is_prior=(True, False))
    with torch.no_grad():
        at_start = predict_losses(training, batch)
        # A fresh LoRA changes nothing yet: the untrained model predicts the same.
        assert at_start[0] == 0
        assert at_start[1] > 0
    steps(training, 2)
    with torch.no_grad():
        assert predict_losses(training, batch)[0] > 0
    assert all(parameter.requires_grad for parameter in training.parameters)


def test_masks_weigh_cells_and_keep_the_prior_outside(tiny_models):
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :4] = 1
    settings = {"enabled": True, "unmasked_weight": 0.0}

    def losses(training, **changes):
        with torch.no_grad():
            return predict_losses(training, dataclasses.replace(live_batch(training), **changes))

    plain = make(tiny_models, mask=settings)
    whole, half = losses(plain), losses(plain, masks=mask)
    assert (half < whole).all()
    normalized = make(tiny_models, mask=settings | {"normalize": True})
    torch.testing.assert_close(losses(normalized, masks=mask), half * 2)
    keeping = make(tiny_models, mask=settings | {"prior_weight": 1.0})
    torch.testing.assert_close(losses(keeping, masks=mask), half)
    with torch.no_grad():
        for parameter in keeping.parameters:
            parameter.add_(0.1)
        for ours, theirs in zip(plain.parameters, keeping.parameters, strict=True):
            ours.copy_(theirs)
    assert (losses(keeping, masks=mask) > losses(plain, masks=mask)).all()
