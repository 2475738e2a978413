"""Layer filters: which layers of a module train, by the family's presets or regular expressions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def linear_layers(module: Any) -> list[str]:
    """The names of all layers that an adapter can sit on: linear ones and 2-D convolutions."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [name for name, layer in module.named_modules() if isinstance(layer, kinds)]


def with_suffix(names: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """The names that end with one of the suffixes, whole components only."""
    return [
        name
        for name in names
        if any(name == suffix or name.endswith(f".{suffix}") for suffix in suffixes)
    ]


def matching(
    names: Sequence[str], filters: Sequence[str], presets: Mapping[str, Sequence[str]]
) -> list[str]:
    """The names in which a filter is found: a preset's name, else a regular expression.

    Raises:
        ValueError: no name matches.
    """
    patterns = [re.compile(pattern) for pattern in _patterns(filters, presets)]
    chosen = [name for name in names if any(pattern.search(name) for pattern in patterns)]
    if not chosen:
        raise ValueError(
            f"train.method.layers = {list(filters)} matches none of {len(names)} layers; presets "
            f"of this family: {', '.join(presets) or 'none'}; layers are named like {names[0]!r}"
        )
    return chosen


def _patterns(filters: Sequence[str], presets: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for one in filters:
        yield from presets.get(one, (one,))
