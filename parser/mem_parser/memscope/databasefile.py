"""Open a database read-only, leaving no file beside it.

A database in WAL mode has its newest rows in NAME-wal, and SQLite makes this file and NAME-shm for
each reader. A connection that may not write cannot remove them at its end. So:

    NAME-wal has rows       read only: a program writes, or was killed; SQLite takes them from there
    it has none, ours       as a writer would open it, without writing: SQLite removes what it made
    it has none, another's  as a file that nobody changes, and a check at the end that nobody did
    another journal         read only: SQLite makes nothing

A journal of a killed program may name another file, which SQLite removes once it has taken the
changes of that program back. None of ours does, so whoever forged one chooses what is removed.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from mem_parser.memscope.errors import DumpError
from mem_parser.plainfile import PlainFile

_WAL_MODE_AT, _WAL_MODE = 18, 2
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""At the end of a journal: the name of another file is before it (Rollback Journal, SQLite)."""


class Opening(NamedTuple):
    """How to open a database for reading."""

    query: str
    """Behind the name, in SQLite's form of a URI."""
    before: tuple[int, ...] | None
    """What the file was, where it must be the same at the end."""


def opening_of(path: str, handle: int, *, writable: bool) -> Opening:
    """Return how to open a database, of which ``handle`` is an open descriptor.

    Raises `DumpError` where a file of SQLite's beside it is none, OSError.
    """
    sizes = [_size_of(f"{path}-{beside}") for beside in ("wal", "journal", "shm")]
    if sizes[1]:
        _check_journal(f"{path}-journal")
    if writable:
        return Opening("mode=rw", None)
    header = os.pread(handle, _WAL_MODE_AT + 2, 0)
    if header[_WAL_MODE_AT:] != bytes((_WAL_MODE, _WAL_MODE)):
        return Opening("mode=ro", None)
    if sizes[0] or sizes[1] is not None:
        return Opening("mode=ro", None)
    found = os.fstat(handle)
    folder = os.path.dirname(path) or "."
    if found.st_uid == os.geteuid() and os.access(path, os.W_OK) and os.access(folder, os.W_OK):
        return Opening("mode=rw", None)
    return Opening("mode=ro&immutable=1", _state(found))


def check_unchanged(path: str, before: tuple[int, ...]) -> None:
    """Raise `DumpError` where the file is not as it was before."""
    try:
        now = _state(os.stat(path))
    except OSError:
        now = ()
    if now != before:
        raise DumpError(f"{path}: changed while it was read", hint="read it again")


def has_journal(path: str) -> bool:
    """Whether a program that wrote may have been killed before its changes were whole."""
    return bool(_size_of(f"{path}-journal"))


def _check_journal(path: str) -> None:
    try:
        with PlainFile(path) as file:
            end = file.read(max(file.size_bytes - len(_JOURNAL_MAGIC), 0), len(_JOURNAL_MAGIC))
    except FileNotFoundError:
        return
    if end == _JOURNAL_MAGIC:
        raise DumpError(
            f"{path}: names another file, which SQLite would remove",
            hint="move it away; what was being written may be missing then",
        )


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _size_of(path: str) -> int | None:
    """Return the bytes of a file of SQLite's; None: there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise DumpError(f"{path}: is no file", hint="remove it to read the rows")
    return found.st_size
