"""Pages of a store, shown in a browser of this machine."""

import tempfile
import webbrowser
from pathlib import Path

from flows.command_outcome import say
from storage.store import Store


def local_page(store: Store, path: str, name: str) -> Path:
    """A page as a file of this machine; that of a remote store is copied to a new folder.

    Args:
        store: that has the page.
        path: in the store.
        name: of the copy.
    """
    here = store.local_path(path)
    if here is not None:
        return here
    copy = Path(tempfile.mkdtemp(prefix="tilewright-")) / name
    copy.write_bytes(store.read_bytes(path))
    return copy


def open_page(page: Path) -> None:
    """Shows a page, or says where it is when there is no browser."""
    if not webbrowser.open(page.resolve().as_uri()):
        say(f"no browser could be started; open this file in one: {page}")
