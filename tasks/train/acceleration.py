"""What makes a denoiser smaller or faster before it trains: 8-bit base weights, compiled blocks."""

from importlib.util import find_spec
from typing import Any, Literal

from tasks.families.base import Family


def quantize(denoiser: Any, kind: Literal["int8", "float8"]) -> None:
    """Stores the weights of the denoiser's linear layers in 8 bits, in place, by torchao.

    They are widened again for each product, so that gradients pass through them to an adapter.

    Raises:
        ValueError: torchao is not installed.
    """
    if find_spec("torchao") is None:
        raise ValueError(
            f'train.base_weights = "{kind}" needs the package torchao: install tilewright[gpu], or '
            'set train.base_weights = "train_dtype"'
        )
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    quantize_(denoiser, {"int8": Int8WeightOnlyConfig, "float8": Float8WeightOnlyConfig}[kind]())


def compile_blocks(denoiser: Any, family: Family, backend: str = "inductor") -> None:
    """Compiles each repeated block by itself, in place: equal blocks are compiled once."""
    for name in family.blocks:
        for block in getattr(denoiser, name):
            block.compile(backend=backend)
