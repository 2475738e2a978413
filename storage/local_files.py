"""A store in a folder: durable, exclusive creation with hard links.

Every visible file is written to `tmp/` of the same file system, synced, and then linked to its
name: a kill leaves a file in `tmp/` at worst, never half a file under a real name.
"""

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from storage.errors import CorruptError, NotFoundError, UnsupportedStoreError
from storage.naming import new_name

TEMP_FOLDER = "tmp"
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


class LocalFiles:
    """Files below one folder, named by relative POSIX paths."""

    scheme = "file"

    def __init__(self, rest: str) -> None:
        self.root = str(Path(rest).expanduser().absolute())
        self.url = self.root
        self._temp = Path(self.root) / TEMP_FOLDER

    def prepare(self) -> None:
        """Make the folder, if there is none."""
        try:
            self._temp.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UnsupportedStoreError(f"{self.root} cannot hold a store: {error}") from error

    def local_path(self, path: str) -> Path | None:
        """Tell where a file lies."""
        return Path(self.root) / path

    def scratch_folder(self) -> Path:
        """Tell where to build a file that will be published: publishing it is then one link."""
        self._temp.mkdir(parents=True, exist_ok=True)
        return self._temp

    def size(self, path: str) -> int | None:
        """Tell the size in bytes, None where there is no such file."""
        target = Path(self.root) / path
        try:
            return target.stat().st_size if target.is_file() else None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, path: str, offset: int = 0, nbytes: int | None = None) -> bytes:
        """Read a file, or as much of the range as there is."""
        try:
            with (Path(self.root) / path).open("rb") as stream:
                stream.seek(offset)
                return stream.read() if nbytes is None else stream.read(nbytes)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFoundError(f"{self.url}: there is no {path}") from error

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Create a file; False, and nothing done, where the name is taken."""
        temp = self._write_temp(data)
        try:
            return self._link(temp, Path(self.root) / path)
        finally:
            temp.unlink(missing_ok=True)

    def replace(self, path: str, data: bytes) -> None:
        """Overwrite a file in one step."""
        target = Path(self.root) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temp = self._write_temp(data)
        temp.replace(target)
        sync_folder(target.parent)

    def publish(self, local: Path, path: str) -> bool:
        """Move a finished file in; False where the name is taken."""
        with local.open("rb") as stream:
            os.fsync(stream.fileno())
        target = Path(self.root) / path
        try:
            created = self._link(local, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            created = self._publish_copy(local, target)
        if created:
            local.unlink(missing_ok=True)
        return created

    def fetch(self, path: str, local: Path) -> None:
        """Copy a file out."""
        try:
            shutil.copyfile(Path(self.root) / path, local)
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.url}: there is no {path}") from error

    def list(self, prefix: str) -> dict[str, int]:
        """List the files below a folder, with their sizes."""
        skipped = "" if prefix else TEMP_FOLDER
        return dict(_walk(Path(self.root) / prefix, f"{prefix}/" if prefix else "", skipped))

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""
        (Path(self.root) / path).unlink(missing_ok=True)

    def _write_temp(self, data: bytes) -> Path:
        temp = self.scratch_folder() / new_name()
        with temp.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        return temp

    def _publish_copy(self, local: Path, target: Path) -> bool:
        temp = self.scratch_folder() / new_name()
        try:
            with local.open("rb") as source, temp.open("xb") as copy:
                shutil.copyfileobj(source, copy, 8 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            return self._link(temp, target)
        finally:
            temp.unlink(missing_ok=True)

    def _link(self, temp: Path, target: Path) -> bool:
        try:
            created = link_exclusively(temp, target)
        except FileNotFoundError:
            if not temp.exists():
                raise
            _make_folder(target.parent)
            created = link_exclusively(temp, target)
        if created:
            sync_folder(target.parent)
        return created


def link_exclusively(temp: Path, target: Path) -> bool:
    """Give a finished file its real name; False where the name is taken."""
    try:
        os.link(temp, target)
    except FileExistsError:
        # NFS may answer "exists" to the retry of a link that it did make.
        return temp.stat().st_nlink == 2 and temp.samefile(target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return rename_exclusively(temp, target)
    return True


def rename_exclusively(temp: Path, target: Path) -> bool:
    """Rename without ever replacing, for file systems that have no hard links.

    Raises:
        UnsupportedStoreError: this system or file system cannot do that either.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise UnsupportedStoreError(f"{target.parent} has no hard links and no renameat2")
    failed = libc.renameat2(
        _AT_FDCWD, os.fsencode(temp), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
    )
    if not failed:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in (errno.EINVAL, errno.ENOSYS):
        raise UnsupportedStoreError(
            f"{target.parent} can neither link nor rename without replacing: "
            "keep the store on a local disk, on NFS or on S3"
        )
    raise OSError(code, os.strerror(code), str(target))


def read_exactly(fd: int, offset: int, out: memoryview, name: str) -> None:
    """Fill `out` from a file.

    Raises:
        CorruptError: the file ends before.
    """
    done = 0
    while done < len(out):
        got = os.preadv(fd, [out[done:]], offset + done)
        if not got:
            raise CorruptError(
                f"{name} ends at byte {offset + done}, an item reaches to {offset + len(out)}: "
                "the file was cut"
            )
        done += got


def _make_folder(folder: Path) -> None:
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Make durable which names a folder holds."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _walk(folder: Path, prefix: str, skipped: str) -> Iterator[tuple[str, int]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name != skipped:
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", "")
            continue
        try:
            yield f"{prefix}{entry.name}", entry.stat().st_size
        except FileNotFoundError:
            continue  # deleted since the listing
