"""Where the TensorBoard of a run is, for an artifact in Prefect."""

import re
import shlex
from urllib.parse import quote, urlsplit


def board_link(address: str, run_id: str) -> str | None:
    """The page of a run in a TensorBoard that serves a folder of runs.

    None unless the address is one that a browser follows; one with a password is not shown.
    """
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.password is not None:
        return None
    place = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return f"{place}/?runFilter={quote(re.escape(run_id))}#timeseries"


def board_markdown(workspace: str, store: str, run_id: str) -> str:
    """What to type to see a run in TensorBoard; `store` where that is not on this machine."""
    lines = [f"### {run_id}", "", "On the machine that trains:", ""]
    lines.append(f"    {shlex.join(['tilewright', 'tensorboard', workspace])}")
    if "://" in store and not store.startswith("file://"):
        lines += ["", "Elsewhere, as of the newest backup:", ""]
        lines.append(f"    {shlex.join(['tilewright', 'tensorboard', store])}")
    return "\n".join(lines) + "\n"
