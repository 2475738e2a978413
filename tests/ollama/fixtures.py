"""The running test server as a fixture of the session."""

from collections.abc import Iterator

import pytest

from tests.ollama.process import OllamaProcess, running


@pytest.fixture(scope="session")
def ollama_server() -> Iterator[OllamaProcess]:
    """Has `tiny-vision` and the blind `tiny-text`; `tiny-pull` is in its registry."""
    models = ("tiny-vision:latest", "tiny-text:latest")
    with running(models, ("tiny-text:latest",), ("tiny-pull:latest",), parallel=2) as server:
        yield server
