"""Resolve: which prompts a sample trains on, and where they came from."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import gcd

import pyarrow as pa

from tasks.config.concepts import Concept
from tasks.config.models import Config
from tasks.wording.draw import choose_line
from tasks.wording.special import special_tags
from tasks.wording.tags import varies, vary
from tasks.wording.template import filler

LISTS = pa.list_(pa.string())
UNCONDITIONAL = ""
"""The empty prompt is always encoded: caption drop-out and guidance need it."""
EDITED = "edited"
"""Origin of a text that a person gave a tile: final, neither varied nor put into a template."""
Texts = tuple[list[str], str]
"""Prompts and their origin."""
Versions = Callable[[list[str], str, bytes], list[str]]
"""(texts, origin, view_id) to the prompts of a sample."""


def resolve_prompts(
    samples: pa.Table, manifests: Mapping[str, pa.Table], config: Config
) -> pa.Table:
    """`samples` with columns `prompts` (a list), `prompt_origin` and `context`.

    A full image trains on its source's prompts, a tile inherits them unless it has a text of its
    own or `uncaptioned_prompt` is "empty". Files of one concept with equal bytes pool their
    prompts. `context` is the source's first prompt as written.

    Draws depend on `data.seed`, the view and the number of the text variation, not on the sample:
    more brightness must not shuffle tags anew.

    Args:
        samples: columns concept, source_id, kind and view_id.
        manifests: those of the stages prompts and captions.
        config: for the text settings of the concepts and `data.seed`.

    Raises:
        ValueError: a file of special tags cannot be read.
    """
    resolved = list(_resolve(samples, pooled(manifests["prompts"]), manifests["captions"], config))
    return (
        samples.append_column("prompts", pa.array([row[0] for row in resolved], LISTS))
        .append_column("prompt_origin", pa.array([row[1] for row in resolved], pa.string()))
        .append_column("context", pa.array([row[2] for row in resolved], pa.string()))
    )


def pooled(prompts: pa.Table) -> dict[tuple[str, bytes], Texts]:
    """(prompts, origin) by (concept, source_id); equal files pool theirs in path order."""
    sources: dict[tuple[str, bytes], Texts] = {}
    columns = prompts.select(["concept", "source_id", "prompts", "origin"]).to_pydict().values()
    for concept, source_id, texts, origin in zip(*columns, strict=True):
        known, known_origin = sources.get((concept, source_id), ([], "none"))
        if origin == "none":
            sources.setdefault((concept, source_id), (texts, origin))
        elif known_origin == "none":
            sources[concept, source_id] = (texts, origin)
        else:
            more = [text for text in texts if text not in known]
            sources[concept, source_id] = (known + more, origin)
    return sources


def _resolve(
    samples: pa.Table, sources: dict[tuple[str, bytes], Texts], captions: pa.Table, config: Config
) -> Iterator[tuple[list[str], str, str]]:
    concepts = {concept.name: concept for concept in config.concepts if concept.enabled}
    versions = {name: _versions(concept, config.data.seed) for name, concept in concepts.items()}
    bare = {n for n, c in concepts.items() if c.image.detail_crops.uncaptioned_prompt == "empty"}
    own = _own_texts(captions)
    names = ["concept", "source_id", "kind", "view_id"]
    columns = samples.select(names).to_pydict().values()
    for concept, source_id, kind, view in zip(*columns, strict=True):
        texts, origin = sources[concept, source_id]
        context = texts[0]
        if view in own:
            prompts, origin = own[view]
            if origin != EDITED:
                prompts = versions[concept](prompts, origin, view)
            yield prompts, origin, context
        elif kind != "full" and concept in bare:
            yield [""], "none", context
        else:
            inherited = kind != "full" and origin != "none"
            prompts = versions[concept](texts, origin, view)
            yield prompts, "inherited" if inherited else origin, context


def _own_texts(captions: pa.Table) -> dict[bytes, Texts]:
    """The texts that single views have of their own, by view_id; an edited one is final."""
    columns = captions.select(["view_id", "prompts", "origin"]).to_pydict().values()
    return {view: (prompts or [""], origin) for view, prompts, origin in zip(*columns, strict=True)}


def _versions(concept: Concept, seed: int) -> Versions:
    """What makes the prompts of a concept's samples out of the texts of their sources."""
    text, validation = concept.text, concept.type == "validation"
    special = special_tags(text)
    varied = varies(text) and not validation
    count = 1 if validation else concept.text_variations
    fill = filler(text.prompt_template, concept.name)
    plain: dict[tuple[str, ...], list[str]] = {}

    def versions(texts: list[str], origin: str, view: bytes) -> list[str]:
        numbers = range(count)
        if origin == "text_file":
            drawn = [(choose_line(seed, view, n, texts), n) for n in numbers]
        elif varied:
            drawn = [(prompt, n) for prompt in texts for n in numbers]
        else:
            known = tuple(texts[:1] if validation else texts)
            if known not in plain:
                plain[known] = [fill(prompt) for prompt in known]
            return plain[known]
        if varied:
            prompts = [vary(prompt, text, special, seed, view, n) for prompt, n in drawn]
        else:
            prompts = [prompt for prompt, _ in drawn]
        return [fill(prompt) for prompt in reduced(prompts)]

    return versions


def reduced(prompts: list[str]) -> list[str]:
    """The shortest list with the same prompts in the same shares: the chances of a draw from it.

    A version that was drawn three times out of four must stay three times as likely.
    """
    counts = Counter(prompts)
    divisor = gcd(*counts.values())
    if divisor <= 1:
        return prompts
    return [prompt for prompt, n in counts.items() for _ in range(n // divisor)]
