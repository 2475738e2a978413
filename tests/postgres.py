"""A real PostgreSQL cluster of a test's own, on loopback."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.server_supervisor import free_port
from tests.server_fixtures import wait_for

USER = "postgres"
"""PostgreSQL refuses to run as root."""


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL that is installed; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def running_postgres() -> Iterator[str]:
    """The address of an empty database, as Prefect's server wants it."""
    bin_folder, port = binaries(), free_port()
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="tilewright-postgres-"))
    as_user: dict[str, object] = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    init = [bin_folder / "initdb", "-D", folder / "data", "-U", "prefect", "--auth=trust", "-N"]
    subprocess.run(init, check=True, capture_output=True, cwd=folder, **as_user)  # type: ignore[call-overload]
    settings = {"listen_addresses": "127.0.0.1", "port": port, "fsync": "off"}
    settings["unix_socket_directories"] = folder
    options = [part for item in settings.items() for part in ("-c", "{}={}".format(*item))]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(  # type: ignore[call-overload]
            [bin_folder / "postgres", "-D", folder / "data", *options],
            stdout=log,
            stderr=log,
            cwd=folder,
            **as_user,
        )
    try:
        reachable = [bin_folder / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(reachable, capture_output=True).returncode == 0)
        create = [bin_folder / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect"]
        subprocess.run([*create, "prefect"], check=True, capture_output=True)
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder)
