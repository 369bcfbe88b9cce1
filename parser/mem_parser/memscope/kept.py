"""Keep whole rows up to a time when a dump's disk is full.

A write may end anywhere. A CSV file is cut back to its last whole row; a database has what was
committed.
"""

from __future__ import annotations

import csv
import errno
import os
import sqlite3
import sys
import time
from typing import NamedTuple

from mem_parser.memscope.csvfile import end_of_rows

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_TIME = 4
"""The column with the time."""


class Kept(NamedTuple):
    """So many rows, and the time of the last one, of CLOCK_MONOTONIC."""

    rows: int
    last_ns: int

    def text(self, path: str, real_offset_ns: int) -> str:
        """Return what there is, for a line."""
        if not self.rows:
            return f"{path} has no row"
        seconds = (self.last_ns + real_offset_ns) // 1_000_000_000
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
        return f"{path} has {self.rows} rows, to {until}"


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or that a file may not grow any more."""
    if isinstance(error, OSError):
        return error.errno in FULL
    # A write-ahead log that cannot grow is an error of the file for SQLite in some versions.
    return isinstance(error, sqlite3.Error) and "disk is full" in str(error)


def write_whole(fd: int, data: bytes) -> None:
    """Write rows; where that fails, the file ends with the last whole one of them. Raises OSError."""
    view, done = memoryview(data), 0
    try:
        while done < len(data):
            done += os.write(fd, view[done:])
    except OSError:
        begin = os.lseek(fd, 0, os.SEEK_CUR) - done
        end = end_of_rows(data, done)
        os.ftruncate(fd, begin + end)
        raise


def kept_in_csv(path: str) -> Kept:
    """Count the rows of a file of ours. Raises OSError."""
    csv.field_size_limit(sys.maxsize)
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        next(reader, None)
        rows, last = 0, ["0"] * (_TIME + 1)
        for last in reader:  # noqa: B007 - the last one is used
            rows += 1
    return Kept(rows, int(last[_TIME]))
