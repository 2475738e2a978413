"""`tilewright serve`: the deployments of prefect.yaml on one machine, without a worker."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import serving
from flows.command_outcome import finish, refuse, say
from flows.local_server import ensure_server, import_path
from flows.run_log import quiet_prefect
from flows.server_supervisor import end_with_parent


def serve(
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="So many runs at once (5); further ones wait."),
    ] = None,
) -> None:
    """Run what the Prefect UI starts, in this terminal; Ctrl-C ends it."""

    def work(log: Path) -> dict[str, Any]:
        if not serving.PREFECT_YAML.exists():
            refuse("serve", "runs from a clone of Tilewright", f"no {serving.PREFECT_YAML}")
        quiet_prefect(verbose=True)
        url = ensure_server(say)
        say(f"Prefect UI: {url.removesuffix('/api')}/deployments")
        code = _serve(limit)
        if code:
            raise RuntimeError(f"serving on {url} ended with code {code}; the reason stands above")
        return {"served": url}

    finish("serve", work, lambda served: say("no longer serving"), as_json=False)


def _serve(limit: int | None) -> int:
    """Serves until Ctrl-C or SIGTERM, which cancels the runs under way; returns the exit code."""
    command = [sys.executable, "-m", "flows.serving", *([] if limit is None else [str(limit)])]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": import_path()},
        start_new_session=True,  # Ctrl-C shall not reach the runs before they are cancelled
        preexec_fn=end_with_parent,  # safe: this process has one thread
    )
    names = ", ".join(entry["name"] for entry in serving.entries())
    say(f"serving {names}; Ctrl-C ends it and cancels the runs under way")
    try:
        return process.wait()
    except KeyboardInterrupt:
        say("cancelling the runs under way; a training writes a backup first")
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        return process.wait()
