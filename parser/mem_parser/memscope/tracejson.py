"""Calls of Python functions, from files that the process wrote: as a trace, as a table.

The trace of Chrome and Perfetto has functions and operators as slices of their threads; what is in
use by class of owner is a counter of each pool of a device. Times are microseconds of
CLOCK_MONOTONIC, with three decimals. The table is `python_trace_PID`; a database without calls has
no such table: who reads it takes an empty one for a damaged file.
"""

from __future__ import annotations

import csv
import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from mem_parser.memscope.blockclasses import UNKNOWN, class_of_owner
from mem_parser.memscope.csvfile import opened
from mem_parser.memscope.database import connected
from mem_parser.memscope.form import PYTHON_TRACE, DumpError
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rows import UNKNOWN as NO_OWNER
from mem_parser.memscope.rows import IntArray, Rows
from mem_parser.memscope.steps import lives

_MOST_NS = 1 << 62
_MOST_LINE = 1 << 20


class Call(NamedTuple):
    """A call of a Python function."""

    name: str
    start_ns: int
    end_ns: int
    tid: int
    pid: int


def is_python_trace(path: str) -> bool:
    """Whether a file is called as the traces of Python functions are."""
    return os.path.basename(path).startswith("python_trace_") and path.endswith(".csv")


def calls_of(path: str) -> Iterator[Call]:
    """Yield the calls of a `python_trace_*.csv`. Raises `DumpError` that names the line."""
    with opened(path) as file:
        reader = csv.reader(iter(lambda: file.readline(_MOST_LINE), ""))
        try:
            if tuple(next(reader, ())) != PYTHON_TRACE:
                raise DumpError(f"{path}: line 1 is not {','.join(PYTHON_TRACE)}")
            for row in reader:
                if row:
                    yield _call(row, path, reader.line_num)
        except csv.Error as error:
            raise DumpError(f"{path}: line {reader.line_num}: {error}") from error


def _call(row: Sequence[str], path: str, line: int) -> Call:
    try:
        name, *texts = row
        start_ns, end_ns, tid, pid = (int(text) for text in texts)
    except ValueError:
        raise DumpError(f"{path}: line {line}: not a name and four numbers") from None
    if not 0 <= start_ns <= end_ns <= _MOST_NS:
        raise DumpError(f"{path}: line {line}: a call that ends before it begins")
    return Call(name, start_ns, end_ns, tid, pid)


def trace_lines(dumps: Sequence[str], traces: Sequence[str]) -> Iterator[str]:
    """Yield the text of a trace of dumps and of traces of Python functions. Raises `DumpError`."""
    yield '{"displayTimeUnit":"ns","traceEvents":[\n'
    between = ""
    for events in (*map(_of_trace, traces), *map(_of_dump, dumps)):
        for event in events:
            yield between + json.dumps(event, separators=(",", ":"))
            between = ",\n"
    yield "\n]}\n"


def _of_trace(path: str) -> Iterator[dict[str, object]]:
    for call in calls_of(path):
        yield _slice(call, "python")


def _slice(call: Call, category: str) -> dict[str, object]:
    return {
        "ph": "X", "name": call.name, "cat": category, "ts": call.start_ns / 1000,
        "dur": (call.end_ns - call.start_ns) / 1000, "pid": call.pid, "tid": call.tid,
    }  # fmt: skip


def _of_dump(path: str) -> Iterator[dict[str, object]]:
    rows = read_rows(path)
    yield from _operators(rows)
    for number in rows.devices():
        for kind in sorted(set(rows.words.types)):
            births, ends = lives(rows, (rows.device == number) & rows.is_type(kind))
            if len(births):
                yield from _counter(rows, births, ends, f"{kind} of {rows.words.devices[number]}")


def _operators(rows: Rows) -> Iterator[dict[str, object]]:
    """Yield the operators that have an end, which ends the latest one of its thread and name."""
    begun: dict[tuple[int, int], list[int]] = {}
    starts, ends = rows.is_start, rows.is_end
    for row in np.flatnonzero(starts | ends).tolist():
        key = int(rows.tid[row]), int(rows.name[row])
        if starts[row]:
            begun.setdefault(key, []).append(row)
        elif begun.get(key):
            first = begun[key].pop()
            name = rows.words.names[int(rows.name[row])]
            times = int(rows.time_ns[first]), int(rows.time_ns[row])
            yield _slice(Call(name, *times, key[0], int(rows.pid[row])), "operator")


def _counter(
    rows: Rows, births: IntArray, ends: IntArray, title: str
) -> Iterator[dict[str, object]]:
    """Yield what is in use by class behind each change."""
    owners = rows.owner[births].tolist()
    names = [class_of_owner(rows.words.owners[k]) if k != NO_OWNER else UNKNOWN for k in owners]
    used = dict.fromkeys(sorted(set(names)), 0)
    order = np.argsort(rows.id, kind="stable")
    end_row = order[np.searchsorted(rows.id[order], ends).clip(max=len(order) - 1)]
    changes = []
    for k, birth in enumerate(births.tolist()):
        size, end = int(rows.size[birth]), int(end_row[k])
        changes.append((int(rows.id[birth]), birth, names[k], size))
        if ends[k] >= 0 and not rows.shadow[end]:
            changes.append((int(ends[k]), end, names[k], -size))
    for _, row, name, change in sorted(changes):
        used[name] += change
        yield {
            "ph": "C", "name": title, "ts": int(rows.time_ns[row]) / 1000,
            "pid": int(rows.pid[row]), "args": dict(used),
        }  # fmt: skip


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
