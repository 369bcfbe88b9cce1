"""Serve the commands of a program that collects from itself.

Model: as `mem_profiler.inprocess.server`, whose loop it is, with commands of its own.

    collect SETTINGS STAMP      begins a capture with a log, and a follower that writes dumps
    finish                      ends them; the lines of the analyses

Where the process ends by itself, so does the collection.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from mem_parser.errors import MemError
from mem_parser.memscope.launchrows import launches_wanted
from mem_parser.memscope.report import lines
from mem_parser.memscope.settings import Settings, of_dict
from mem_profiler.capture.output import ExactFile
from mem_profiler.capture.session import Rates, Session
from mem_profiler.events.logs import Logging
from mem_profiler.inprocess.server import Server
from mem_profiler.memscope import tree
from mem_profiler.memscope.follower import Collected, Follower, Task
from mem_profiler.memscope.run import HOST_OFF_BYTES, depth_of
from mem_profiler.process import procfs
from mem_profiler.segment import devices


class CollectingServer(Server):
    """The commands, in the helper."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self._follower: Follower | None = None
        self._settings = Settings()

    def collect(self, told: dict[str, Any], stamp: str) -> dict[str, Any]:
        """Begin."""
        settings = self._settings = of_dict(told)
        places = tree.places_of(settings, self.pid, stamp)
        folder = tree.events_folder(places)
        logging = Logging(
            ExactFile(os.path.join(folder, "log1.heap")),
            is_followed=True,
            launches=launches_wanted(settings),
        )
        rate = 1 if settings.host else HOST_OFF_BYTES
        session = Session(self.pid)
        try:
            session.start(Rates(rate, depth_limit=depth_of(settings), logging=logging), None)
        except BaseException:
            session.close()
            raise
        self.session = session
        offset_ns = procfs.clock_offset_ns(self.pid)
        stem = os.path.join(folder, "log1")
        task = Task(settings, places, stem, self.pid, session.segment.path, offset_ns)
        self._follower = Follower(task)
        return {"ok": True}

    def finish(self) -> dict[str, Any]:
        """End the capture and its dumps."""
        why = devices.why_without_blocks(self._running().segment.control())
        done = self._end()
        self._done = True
        if not done.paths and not done.problem:
            done.warnings.append(f"there is no dump: {why}")
        shown = [f"warning: {text}" for text in (*done.warnings, done.problem) if text]
        with contextlib.suppress(MemError):
            shown += lines(done.paths, self._settings)
        return {"lines": shown}

    def _end(self) -> Collected:
        session, self.session = self._running(), None
        follower, self._follower = self._follower, None
        session.discard()
        assert follower is not None
        return follower.finish()

    def _leave(self, session: Session) -> None:  # noqa: ARG002 - the one that runs
        """The process has ended without a word."""
        try:
            done = self._end()
        except MemError as error:
            sys.stderr.write(f"mem_profiler: {error}\n")
            return
        for text in (*done.warnings, done.problem):
            if text:
                sys.stderr.write(f"mem_profiler: {text}\n")
