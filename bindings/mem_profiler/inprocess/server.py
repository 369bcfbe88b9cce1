"""Serve the commands of a process that captures itself.

Model: one line of JSON for each command and one for each answer, over a pipe. Between commands it
reads the counters, as every capture does. It ends when its input does, or the process that asks,
whose fork children may hold the pipe, too.

    start RATE DEPTH            begins a capture                     {"ok": true}
    snapshot PREFIX FORM        writes what the capture has so far   {"path": "..."}
    stop PREFIX FORM            ends it and writes its file          {"path": "...", ...}
    leave                       drops it, and ends this process      {"ok": true}

A tracker (`mem_profiler.tracking`) gives exact names, and has its file where it ends by itself too:

    track RATE DEPTH PATH REPLACE FORM EVENTS TRACKED    begins a capture    {"ok": true}
    write PATH REPLACE FORM               as snapshot                {"path": "..."}
    end                                   as stop                    {"path": "..."}
    mark NS TID ID KIND TEXT              adds a mark of the program, without an answer
    threads NAMES                         the names of its threads, without an answer
    cells NAMES                           the names of a notebook's cells, without an answer
    rename PATH                           the file's name from now on, without an answer

With TRACKED, what `mem_parser.model.Tracked` has, the file is there from the beginning on, with
what the capture has so far, and a log that an earlier file of its name left behind goes.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from mem_parser.devices import MARK_KINDS, Mark
from mem_parser.errors import MemError
from mem_parser.estimate import are_many_lost
from mem_parser.heapfile.form import Form
from mem_parser.model import SECTION_ENDED
from mem_parser.output_path import PROFILE_SUFFIXES, log_stem
from mem_parser.records.logfolder import facts_of
from mem_parser.tracked import Tracked, read_tracked
from mem_profiler.capture import output, toggle
from mem_profiler.capture.output import ExactFile
from mem_profiler.capture.saving import Result
from mem_profiler.capture.session import Rates, Session
from mem_profiler.entries import plan_file, planning
from mem_profiler.events.collector import Limits, check_names, files_of_name
from mem_profiler.events.logs import Logging
from mem_profiler.process import packages, procfs
from mem_profiler.process.death import Watch
from mem_profiler.profile.readings import Growth
from mem_profiler.segment import collect

ENDING_S = 2.0
INTERIM_S = 0.25
INTERIM_SHARE = 20
"""Files of what a capture has so far: after so long, then each after twice the time of the one
before; and making them takes at most so small a part of the time."""
MARK_DOMAIN = "python"
TEXT_MAX = 500
LOG_FILES_MAX = 100_000


@dataclass(frozen=True)
class _File:
    """Where a capture goes, and how."""

    where: ExactFile
    form: Form

    @classmethod
    def of(cls, path: str, replace: bool, form: str, *, log: bool = False) -> _File:
        """Check a name, and those of a log, before there is something to write. Raises
        UsageProblem.
        """
        exact = ExactFile(path, replace)
        output.check_exact(exact)
        if log:
            check_names(exact)
        return cls(exact, Form(form))


class Server:
    """The commands, in the helper."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.session: Session | None = None
        self.file: _File | None = None
        self._marks: list[tuple[int, int, int, str, str]] = []
        self._done = False
        self._unseen: Growth | None = None
        self._interim_s = INTERIM_S
        self._interim_due = math.inf

    def start(
        self,
        rate: int,
        depth_limit: int | None,
        logging: Logging | None = None,
        tracked: Tracked | None = None,
    ) -> dict[str, Any]:
        """Begin a capture."""
        session = Session(self.pid)
        session.recording.target.tracked = tracked
        try:
            session.start(Rates(rate, depth_limit=depth_limit, logging=logging), None)
        except BaseException:
            session.close()
            raise
        self.session, self._marks = session, []
        if self._unseen is not None:
            session.recording.recorder.readings.anon.follow(self._unseen)
        return {"ok": True}

    def track(self, rate: int, depth_limit: int | None, *file: Any) -> dict[str, Any]:
        """Begin a capture whose file has its name; with EVENTS, also a log, all of whose files
        stay.
        """
        path, replace, form, events, told = file
        if told is not None and not os.path.lexists(path):
            _remove_log_of(path)
        self.file = _File.of(path, replace, form, log=events)
        limits = Limits(files=LOG_FILES_MAX)
        logging = Logging(self.file.where, limits=limits) if events else None
        if told is None:
            return self.start(rate, depth_limit, logging)
        writer = os.getpid(), procfs.start_ticks(os.getpid()) or 0
        tracked = dataclasses.replace(read_tracked(told), writer=writer)
        answer = self.start(rate, depth_limit, logging, tracked)
        try:
            self._write_interim(self._running(), self.file)
        except MemError:
            session, self.session = self._running(), None
            session.abandon()
            raise
        self.file = dataclasses.replace(self.file, where=ExactFile(path, replace=True))
        return answer

    def plans(self, folders: list[str]) -> dict[str, Any]:
        """The plans for the allocators that large libraries bring along: those that the program
        has, and those in packages in its folders.
        """
        least_bytes = planning.LARGE_LIBRARY_BYTES
        found = packages.libraries(folders, least_bytes)
        present = (one.path for one in procfs.maps(self.pid) if "x" in one.permissions)
        found += [path for path in present if packages.is_large(path, least_bytes)]
        plans: list[bytes] = []
        with contextlib.suppress(MemError, OSError):
            plans = planning.of_own_libraries(found)[: plan_file.PLANS_MAX]
        return {"plans": base64.b64encode(b"".join(plans)).decode()}

    def snapshot(self, prefix: str, form: str) -> dict[str, Any]:
        """Write a snapshot."""
        return {"path": toggle.snapshot(self.pid, prefix, Form(form)).path}

    def write(self, path: str, replace: bool, form: str) -> dict[str, Any]:
        """Write a snapshot under a name."""
        session = self._running()
        self._put_marks(session)
        return {"path": self._write_snapshot(session, _File.of(path, replace, form))}

    def _write_snapshot(self, session: Session, file: _File) -> str:
        session.recording.target.refresh()
        result = session.recording.finish(
            file.where, self.pid, "snapshot", "running", notes=session.notes, form=file.form,
            with_events=False,
        )  # fmt: skip
        return result.path

    def _write_interim(self, session: Session, file: _File) -> None:
        """Write what the capture has so far under the name of its file, and say when again."""
        began_s = time.monotonic()
        self._write_snapshot(session, file)
        took_s = time.monotonic() - began_s
        self._interim_due = began_s + max(self._interim_s, INTERIM_SHARE * took_s)
        self._interim_s *= 2

    def stop(self, prefix: str, form: str) -> dict[str, Any]:
        """End the capture and write its file."""
        session, self.session = self._running(), None
        try:
            result = session.finish(prefix, SECTION_ENDED, Form(form))
            if session.recording.target.brought:
                self._unseen = session.recording.recorder.readings.anon
            return _written(result)
        finally:
            session.close()

    def leave(self) -> dict[str, Any]:
        """Drop a capture that runs: nobody asks any more."""
        session, self.session = self.session, None
        self._done = True
        if session is not None:
            session.abandon()
        return {"ok": True}

    def end(self) -> dict[str, Any]:
        """End the capture and write the file that it has."""
        session, self.session = self._running(), None
        self._done = True
        assert self.file is not None
        try:
            # Not before: what allocates now is the program's no more.
            session.stop()
            self._put_marks(session)
            result = session.finish(self.file.where, SECTION_ENDED, self.file.form)
        finally:
            session.close()
        return _written(result)

    def rename(self, path: str) -> None:
        """Give the file of a tracker another name than that which it has if the program dies."""
        assert self.file is not None
        self.file = dataclasses.replace(self.file, where=ExactFile(path, self.file.where.replace))

    def mark(self, time_ns: int, tid: int, number: int, kind: str, text: str) -> None:
        """Keep a mark of the program."""
        if kind in MARK_KINDS:
            self._marks.append((time_ns, tid, number, kind, text[:TEXT_MAX]))

    def threads(self, names: list[Any]) -> None:
        """Keep the names of the program's threads: pairs of number and name."""
        target = self._running().recording.target
        if target.tracked is not None:
            known = read_tracked({"threads": names}).threads
            target.tracked = dataclasses.replace(target.tracked, threads=known)

    def cells(self, names: list[Any]) -> None:
        """Keep what a notebook calls its cells: pairs of file and name."""
        pairs = {str(file): str(name)[:TEXT_MAX] for file, name in names}
        self._running().recording.target.cells.update(pairs)

    def _running(self) -> Session:
        if self.session is None:
            raise MemError("no capture runs")
        return self.session

    def _put_marks(self, session: Session) -> None:
        """Put the marks among those of the recording, with the rows of their threads."""
        control = session.segment.control()
        log = session.recording.recorder.readings.marks
        log.update(session.segment, control)
        threads = collect.read_threads(session.segment, control)
        rows = {thread.tid: thread.row for thread in threads}
        start_ns = int(control.capture["start_ns"])
        log.add(
            Mark(
                (at - start_ns) / 1e9, number, kind, rows.get(tid, len(threads)), MARK_DOMAIN, text
            )
            for at, tid, number, kind, text in self._marks
        )
        self._marks = []

    def serve(self, client: int) -> None:
        """Execute commands until the input ends, the process that asks, or one that is tracked."""
        rest = b""
        watch = Watch(client)
        while not self._done:
            over = watch.ended()
            wait = None
            if self.session is not None:
                self.session.tick()
                is_over = self.session.over and self.file is not None
                if is_over and not watch.has_input(0, 0.0):  # what it said last counts
                    break
                self._interim(self.session)
                wait = min(self.session.due_in(), self._interim_due - time.monotonic())
                wait = max(wait, 0.0)
            if not watch.has_input(0, 0.0 if over else wait):
                if over:
                    break
                continue
            data = os.read(0, 65536)
            if not data:
                self._wait_for_its_end()
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                answer = self._answer(json.loads(line))
                # An interrupted client reads no answer; then the input ends too.
                with contextlib.suppress(BrokenPipeError):
                    if answer is not None:
                        os.write(1, json.dumps(answer).encode() + b"\n")
        if self.session is not None:
            self._leave(self.session)

    def _interim(self, session: Session) -> None:
        if time.monotonic() < self._interim_due or session.over or self.file is None:
            return
        try:
            self._write_interim(session, self.file)
        except MemError:
            # The previous file stays; the error shows at the end, which writes again.
            self._interim_due = math.inf

    def _wait_for_its_end(self) -> None:
        """A process that ends closes its files a moment before it is seen to have ended."""
        if self.session is not None and self.file is not None:
            self.session.watch.ended(ENDING_S)

    def _leave(self, session: Session) -> None:
        """The process has ended, or wants no more of this one."""
        if self.file is None:
            session.abandon()
            return
        try:
            self.end()
        except MemError as error:
            sys.stderr.write(f"mem_profiler: {error}\n")

    def _answer(self, command: list[Any]) -> dict[str, Any] | None:
        name, *arguments = command
        try:
            answer: dict[str, Any] | None = getattr(self, name)(*arguments)
        except MemError as error:
            return {"error": str(error), "hint": error.hint}
        return answer


def _written(result: Result) -> dict[str, Any]:
    """The answer on the files of a capture that has ended; `many_lost`: samples, where they are;
    `devices`: the files beside, by domain.
    """
    many = are_many_lost(result.samples, result.lost)
    return {
        "path": result.path, "samples": result.samples, "many_lost": result.lost if many else 0,
        "devices": {one.domain: one.path for one in result.devices},
    }  # fmt: skip


def _remove_log_of(path: str) -> None:
    """Remove the log of a file that is gone, unless it may be that of a file that is not."""
    stem = log_stem(path)
    if any(os.path.lexists(stem + suffix) for suffix in ("", *PROFILE_SUFFIXES)):
        return
    for found in files_of_name(path) if os.path.isdir(os.path.dirname(path)) else ():
        if facts_of(found) is not None:
            # Another user's stays; where a new log needs its name, `check_names` says so.
            with contextlib.suppress(PermissionError):
                os.unlink(found)
