"""The table `python_trace_PID` of a database: the calls of Python functions that the process wrote
into files of its own, `python_trace_THREAD_TIME.csv`.

A database without calls has no such table: who reads it takes an empty one for a damaged file.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from mem_parser.memscope.database import connected
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.form import PYTHON_TRACE
from mem_parser.memscope.tracejson import Call, calls_of

TYPES = ("TEXT", "TEXT", "TEXT", "INTEGER", "INTEGER")
_NAME = re.compile(r"python_trace_[0-9]{1,20}_[0-9]{1,20}\.csv")


def table_name(pid: int) -> str:
    """Return the name of the table of a process."""
    return f"python_trace_{pid}"


def trace_files(run: str) -> list[str]:
    """Return the files of calls in the folder of a process, in the order of their names."""
    found = glob.glob(os.path.join(glob.escape(run), "device_*", "dump", "python_trace_*.csv"))
    return sorted(path for path in found if _NAME.fullmatch(os.path.basename(path)))


def add_traces(databases: Iterable[str], run: str, pid: int) -> list[str]:
    """Put the calls of a process into databases; returns what is missing, a line each.

    Raises `DumpError` where a database cannot be written.
    """
    files, warnings = trace_files(run), []
    for number, path in enumerate(databases if files else ()):
        missing: list[str] = []
        _fill(path, pid, _all_calls(files, missing))
        if not number:
            warnings = missing
    return warnings


def _all_calls(files: Iterable[str], missing: list[str]) -> Iterator[Call]:
    for file in files:
        try:
            yield from calls_of(file)
        except DumpError as error:
            missing.append(f"the calls from there on are not in the database: {error}")


def _fill(path: str, pid: int, calls: Iterator[Call]) -> None:
    first = list(islice(calls, 1))
    if not first:
        return
    columns = ", ".join(f'"{name}" {kind}' for name, kind in zip(PYTHON_TRACE, TYPES, strict=True))
    table = table_name(pid)
    with connected(path, writable=True) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f'CREATE TABLE IF NOT EXISTS "{table}" ({columns})')
        connection.executemany(
            f'INSERT INTO "{table}" VALUES (?, ?, ?, ?, ?)',  # noqa: S608 - a name of ours
            (_row(call) for call in chain(first, calls)),
        )
        connection.execute("COMMIT")


def _row(call: Call) -> tuple[str, str, str, int, int]:
    name = call.name.encode("utf-8", "replace").decode()
    return name, str(call.start_ns), str(call.end_ns), call.tid, call.pid
