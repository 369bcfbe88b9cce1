"""Add labels of inefficient memory to a dump, in place: to all its blocks, or to none."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from mem_parser.memscope import csvfile, database
from mem_parser.memscope.attributes import with_labels
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.form import COLUMNS
from mem_parser.outplace import find_place, new_file

_ATTR = COLUMNS.index("Attr")


def add_labels(path: str, labels: Mapping[int, Sequence[str]]) -> int:
    """Add labels to rows, given by their places; returns how many rows changed.

    Labels that a row has already stay, and are there once. A file without a change is not written.
    A database changes in one transaction. A CSV file is written beside its place and renamed: it
    keeps its permissions and, where we may give it away, its owner. Raises `DumpError`, OSError.
    """
    if not labels:
        return 0
    if database.is_database(path):
        return _update(path, labels)
    counts: list[int] = []

    def change(place: int) -> Callable[[str], str]:
        def changed(old: str) -> str:
            new = with_labels(old, labels[place])
            if new != old:
                counts.append(place)
            return new

        return changed

    with _replacement(path) as file:
        file.writelines(csvfile.rewritten(path, {place: change(place) for place in labels}))
        if not counts:
            raise _UnchangedError
    return len(counts)


def _update(path: str, labels: Mapping[int, Sequence[str]]) -> int:
    changes = {}
    left = dict(labels)
    for chunk in database.chunks(path, stacks=False):
        texts = chunk.columns[_ATTR]
        for k, place in enumerate(chunk.places):
            if place in left:
                new = with_labels(str(texts[k]), left.pop(place))
                if new != texts[k]:
                    changes[place] = new
    if left:
        raise DumpError(f"{path}: changed while it was read; nothing was written")
    if changes:
        database.update_attributes(path, changes)
    return len(changes)


class _UnchangedError(Exception):
    """Ends the making of a file that would be the same."""


@contextlib.contextmanager
def _replacement(path: str) -> Iterator[TextIO]:
    """Give a file to write, which takes the place of the one there at the end of the context.

    An error leaves that one as it is; `_UnchangedError` does so silently.
    """
    with find_place(path) as place:
        if place.status is None or not stat.S_ISREG(place.status.st_mode):
            raise DumpError(f"{path}: is no file any more; nothing was written")
        handle, temporary = new_file(place.folder, place.name)
        try:
            with os.fdopen(
                handle, "w", encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
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
