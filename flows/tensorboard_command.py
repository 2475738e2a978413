"""`tilewright tensorboard`: the curves and samples of runs, in TensorBoard on this machine."""

import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command_outcome import finish, refuse, say
from storage.errors import StorageError
from tasks.config.problems import ConfigError

DEFAULT_PLACE = "run.toml"
LINKS = "runs"
REFRESH_SECONDS = 30.0
"""How often new runs are looked for, and what a store elsewhere has of them is fetched."""


def tensorboard(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE", help="A TOML file, the place of a store, or a run's folder."
        ),
    ] = DEFAULT_PLACE,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that nobody uses.")] = 0,
    host: Annotated[
        str, typer.Option(help="Who may look: by default only this machine.")
    ] = "127.0.0.1",
) -> None:
    """Show runs in TensorBoard until Ctrl-C; the address is printed."""

    def work(log: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="tilewright-board-") as folder:
            return _serve(place, Path(folder), host, port)

    def show(served: dict[str, Any]) -> None:
        say(f"TensorBoard at {served['url']} has ended")

    finish("tensorboard", work, show, as_json=False)


def _serve(place: str, folder: Path, host: str, port: int) -> dict[str, Any]:
    """Serves a folder of runs, brought up to date now and then, until it is interrupted."""
    num_runs = gather_runs(place, folder)
    url = start_board(folder / LINKS, host, port)
    say(f"{num_runs} {'run' if num_runs == 1 else 'runs'} of {place}; end it by Ctrl-C")
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    try:
        while True:
            time.sleep(REFRESH_SECONDS)
            _refresh(place, folder)
    except KeyboardInterrupt:
        return {"url": url}


def _refresh(place: str, folder: Path) -> None:
    """Looks for more; a store that is away for a while ends nothing."""
    try:
        gather_runs(place, folder)
    except (OSError, StorageError, ConfigError) as error:
        say(f"what is shown is not up to date: {error}")


def start_board(folder: Path, host: str, port: int) -> str:
    """Starts TensorBoard on threads of this process, so that it ends with it; gives the address.

    Raises:
        ConfigError: the port is taken, or the host is none of this machine.
    """
    from tensorboard import default, program

    try:
        socket.getaddrinfo(host, port)
    except OSError as error:
        refuse("--host", f"is no address of this machine: {error.strerror}", host)
    board = program.TensorBoard(plugins=default.get_plugins())
    # The fast loader is a process of its own, which a kill would leave behind.
    options = {"--logdir": folder, "--host": host, "--port": port, "--load_fast": "false"}
    board.configure(argv=[None, *(str(word) for pair in options.items() for word in pair)])
    try:
        return str(board.launch())
    except program.TensorBoardServerException as error:
        refuse("--port", f"TensorBoard cannot be served there: {error}", f"{host}:{port}")


def gather_runs(place: str, folder: Path) -> int:
    """Links the curves of every run of a place in `folder / LINKS`, by its id; gives how many.

    Of runs that only a store elsewhere has, they are copied first.

    Raises:
        ConfigError: there is no such place, or it has no runs.
    """
    from flows.run_places import copied_run, find_runs
    from tasks.train.report import is_run

    if is_run(Path(place)):
        _link(Path(place), folder)
        return 1
    if place == DEFAULT_PLACE and not Path(place).exists():
        refuse("PLACE", "is not here; name a TOML file, a store or a run's folder", place)
    runs = find_runs(place)
    fitting = runs.fitting()
    if not fitting:
        refuse("PLACE", "has no runs yet; `tilewright train` makes one", place)
    for run_id in fitting:
        if runs.folder is not None and run_id in runs.here:
            _link(runs.folder / run_id, folder)
        else:
            _link(copied_run(runs.store, run_id, folder / "copies", _is_shown), folder)
    return len(fitting)


def _link(workspace: Path, folder: Path) -> None:
    link = folder / LINKS / workspace.absolute().name
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(workspace.absolute() / "tensorboard")


def _is_shown(inner: Path) -> bool:
    """Whether TensorBoard reads a file of a run."""
    return inner.parts[0] == "tensorboard"
