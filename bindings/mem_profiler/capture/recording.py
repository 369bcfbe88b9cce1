"""One capture as followed from outside: readings while it goes on, its file at the end.

Model: a command, a run or a process beside tests has a `Recording` of each segment and calls `tick`
in a loop (`loop`). A drain of what the segment collects, a live view or an agent is a listener: the
loop calls it after every reading, on its own thread; it may not take longer than a reading.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

from mem_parser.errors import MemError
from mem_parser.heapfile.form import Form
from mem_profiler.capture import gate, saving
from mem_profiler.capture.output import Where
from mem_profiler.capture.recorder import Pace, Recorder
from mem_profiler.capture.saving import Result
from mem_profiler.process import procfs
from mem_profiler.process.codefiles import CodeFiles
from mem_profiler.profile.build import Ending, build
from mem_profiler.profile.madecode import with_names
from mem_profiler.profile.target import Target
from mem_profiler.segment.file import Segment

NAMELESS_NOTE = "names of code that the program made as it ran are missing: {}"
Listener = Callable[["Recording"], None]


class Recording:
    """The latest capture of one segment. `pid` is the process as seen from here, 0: not visible."""

    def __init__(
        self,
        segment: Segment,
        pid: int,
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> None:
        self.segment = segment
        self.pid = pid
        self.target = Target.of(pid) if pid else Target(None)
        self.code_files = CodeFiles(pid) if pid else None
        self.recorder = Recorder(segment, pid, pace)
        self.listeners: list[Listener] = []
        self._clock_offset_ns = procfs.clock_offset_ns(pid) if pid else 0

    def now_ns(self) -> int:
        """The target's clock, which goes on when the target is gone."""
        return time.monotonic_ns() + self._clock_offset_ns

    def due_in(self) -> float:
        """Seconds until the next reading is due."""
        return self.recorder.due_in()

    def tick(self) -> None:
        """Take a reading if one is due. Raises MemError, MemoryError, OSError."""
        if self.due_in() > 0:
            return
        if self.pid:
            gate.update_flags(self.segment, self.pid)
        self.recorder.tick(self.now_ns())
        for listener in self.listeners:
            listener(self)

    def finish(
        self,
        prefix: Where,
        pid: int,
        kind: str,
        end: str,
        *,
        notes: list[str] | None = None,
        form: Form = Form.AUTO,
    ) -> Result:
        """Take the last reading and write the next files of `prefix` and `pid`.

        `kind` and `end` are those of the header. Raises MemError.
        """
        now = self.now_ns()
        self.recorder.tick(now, final=True)
        files, missing = self._copy_code_files()
        ending = Ending(kind, end, now, (*(notes or ()), *missing))
        readings = self.recorder.readings
        make = functools.partial(build, self.segment, self.target, ending, readings)
        try:
            named = functools.partial(with_names, make, files)
            return saving.save(prefix, pid, self.segment, named, form, keep=files)
        finally:
            for fd in files:
                os.close(fd)

    def _copy_code_files(self) -> tuple[list[int], list[str]]:
        """Descriptors of copies, which the caller closes, and why there are none."""
        if self.code_files is None:
            return [], []
        uid = os.fstat(self.segment.fd).st_uid
        try:
            return self.code_files.copy(uid, self.target.mappings), []
        except MemError as error:
            return [], [NAMELESS_NOTE.format(error)]
