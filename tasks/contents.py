"""Contents: what files beside images hold, known by their stat through the store's hash cache."""

from collections.abc import Iterable
from typing import Any

from storage.hashcache import append_hash_cache
from tasks.files.hashing import hash_files, look_up, stat_table, trusted
from tasks.files.listing import FileStat
from tasks.files.reading import num_threads
from tasks.stage import Context


def file_contents(context: Context, kind: str, files: Iterable[FileStat]) -> dict[str, Any]:
    """The hash cache's row of every file by its path; what is not known yet is hashed.

    One that could not be read, now or before, has an `error` and no `content_id`; it is tried anew
    each time. A dry run writes nothing.

    Args:
        context: the run.
        kind: of files, as the hash cache names it.
        files: each path once.
    """
    listed = list(files)
    cached = look_up(stat_table(listed), trusted(context.hash_cache(kind))).to_pylist()
    found = {file.path: row for file, row in zip(listed, cached, strict=True)}
    unknown = [file for file in listed if found[file.path]["content_id"] is None]
    threads = num_threads(context.config.data.threads)
    rows = list(hash_files(unknown, kind, lambda _: {}, threads=threads, settle=False))
    if not context.dry_run:
        append_hash_cache(context.store, rows)
    return found | {row["path"]: row for row in rows}
