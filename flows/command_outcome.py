"""How a command ends: exit code, errors without tracebacks, one JSON object on standard output."""

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Never

import typer
from rich.console import Console

from flows.local_server import ServerError
from flows.run_log import log_path
from tasks import progress
from tasks.config.problems import ConfigError, Problem

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
RESUMABLE = ("run", "prepare", "train")
MAX_REASON_LINES = 15

stderr = Console(
    stderr=True, soft_wrap=True, highlight=False, width=None if sys.stderr.isatty() else 120
)
"""Where all human text goes."""


def finish(
    command: str,
    work: Callable[[Path], dict[str, Any]],
    show: Callable[[dict[str, Any]], None],
    *,
    as_json: bool,
) -> None:
    """Does a command's work and reports it; ends the process with the right code when it fails.

    Args:
        command: its name, for messages.
        work: does it, logs to the file that it is given, and returns the summary.
        show: prints the summary for people.
        as_json: print the summary as JSON on standard output instead, where nothing else may go.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    log = log_path(command)
    with _reserved_stdout(as_json) as answer:
        try:
            result = work(log)
        except ConfigError as error:
            _fail(BAD_INPUT, str(error), answer)
        except KeyboardInterrupt:
            again = "; the same command goes on where it stopped" if command in RESUMABLE else ""
            _fail(INTERRUPTED, f"{command} was interrupted{again}", answer, log)
        except ServerError as error:
            _fail(FAILED, str(error), answer)
        except BrokenPipeError:
            raise  # the reader of our output has gone; typer ends quietly
        except Exception as error:  # the outermost boundary: people get a line, the log the rest
            _keep_traceback(log)
            _fail(FAILED, f"{command} failed: {_one_screen(error)}", answer, log)
        if answer is None:
            show(result)
        else:
            answer(result)


def refuse(key: str, message: str, got: str | None = None) -> Never:
    """Ends a command because of bad input."""
    raise ConfigError([Problem(key, message, got)])


def say(text: str) -> None:
    """Tells people something on standard error."""
    stderr.print(text, markup=False)


def _fail(
    code: int,
    message: str,
    answer: Callable[[Mapping[str, Any]], None] | None,
    log: Path | None = None,
) -> Never:
    """Tells why, where the log is, and ends the process."""
    say(f"tilewright: {message}")
    facts: dict[str, Any] = {"error": message, "exit_code": code}
    if log is not None and log.exists():
        say(f"log: {log}")
        facts["log"] = str(log)
    if answer is not None:
        answer(facts)
    raise typer.Exit(code)


def _keep_traceback(log: Path) -> None:
    """Writes the current traceback to the log, where there can be one."""
    with contextlib.suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            traceback.print_exc(file=file)


def _one_screen(error: Exception) -> str:
    reason = "\n".join(str(error).strip().splitlines()[:MAX_REASON_LINES])
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _interrupt(*_: object) -> Never:
    """SIGTERM is Ctrl-C: the flow passes it on to its threads and the training processes."""
    progress.stop()
    raise KeyboardInterrupt


@contextlib.contextmanager
def _reserved_stdout(
    reserved: bool,
) -> Iterator[Callable[[Mapping[str, Any]], None] | None]:
    """Keeps standard output for one JSON object: what anything else writes there goes to stderr."""
    if not reserved:
        yield None
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)  # on the file descriptor, so that libraries and child processes obey too

    def answer(value: Mapping[str, Any]) -> None:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out:
            out.write(json.dumps(value, ensure_ascii=False) + "\n")

    try:
        yield answer
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
