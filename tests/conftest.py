import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.store import Store, open_store

pytest_plugins = [
    "tests.model_fixtures",
    "tests.server_fixtures",
    "tests.deployment_fixtures",
    "tests.ollama.fixtures",
]

BUCKET = "tilewright-test"


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "check: compare with tests/golden; write: accept what is there now"
    parser.addoption("--golden", choices=("check", "write"), default="check", help=told)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server on loopback; its address and fake keys stand in the environment."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    facts = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in facts}
    os.environ.update(facts)
    yield facts["AWS_ENDPOINT_URL"]
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    server.stop()


@pytest.fixture
def s3_url(s3_server: str) -> str:
    """An empty bucket: `s3://...`."""
    import boto3
    import requests

    requests.post(f"{s3_server}/moto-api/reset", timeout=10).raise_for_status()
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    return f"s3://{BUCKET}/store"


@pytest.fixture(params=["local", "memory", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a store, of each kind."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3_url"))
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return str(tmp_path / "store")


@pytest.fixture
def store(store_url: str) -> Store:
    """An open, empty store of each kind."""
    return open_store(store_url)


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    """An open, empty store in a folder."""
    return open_store(str(tmp_path / "store"))
