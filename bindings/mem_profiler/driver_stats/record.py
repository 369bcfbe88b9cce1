"""Begin a record: reserve its tables, start its log.

The tables of FAST are reserved before it begins, so that no hook has to reserve.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mem_parser.records.logfolder import PREFIX, SECOND_SUFFIX, SUFFIX
from mem_profiler.capture import output
from mem_profiler.capture.output import ExactFile
from mem_profiler.capture.session import Rates, Session
from mem_profiler.driver_stats.record_type import MemRecordType
from mem_profiler.events import FILES
from mem_profiler.events.collector import Limits, Log
from mem_profiler.events.logs import Logging
from mem_profiler.process import procfs
from mem_profiler.segment import reserve
from mem_profiler.segment.file import Segment

HEAP_SHARE = 4
"""One part of the program's heap is reserved, where nobody says how much."""
LEAST_BYTES = 24 << 20


@dataclass(frozen=True)
class Wanted:
    """A record: its mode, what FAST reserves, the folder of its log, and how many files stay."""

    mode: MemRecordType
    reserve_bytes: int | None = None
    folder: str = "."
    files: int = FILES

    @classmethod
    def of(cls, told: list[Any]) -> Wanted:
        """What `told` has said."""
        mode, reserve_bytes, folder, files = told
        return cls(MemRecordType(mode), reserve_bytes, folder, files)

    @property
    def told(self) -> list[Any]:
        """The same as JSON has it."""
        return [int(self.mode), self.reserve_bytes, self.folder, self.files]

    def rates(self) -> Rates:
        """Every block, and the log if there is one. Raises UsageProblem for a folder that cannot
        have it.
        """
        if not self.mode.is_log:
            return Rates(1)
        place = log_place(self.folder)
        output.check_exact(place)
        return Rates(
            1, logging=Logging(place, limits=Limits(files=self.files, alias=SECOND_SUFFIX))
        )


def log_place(folder: str) -> ExactFile:
    """The name of a new log: `memlog20230209_5F43FAFD5D7FF-0.memlog` is its first file, which has
    a second name that ends with `.txt`.
    """
    now_s = time.time()
    day = datetime.fromtimestamp(now_s).strftime("%Y%m%d")
    return ExactFile(os.path.join(folder, f"{PREFIX}{day}_{int(now_s * 1e6):X}{SUFFIX}"))


def begin(session: Session, wanted: Wanted) -> list[tuple[int, int]]:
    """Begin a record in a process that has none; the ranges that FAST reserved. Raises MemError."""
    rates = wanted.rates()
    ranges = prepare(session, wanted)
    session.start(rates, None)
    return ranges


def prepare(session: Session, wanted: Wanted) -> list[tuple[int, int]]:
    """Reserve what FAST reserves, else nothing. Raises MemError."""
    if not wanted.mode.is_fast:
        return []
    return reserve_tables(session.segment, session.pid, wanted.reserve_bytes)


def told_of(log: Log | None) -> dict[str, Any]:
    """The message to the user about a log that has ended."""
    if log is None:
        return {}
    lost = log.told.get("lost", 0)
    return {"files": log.paths, "lost": lost, "problem": log.problem}


def usual_bytes(pid: int) -> int:
    """Bytes reserved for a process: a quarter of its heap, but no less than `LEAST_BYTES`."""
    resident = procfs.resident(pid)
    heap_bytes = resident.anon_bytes if resident is not None else 0
    return max(LEAST_BYTES, heap_bytes // HEAP_SHARE)


def reserve_tables(segment: Segment, pid: int, wanted_bytes: int | None) -> list[tuple[int, int]]:
    """Reserve as many levels as fit in `wanted_bytes` (None: `usual_bytes`) and in the segment.

    Returns the ranges of the segment (offset, bytes) that the tables have. Raises TargetError.
    """
    return reserve.up_front(segment, wanted_bytes or usual_bytes(pid))
