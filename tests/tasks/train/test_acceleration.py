"""What makes training smaller or faster changes its results little, or not at all."""

import dataclasses

import pytest
import torch

from tasks.families import get_family
from tasks.families.loading import load_component, resolve_model
from tasks.train.acceleration import compile_blocks
from tasks.train.precision import attention, choose_device, set_up_torch
from tasks.train.step import optimizer_step, predict_losses
from tests.tasks.train.synthetic import make_config
from tests.tasks.train.test_step import as_step, make_batch, make_training


def result(model, **train):
    training = make_training("sd15", model, **train)
    step = optimizer_step(training, as_step(make_batch("sd15")), lambda: False)
    return training, (step.loss, step.grad_norm)


def test_checkpointing_changes_nothing_but_when_activations_are_made(tiny_models):
    plain, expected = result(tiny_models["sd15"])
    saving, got = result(tiny_models["sd15"], gradient_checkpointing=True)
    assert got == pytest.approx(expected, rel=1e-6)
    assert saving.denoiser.is_gradient_checkpointing
    assert not plain.denoiser.is_gradient_checkpointing


@pytest.mark.parametrize("kind", ["int8", "float8"])
def test_base_weights_in_8_bits_train_nearly_the_same(tiny_models, kind):
    pytest.importorskip("torchao")
    _, expected = result(tiny_models["sd15"], train_dtype="bfloat16")
    small, got = result(tiny_models["sd15"], train_dtype="bfloat16", base_weights=kind)
    assert got == pytest.approx(expected, rel=0.05)
    assert got != expected
    linear = small.denoiser.get_submodule("time_embedding.linear_1").weight
    assert type(linear) is not torch.nn.Parameter


def test_base_weights_without_torchao_are_refused(tiny_models, monkeypatch):
    from tasks.train import acceleration

    monkeypatch.setattr(acceleration, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package torchao: install tilewright\[gpu\]"):
        result(tiny_models["sd15"], base_weights="int8")


@pytest.mark.parametrize("name", ["sd15", "flux_dev"])
def test_compiled_blocks_are_all_of_them_and_answer_the_same(tiny_models, name):
    """By the compiler without its code generator, which needs minutes."""
    family = get_family(name)
    source = resolve_model(str(tiny_models[name]), family)
    denoiser = load_component(source, family, family.denoiser, torch.float32)
    blocks = [block for attribute in family.blocks for block in getattr(denoiser, attribute)]
    assert blocks
    compile_blocks(denoiser, family, backend="aot_eager")
    assert all(block._compiled_call_impl is not None for block in blocks)


def test_compiled_blocks_train_the_same(tiny_models):
    grads = []
    for compiled in (False, True):
        training = make_training("sd15", tiny_models["sd15"])
        if compiled:
            one_list = dataclasses.replace(training.family, blocks=("up_blocks",))
            compile_blocks(training.denoiser, one_list, backend="aot_eager")
        torch.autograd.backward(predict_losses(training, make_batch("sd15")).mean())
        grads.append([parameter.grad for parameter in training.parameters])
    torch.testing.assert_close(*grads)


def test_the_attention_kernel_is_the_chosen_one():
    from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

    before = _cur_sdpa_kernel_backends()
    with attention("math"):
        assert _cur_sdpa_kernel_backends() == [SDPBackend.MATH]
    with attention("auto"):
        assert _cur_sdpa_kernel_backends() == before


def test_tf32_is_for_gpus_as_configured(monkeypatch):
    train = make_config("unused", "unused").train
    before = torch.backends.cuda.matmul.allow_tf32
    set_up_torch(train, torch.device("cpu"))
    assert torch.backends.cuda.matmul.allow_tf32 == before
    try:
        for allowed in (True, False):
            set_up_torch(train.model_copy(update={"tf32": allowed}), torch.device("cuda"))
            assert torch.backends.cuda.matmul.allow_tf32 is allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def test_the_device_is_the_configured_one_or_the_reason_is_told():
    assert choose_device("cpu", 0) == torch.device("cpu")
    if not torch.cuda.is_available():
        assert choose_device("auto", 0) == torch.device("cpu")
        with pytest.raises(ValueError, match="needs 1 CUDA devices, this machine shows 0"):
            choose_device("cuda", 0)


def test_pieces_of_a_batch_are_in_order():
    whole = dataclasses.replace(make_batch("sd15"), masks=torch.rand(2, 1, 8, 8))
    first, second = whole.split(2)
    assert (first.rows, second.rows) == (whole.rows[:1], whole.rows[1:])
    assert torch.equal(torch.cat([first.masks, second.masks]), whole.masks)
    assert (first.position, second.position) == (0, 1)
