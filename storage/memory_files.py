"""A store in this process's memory: for planning, trials and tests, gone at exit."""

import tempfile
import threading
from pathlib import Path
from typing import Any

from storage.errors import NotFoundError

# fsspec's memory file system is one dict per process, without a lock of its own.
_LOCK = threading.RLock()


class MemoryFiles:
    """Files below one `memory://` folder."""

    scheme = "memory"

    def __init__(self, rest: str) -> None:
        self.root = "/" + rest.strip("/")
        self.url = f"memory:/{self.root}"

    @property
    def fs(self) -> Any:
        """The fsspec file system."""
        import fsspec

        return fsspec.filesystem("memory")

    def prepare(self) -> None:
        """Nothing to make."""

    def local_path(self, path: str) -> Path | None:
        """Tell where a file lies: nowhere."""
        return None

    def scratch_folder(self) -> Path:
        """Tell where to build a file that will be published."""
        return Path(tempfile.gettempdir())

    def size(self, path: str) -> int | None:
        """Tell the size in bytes, None where there is no such file."""
        with _LOCK:
            full = self._full(path)
            return int(self.fs.size(full)) if self.fs.isfile(full) else None

    def read(self, path: str, offset: int = 0, nbytes: int | None = None) -> bytes:
        """Read a file, or as much of the range as there is."""
        end = None if nbytes is None else offset + nbytes
        with _LOCK:
            if not self.fs.isfile(self._full(path)):
                raise NotFoundError(f"{self.url}: there is no {path}")
            return bytes(self.fs.cat_file(self._full(path), start=offset, end=end))

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create a file; False, and nothing done, where the name is taken."""
        with _LOCK:
            if self.fs.exists(self._full(path)):
                return False
            self.fs.pipe_file(self._full(path), data)
            return True

    def replace(self, path: str, data: bytes) -> None:
        """Overwrite a file in one step."""
        with _LOCK:
            self.fs.pipe_file(self._full(path), data)

    def publish(self, local: Path, path: str) -> bool:
        """Move a finished file in; False where the name is taken."""
        created = self.put_if_absent(path, local.read_bytes())
        if created:
            local.unlink(missing_ok=True)
        return created

    def fetch(self, path: str, local: Path) -> None:
        """Copy a file out."""
        local.write_bytes(self.read(path))

    def list(self, prefix: str) -> dict[str, int]:
        """List the files below a folder, with their sizes."""
        with _LOCK:
            found = self.fs.find(self._full(prefix), detail=True)
        start = self._full(prefix).rstrip("/") + "/"
        return {
            name[len(self.root.rstrip("/")) + 1 :]: int(facts["size"])
            for name, facts in found.items()
            if name.startswith(start)
        }

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""
        with _LOCK:
            if self.fs.isfile(self._full(path)):
                self.fs.rm_file(self._full(path))

    def _full(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}".rstrip("/")
