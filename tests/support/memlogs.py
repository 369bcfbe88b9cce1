"""Logs of events for tests: strategies, a program that allocates, files in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.filefacts import FileFacts
from mem_parser.memlog.writer import MemlogWriter
from mem_parser.model import Capture, Profile, SiteTable, StackTable, Thread

RUN = "0123456789abcdef0123456789abcdef"
UNIT = 1 << 22


def facts(number: int = 1, **changes: Any) -> FileFacts:
    return FileFacts(**{"run": RUN, "number": number, "pid": 77} | changes)


def stack_table(stacks: list[tuple[int, ...]], interpreter: list[int] | None = None) -> StackTable:
    depth = [len(s) for s in stacks]
    zero = np.zeros(len(stacks), dtype=np.uint32)
    return StackTable(
        np.concatenate(([0], np.cumsum(depth))).astype(np.int64),
        np.array([f for s in stacks for f in s], dtype=np.uint64),
        zero,
        zero.copy(),
        leaf_exact=True,
        interpreter=None if interpreter is None else np.array(interpreter, dtype=np.uint32),
    )


def stacks_of(count: int) -> StackTable:
    """Stack k is 0x1000, 0x2000 + k."""
    return stack_table([(0x1000, 0x2000 + k) for k in range(count)])


def facts_profile(threads: int = 4) -> Profile:
    none = np.zeros(0, dtype=np.int64)
    return Profile(
        format="mem_profiler",
        rate_bytes=1.0,
        stacks=stack_table([]),
        sites=SiteTable(none, none.astype(np.int32), none, none, none, none),
        threads=[Thread(k, 100 + k, f"t{k}") for k in range(threads)],
        capture=Capture(pid=77, comm="prog", started=1000.0),
    )


@contextmanager
def writing(path: Path, number: int = 1, **changes: Any) -> Iterator[MemlogWriter]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        yield MemlogWriter(fd, facts(number, **changes))
    finally:
        os.close(fd)


def events_of(rows: list[dict[str, int]]) -> Events:
    usual = {"kind": 1, "address": 16, "size_bytes": 8, "thread": 0, "stack": 0, "domain": 0}
    columns: dict[str, list[int]] = {name: [] for name in Events.DTYPES}
    for row in rows:
        whole = usual | row
        whole.setdefault("birth_ns", whole["time_ns"])
        for name in Events.DTYPES:
            columns[name].append(whole[name])
    return Events.of(**columns)


def rows_of(events: Events) -> list[tuple[int, ...]]:
    columns = [getattr(events, name).tolist() for name in Events.DTYPES]
    return list(zip(*columns, strict=True))


@st.composite
def any_events(draw: st.DrawFn, *, stacks: int = 8, most: int = 60) -> Events:
    """Events of any values that a file can hold, in any order."""
    rows = []
    for _ in range(draw(st.integers(0, most))):
        time = draw(st.integers(0, 1 << 45) | st.integers(0, 9))
        kind = draw(st.sampled_from(list(Kind)))
        birth = time if kind is Kind.BIRTH else draw(st.integers(-9, 1 << 20)) * UNIT
        rows.append(
            {
                "time_ns": time,
                "kind": kind,
                "address": draw(st.integers(0, (1 << 64) - 1)),
                "size_bytes": draw(st.integers(0, (1 << 64) - 1) | st.integers(0, 300)),
                "thread": draw(st.integers(0, (1 << 32) - 1)),
                "stack": 0 if kind is Kind.MARK else draw(st.integers(0, stacks - 1)),
                "domain": 0,
                "birth_ns": birth,
            }
        )
    return events_of(rows)
