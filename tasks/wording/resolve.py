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
GENERATED = "generated"
"""Origin of a caption that a model made."""
COMING = "\0caption of "
"""Stands in a plan for a caption that is yet to be made, before the key of its tile."""
OWN_TEXTS = ("concept", "view_id", "source_id", "kind", "prompts", "origin")
"""Columns of the captions manifest: texts of tiles by their view, of whole photos (kind full) by
their source; without a concept they count in all of them."""
Texts = tuple[list[str], str]
"""Prompts and their origin."""
Versions = Callable[[list[str], str, bytes], list[str]]
"""(texts, origin, view_id) to the prompts of a sample."""


def resolve_prompts(
    samples: pa.Table, manifests: Mapping[str, pa.Table], config: Config
) -> pa.Table:
    """`samples` with columns `prompts` (a list), `prompt_origin` and `context`.

    A full image trains on its source's prompts, else on the text that a model or a person gave it.
    A tile inherits them unless it has a text of its own, which takes their place or follows them
    (`caption_mode`), or `uncaptioned_prompt` is "empty". Files of one concept with equal bytes
    pool their prompts. `context` is the source's first prompt as written.

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


def is_coming(prompt: str) -> bool:
    """Whether a prompt is made of a caption that is yet to be made: no other one holds a NUL."""
    return "\0" in prompt


def _resolve(
    samples: pa.Table, sources: dict[tuple[str, bytes], Texts], captions: pa.Table, config: Config
) -> Iterator[tuple[list[str], str, str]]:
    concepts = {concept.name: concept for concept in config.concepts if concept.enabled}
    versions = {name: _versions(concept, config.data.seed) for name, concept in concepts.items()}
    bare = {n for n, c in concepts.items() if c.image.detail_crops.uncaptioned_prompt == "empty"}
    of_tile, of_photo = _own_texts(captions)
    names = ["concept", "source_id", "kind", "view_id"]
    columns = samples.select(names).to_pydict().values()
    for concept, source_id, kind, view in zip(*columns, strict=True):
        texts, origin = sources[concept, source_id]
        context = texts[0]
        if origin == "none":
            texts, origin = _own(of_photo, concept, source_id) or (texts, origin)
        own = None if kind == "full" else _own(of_tile, concept, view)
        if own is not None and own[1] == EDITED:
            yield *own, context
        elif own is not None:
            prompts, origin = _captioned(own[0], (texts, origin), concepts[concept])
            yield versions[concept](prompts, origin, view), own[1], context
        elif kind != "full" and concept in bare:
            yield [""], "none", context
        else:
            inherited = kind != "full" and origin != "none"
            prompts = texts if origin == EDITED else versions[concept](texts, origin, view)
            yield prompts, "inherited" if inherited else origin, context


def _captioned(captions: list[str], source: Texts, concept: Concept) -> Texts:
    """The texts of a tile with a generated caption, and the origin by which they are drawn."""
    if concept.image.detail_crops.caption_mode == "replace":
        return captions, GENERATED
    texts, origin = source
    between = f"{concept.text.tag_delimiter} "
    return [between.join(filter(None, (text, one))) for text in texts for one in captions], origin


Owner = tuple[str | None, bytes]
"""A concept, or None for all of them, and the key of a view or a source."""


def _own_texts(captions: pa.Table) -> tuple[dict[Owner, Texts], dict[Owner, Texts]]:
    """The texts that single tiles have of their own, and those of photos."""
    of_tile: dict[Owner, Texts] = {}
    of_photo: dict[Owner, Texts] = {}
    columns = captions.select(OWN_TEXTS).to_pydict().values()
    for concept, view, source, kind, prompts, origin in zip(*columns, strict=True):
        found = (prompts or [""], origin)
        if kind == "full":
            of_photo[concept, source] = found
        else:
            of_tile[concept, view] = found
    return of_tile, of_photo


def _own(texts: dict[Owner, Texts], concept: str, key: bytes) -> Texts | None:
    """A text for a concept; one for all of them, which a person wrote, counts more."""
    return texts.get((None, key)) or texts.get((concept, key))


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
