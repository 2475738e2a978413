"""The review of captions on the command line: a question in a terminal, else how to go on."""

import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from flows import summaries
from tasks.config.loading import load_config


def settled(
    command: str,
    config: str,
    settings: Sequence[str],
    run: Callable[[], dict[str, Any]],
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
        run: runs the flow.
        ask: whether there may be somebody to answer.
    """
    summary = run()
    while "review" in summary:
        options = [part for setting in settings for part in ("--set", setting)]
        lines = [
            shlex.join(["tilewright", *words, config, *options])
            for words in (["captions", "approve"], [command])
        ]
        summary["review"] |= {"go_on": lines}
        if not (ask and sys.stdin.isatty() and sys.stderr.isatty()):
            break
        summaries.show_review(summary)
        if not typer.confirm("Approve them and go on?", default=False, err=True):
            break
        from tasks.pipeline.captions import approve_captions

        approve_captions(load_config(config, settings))
        summary = run()
    return summary
