"""Serve the commands of a recorded process.

Model: as `mem_profiler.inprocess.server`, whose loop it is, with commands of its own. The record of
the process that asks is a session, which ends with that process. That of another one is an open
capture: it goes on when this process has ended.

    enable MODE RESERVE FOLDER FILES    begins a record, or changes its mode
    close                               ends it
    report                              bytes in use by line
    room                                bytes that the tables have

`enable_other`, `close_other`, `report_other` and `room_other` are the same for a process that is
not the one that asks. `log_open`, `log_begin`, `log_next`, ... read a log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mem_parser.errors import MemError
from mem_parser.records.linelog import LineLog
from mem_parser.records.linereport import LineReport
from mem_parser.records.logfolder import newest_log
from mem_profiler.capture.session import Session
from mem_profiler.driver_stats import other_process, record, reporting
from mem_profiler.driver_stats.record import Wanted
from mem_profiler.events.collector import Log
from mem_profiler.inprocess.server import ENDING_S, Server
from mem_profiler.segment import reserve

WARNINGS_MAX = 20


def _answered(report: LineReport) -> dict[str, Any]:
    return report.as_dict() | {"problem": report.problem}


class StatsServer(Server):
    """The commands, in the process beside."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self._log: LineLog | None = None
        self._parsing: Iterator[str] = iter(())
        self._is_log = False

    def enable(self, *told: Any) -> dict[str, Any]:
        """Begin the record, or go on with another mode."""
        wanted = Wanted.of(list(told))
        session = self.session
        if session is not None and not session.over and wanted.mode.is_log == self._is_log:
            return {"on": True, "ranges": record.prepare(session, wanted)}
        if session is not None:
            wanted.rates()  # refuses before anything ends
            self._drop()
        session = Session(self.pid)
        try:
            ranges = record.begin(session, wanted)
        except BaseException:
            session.close()
            raise
        self.session, self._is_log = session, wanted.mode.is_log
        return {"on": True, "ranges": ranges}

    def close(self) -> dict[str, Any]:
        """End the record; what it has is gone."""
        self._done = True
        return {"on": False, "log": record.told_of(self._drop())}

    def _drop(self) -> Log | None:
        session, self.session = self.session, None
        return session.discard() if session is not None else None

    def report(self) -> dict[str, Any]:
        """What is in use, by line."""
        session = self._running()
        if session.over:
            why = "; ".join(session.notes) or f"{session.ended}"
            raise MemError(f"the record has ended: {why}")
        return _answered(reporting.of_segment(session.segment, self.pid))

    def room(self) -> dict[str, Any]:
        """What the tables have."""
        return {"bytes": reserve.reserved_bytes(self._running().segment.control())}

    def enable_other(self, *told: Any) -> dict[str, Any]:
        """As `enable`, for another process."""
        other_process.enable(self.pid, Wanted.of(list(told)))
        return {"on": True}

    def close_other(self) -> dict[str, Any]:
        """As `close`, for another process."""
        other_process.close(self.pid)
        return {"on": False}

    def report_other(self) -> dict[str, Any]:
        """As `report`, for another process."""
        return _answered(other_process.report(self.pid))

    def room_other(self) -> dict[str, Any]:
        """As `room`, for another process."""
        return {"bytes": other_process.room_bytes(self.pid)}

    # -- logs ------------------------------------------------------------------------------------

    def log_open(self, folder: str) -> dict[str, Any]:
        """Find the newest log of a folder."""
        if self._log is not None:
            self._log.close()
        self._log = LineLog([file.path for file in newest_log(folder)])
        return {"ok": True}

    def log_begin(self, jobs: int | None) -> dict[str, Any]:
        """Begin to read it."""
        self._parsing = self._opened().parse(jobs)
        return {"ok": True}

    def log_next(self) -> dict[str, Any]:
        """Wait for the next file that has been read; null: all have been."""
        return {"file": next(self._parsing, None)}

    def log_facts(self) -> dict[str, Any]:
        """When the log begins, and how long it is."""
        log = self._opened()
        facts = {"duration_ms": log.duration_ms, "started_s": log.started_s}
        return facts | {"warnings": log.warnings[:WARNINGS_MAX]}

    def log_sizes(self) -> dict[str, Any]:
        """Bytes in use over time."""
        return {"sizes": self._opened().sizes()}

    def log_at(self, time_ms: float) -> dict[str, Any]:
        """What was in use at a time, by line."""
        return _answered(self._opened().report(time_ms))

    def _opened(self) -> LineLog:
        if self._log is None:
            raise MemError("no log has been read")
        return self._log

    # -- the end of the process that asks --------------------------------------------------------

    def _wait_for_its_end(self) -> None:
        if self.session is not None:
            self.session.watch.ended(ENDING_S)

    def _leave(self, session: Session) -> None:  # noqa: ARG002 - as of every server
        self._drop()
