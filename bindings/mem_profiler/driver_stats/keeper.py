"""The process that writes the log of another process's record, until that is closed.

Model: a helper of the kind `record-log` (`mem_profiler.capture.holder`). It starts the record,
whose data are dropped when it ends or the helper is told to end.
"""

from __future__ import annotations

from typing import Any

from mem_profiler.capture import holder
from mem_profiler.capture.holder import Beside
from mem_profiler.capture.session import Session
from mem_profiler.driver_stats import record
from mem_profiler.driver_stats.record import Wanted
from mem_profiler.segment.file import Segment

KIND = "record-log"


def start(pid: int, wanted: Wanted) -> None:
    """Begin the record of a process, with a log. Raises MemError."""
    holder.start(KIND, pid, wanted.told)


def keeps(segment: Segment) -> bool:
    """Whether the holder of a segment's lock is such a process."""
    return holder.holder(segment, KIND) is not None


def wait_for_end(segment: Segment, pid: int) -> None:
    """Wait until the log is whole. Raises TargetError where that takes too long."""
    holder.wait_for_end(segment, pid, KIND)


class _Keeper(Beside):
    """One record with its log."""

    def leave(self, how: str) -> None:  # noqa: ARG002 - the session knows
        """End the record."""
        self.session.discard()


def _begin(pid: int, wanted: Any) -> Beside:
    session = Session(pid)
    try:
        record.begin(session, Wanted.of(wanted))
    except BaseException:
        session.close()
        raise
    return _Keeper(session)


def serve(pid: int, wanted: str) -> None:
    """Keep the record of a process, in the helper."""
    holder.serve(_begin, pid, wanted)
