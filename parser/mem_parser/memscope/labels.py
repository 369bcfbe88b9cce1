"""Add labels of inefficient memory to a dump, in place: to all its blocks, or to none."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

from mem_parser.memscope import database
from mem_parser.memscope.attributes import with_labels
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.rewriting import rewritten
from mem_parser.output_path import find_place, new_file


def add_labels(path: str, labels: Mapping[int, Sequence[str]]) -> int:
    """Add labels to rows, given by their places; returns how many rows changed.

    Labels that a row has already stay, and are there once. A file without a change is not written.
    A database changes in one transaction. A CSV file is written beside its place and renamed: it
    keeps its permissions and, where we may give it away, its owner. Raises `DumpError`, OSError.
    """
    if not labels:
        return 0
    if database.is_database(path):
        return database.update_attributes(
            path, labels, lambda rowid, old: with_labels(old, labels[rowid])
        )
    counts: list[int] = []

    def change(place: int) -> Callable[[str], str]:
        def changed(old: str) -> str:
            new = with_labels(old, labels[place])
            if new != old:
                counts.append(place)
            return new

        return changed

    with _replacement(path) as file:
        file.writelines(rewritten(path, {place: change(place) for place in labels}))
        if not counts:
            raise _UnchangedError
    return len(counts)


class _UnchangedError(Exception):
    """Ends the making of a file that would be the same."""


@contextlib.contextmanager
def _replacement(path: str) -> Iterator[BinaryIO]:
    """Give a file to write, which takes the place of the one there at the end of the context.

    An error leaves that one as it is; `_UnchangedError` does so silently.
    """
    with find_place(path) as place:
        if place.status is None or not stat.S_ISREG(place.status.st_mode):
            raise DumpError(f"{path}: is no file any more; nothing was written")
        handle, temporary = new_file(place.folder, place.name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                with contextlib.suppress(OSError):
                    os.fchown(handle, place.status.st_uid, place.status.st_gid)
                os.fchmod(handle, stat.S_IMODE(place.status.st_mode) & 0o777)
                os.fsync(handle)
            os.rename(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=place.folder)
            if not isinstance(error, _UnchangedError):
                raise
