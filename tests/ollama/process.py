"""Starts the test server as a process of its own, and always ends it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 10.0


@dataclass
class OllamaProcess:
    """A running server; `url` is where a client goes."""

    url: str
    process: "subprocess.Popen[str]"

    def requests(self, path: str = "", model: str = "") -> list[dict[str, Any]]:
        """What was asked so far, in order: all of it, or that of one path or one model."""
        answer = requests.get(f"{self.url}/test/requests", timeout=10)
        answer.raise_for_status()
        entries: list[dict[str, Any]] = answer.json()
        return [e for e in entries if path in ("", e["path"]) and model in ("", e["model"])]

    def forget(self) -> None:
        """Empties the list of requests."""
        requests.delete(f"{self.url}/test/requests", timeout=10).raise_for_status()

    def set_digest(self, model: str, seed: int, to: str = "installed") -> str:
        """Gives a model other weights, installed or `to="registry"`; returns the new digest."""
        return str(self._post("digest", model=model, seed=seed, to=to)["digest"])

    def delete(self, model: str) -> None:
        """Removes an installed model."""
        self._post("delete", model=model)

    def set(self, **settings: float) -> None:
        """Changes `delay`, `pull_seconds` (both seconds) or `queue` (requests that may wait)."""
        self._post("settings", **settings)

    def stop(self) -> None:
        """Ends the process in good order."""
        self.process.terminate()
        self._wait()

    def kill(self) -> None:
        """Ends the process at once, in the middle of whatever it does."""
        self.process.kill()
        self._wait()

    def _wait(self) -> None:
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def _post(self, what: str, **body: Any) -> Any:
        answer = requests.post(f"{self.url}/test/{what}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def running(
    models: Sequence[str] = ("tiny-vision:latest",),
    text_only: Sequence[str] = (),
    pullable: Sequence[str] = (),
    **settings: float,
) -> Iterator[OllamaProcess]:
    """A server on a free port of loopback, ready to be asked.

    `settings` are the options of the command: `parallel`, `queue`, `delay`, `pull_seconds`, `port`.
    """
    named = {"models": models, "text-only": text_only, "pullable": pullable}
    options = {name: ",".join(values) for name, values in named.items()}
    options |= {name.replace("_", "-"): str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "tests.ollama.server", "--until-stdin-closes"]
    command += [word for option, value in options.items() for word in (f"--{option}", value)]
    with tempfile.TemporaryDirectory(prefix="ollama-test-") as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": folder}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as process:
            server = OllamaProcess("", process)
            try:
                server.url = process.stdout.readline().strip()
                if not server.url:
                    raise RuntimeError(f"the test server ended with {process.wait(STOP_SECONDS)}")
                yield server
            finally:
                if process.poll() is None:
                    server.stop()
