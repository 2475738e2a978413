"""Resolve: which prompts a sample trains on, and where they came from."""

from collections.abc import Iterator

import pyarrow as pa

from tasks.config.models import Config
from tasks.stage import Tables
from tasks.wording.draw import choose_line

LISTS = pa.list_(pa.string())


def resolve_prompts(samples: pa.Table, manifests: Tables, config: Config) -> pa.Table:
    """`samples` with columns `prompts` (a list), `prompt_origin` and `context`.

    A full image trains on its source's prompts, a tile inherits them. Of a text file one line is
    drawn per sample. Files of one concept with equal bytes pool their prompts. `context` is the
    source's first prompt as written.

    Args:
        samples: columns concept, source_id, kind and key (the sample_id).
        manifests: those of the stages prompts and captions.
        config: for the text settings of the concepts and `data.seed`.
    """
    sources = pooled(manifests["prompts"])
    resolved = list(_resolve(samples, sources, config.data.seed))
    return (
        samples.append_column("prompts", pa.array([row[0] for row in resolved], LISTS))
        .append_column("prompt_origin", pa.array([row[1] for row in resolved], pa.string()))
        .append_column("context", pa.array([row[2] for row in resolved], pa.string()))
    )


def pooled(prompts: pa.Table) -> dict[tuple[str, bytes], tuple[list[str], str]]:
    """(prompts, origin) by (concept, source_id); equal files pool theirs in path order."""
    sources: dict[tuple[str, bytes], tuple[list[str], str]] = {}
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
    samples: pa.Table, sources: dict[tuple[str, bytes], tuple[list[str], str]], seed: int
) -> Iterator[tuple[list[str], str, str]]:
    columns = samples.select(["concept", "source_id", "kind", "key"]).to_pydict().values()
    for concept, source_id, kind, key in zip(*columns, strict=True):
        texts, origin = sources[concept, source_id]
        context = texts[0]
        if origin == "text_file":
            texts = [choose_line(seed, key, 0, texts)]
        inherited = kind != "full" and origin != "none"
        yield texts, "inherited" if inherited else origin, context
