"""The review of captions on the command line: a question in a terminal, else how to go on."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from flows import summaries
from flows.command_options import as_typed
from tasks.config.loading import load_config


def settled(
    command: str,
    config: str,
    settings: Sequence[str],
    run: Callable[[Sequence[str]], dict[str, Any]],
    *,
    ask: bool,
) -> dict[str, Any]:
    """The summary of a flow that may have ended because captions wait for a person.

    In a terminal the person is asked, and a yes approves the captions and runs the flow again, of
    which everything so far is cached. Otherwise the summary says with which commands it goes on.

    Args:
        command: `run` or `prepare`.
        config: the TOML file.
        settings: the `--set` options.
        run: runs the flow with such options.
        ask: whether there may be somebody to answer.
    """
    summary = run(settings)
    while "review" in summary:
        settings = _without_new_captions(config, settings)
        approving = as_typed("captions", "approve", config, settings=settings)
        summary["review"] |= {"go_on": [approving, as_typed(command, config, settings=settings)]}
        if not (ask and sys.stdin.isatty() and sys.stderr.isatty()):
            break
        summaries.show_review(summary)
        if not typer.confirm("Approve them and go on?", default=False, err=True):
            break
        from tasks.pipeline.captions import approve_captions

        approve_captions(load_config(config, settings))
        summary = run(settings)
    return summary


def _without_new_captions(config: str, settings: Sequence[str]) -> list[str]:
    """The options without a refresh of captions: those that a person looks at are to be used."""
    refresh = load_config(config, settings).refresh
    if "captions" not in refresh:
        return list(settings)
    kept = [stage for stage in refresh if stage != "captions"]
    return [*settings, f"refresh={json.dumps(kept)}"]
