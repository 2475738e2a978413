"""A store in an S3 bucket, through s3fs; credentials and endpoint come from the environment.

Exclusive creation is one PutObject with `If-None-Match: *`. Servers answer a refusal in two ways:
AWS names the condition (s3fs: FileExistsError), Ceph does not (s3fs: OSError EINVAL caused by a
PreconditionFailed). Both mean "exists".
"""

import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.errors import NotFoundError, StorageError, UnsupportedStoreError
from storage.naming import new_name

_PART_BYTES = 16 << 20
_CONNECTIONS = 64
_ATTEMPTS = 6
_EXISTS = {"PreconditionFailed", "412"}
_BUSY = {"ConditionalRequestConflict", "OperationAborted", "409"}


class S3Files:
    """Objects below one bucket and prefix."""

    scheme = "s3"

    def __init__(self, rest: str) -> None:
        self.root = rest.strip("/")
        self.url = f"s3://{self.root}"
        self._fs: Any = None
        self._owner = 0

    @property
    def fs(self) -> Any:
        """The s3fs file system of this process: its client does not survive a fork."""
        if self._owner != os.getpid():
            self._fs, self._owner = _connect(), os.getpid()
        return self._fs

    def prepare(self) -> None:
        """Check that the server keeps two writers apart, as everything here relies on it.

        Raises:
            NotFoundError: there is no such bucket.
            UnsupportedStoreError: it ignores `If-None-Match`.
        """
        probe = f"probe/{new_name()}"
        try:
            self.put_if_absent(probe, b"first")
        except NotFoundError as error:
            bucket = self.root.split("/")[0]
            raise NotFoundError(f"there is no bucket {bucket!r} for {self.url}: make it") from error
        ignored = self.put_if_absent(probe, b"second")
        self.delete(probe)
        if ignored:
            raise UnsupportedStoreError(
                f"{self.url}: this server ignores If-None-Match, so two runs could overwrite each "
                "other's versions; use AWS S3, Ceph RGW or another server that honours it"
            )

    def local_path(self, path: str) -> Path | None:
        """Tell where a file lies: not here."""
        return None

    def scratch_folder(self) -> Path:
        """Tell where to build a file that will be published."""
        return Path(tempfile.gettempdir())

    def size(self, path: str) -> int | None:
        """Tell the size in bytes, None where there is no such object."""
        try:
            with self._translated(path):
                facts = self.fs.info(self._full(path))
        except NotFoundError:
            return None
        return int(facts["size"]) if facts["type"] == "file" else None

    def read(self, path: str, offset: int = 0, nbytes: int | None = None) -> bytes:
        """Read an object, or as much of the range as there is."""
        with self._translated(path):
            if nbytes is None and not offset:
                return bytes(self.fs.cat_file(self._full(path)))
            # By name: the second positional argument of s3fs is a version id.
            end = None if nbytes is None else offset + nbytes
            try:
                return bytes(self.fs.cat_file(self._full(path), start=offset, end=end))
            except OSError as error:
                if _code(error) in ("InvalidRange", "416"):
                    return b""
                raise

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create an object; False, and nothing done, where the name is taken."""
        for attempt in range(_ATTEMPTS):
            try:
                with self._translated(path):
                    self.fs.pipe_file(self._full(path), data, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as error:
                if _code(error) in _EXISTS:
                    return False
                if _code(error) not in _BUSY:
                    raise
                time.sleep(random.uniform(0, 0.05 * 2**attempt))
        raise StorageError(f"{self.url}/{path}: {_ATTEMPTS} writers in a row were in the way")

    def replace(self, path: str, data: bytes) -> None:
        """Overwrite an object."""
        with self._translated(path):
            self.fs.pipe_file(self._full(path), data)

    def publish(self, local: Path, path: str) -> bool:
        """Move a finished file in; False where the name is taken."""
        size = local.stat().st_size
        if size < 2 * _PART_BYTES:
            created = self.put_if_absent(path, local.read_bytes())
        else:
            created = self._upload(local, path)
        if created:
            local.unlink(missing_ok=True)
        return created

    def fetch(self, path: str, local: Path) -> None:
        """Copy an object out, in parallel ranges."""
        with self._translated(path):
            self.fs.get_file(self._full(path), str(local), chunksize=_PART_BYTES)

    def list(self, prefix: str) -> dict[str, int]:
        """List the objects below a folder, with their sizes."""
        start = self._full(prefix).rstrip("/") + "/"
        try:
            with self._translated(prefix):
                found = self.fs.find(self._full(prefix), detail=True)
        except NotFoundError:
            return {}
        return {
            name[len(self.root) + 1 :]: int(facts["size"])
            for name, facts in found.items()
            if name.startswith(start) and facts["type"] == "file"
        }

    def delete(self, path: str) -> None:
        """Remove an object; nothing happens where there is none."""
        with self._translated(path):
            self.fs.rm_file(self._full(path))

    def _upload(self, local: Path, path: str) -> bool:
        # Not every server enforces the condition on a multipart upload; shard names are unique,
        # so this look is for the caller's mistakes and never decides a race.
        if self.size(path) is not None:
            return False
        try:
            with self._translated(path):
                self.fs.put_file(str(local), self._full(path), chunksize=_PART_BYTES, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if _code(error) in _EXISTS:
                return False
            raise
        return True

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}".rstrip("/")

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError

        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.url}: there is no {path or 'such bucket'}") from error
        except (BotoCoreError, PermissionError) as error:
            raise StorageError(
                f"{self.url}: {error}. Credentials and endpoint come from the environment "
                "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ENDPOINT_URL)"
            ) from error


def _connect() -> Any:
    import s3fs

    options: dict[str, Any] = {"max_pool_connections": _CONNECTIONS}
    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # Bucket names as host names resolve at AWS, hardly ever at one's own server.
        options["s3"] = {"addressing_style": "path"}
    return s3fs.S3FileSystem(
        config_kwargs=options, use_listings_cache=False, skip_instance_cache=True
    )


def _code(error: OSError) -> str:
    """Find the server's error code in what s3fs made of it."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
