"""Kinds of records of a program's memory."""

from __future__ import annotations

import enum
from typing import Any


class MemRecordType(enum.IntEnum):
    """A mode of the record; the argument of `set_enable_mem_profiler`.

    CLOSED: nothing is recorded. RECORD: the tables grow as the program needs them. FAST: they are
    reserved up front. LOG: all allocations and frees are written to files as well.
    """

    CLOSED = 0
    LOG_RECORD = 1
    LOG_FAST = 2
    MEM_RECORD = 4
    MEM_FAST = 8

    @property
    def is_fast(self) -> bool:
        """Whether tables are reserved up front."""
        return self in {MemRecordType.LOG_FAST, MemRecordType.MEM_FAST}

    @property
    def is_log(self) -> bool:
        """Whether there are log files."""
        return self in {MemRecordType.LOG_RECORD, MemRecordType.LOG_FAST}


def as_record_type(value: Any) -> MemRecordType:
    """Return the mode of a number. Raises ValueError for other numbers."""
    known = {one.value: one for one in MemRecordType}
    if isinstance(value, int) and not isinstance(value, bool) and value in known:
        return known[value]
    names = ", ".join(f"{one.name} ({one.value})" for one in MemRecordType)
    raise ValueError(f"{value!r} is no MemRecordType: {names}")
