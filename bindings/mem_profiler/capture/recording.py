"""One capture, followed from outside: readings while it runs, its file at the end.

Model: a command, a run or a helper of tests has a `Recording` of each segment and calls `tick`
in a loop (`loop`). An event drain, a live view or an agent is a listener: the
loop calls it after every reading, on its own thread; it may not take longer than a reading.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mem_parser import runtimes, unseen
from mem_parser.errors import MemError, one_line
from mem_parser.heapfile.form import Form
from mem_profiler.capture import gate
from mem_profiler.capture.output import Where
from mem_profiler.capture.recorder import Pace, Recorder
from mem_profiler.entries import planning
from mem_profiler.process import heappages, pagemap, procfs, stillmapped
from mem_profiler.process.codefiles import CodeFiles
from mem_profiler.profile import bypass
from mem_profiler.profile.target import Target
from mem_profiler.segment import collect, devices, presence, usable
from mem_profiler.segment.file import Control, Segment

if TYPE_CHECKING:
    from mem_profiler.capture.saving import Result
    from mem_profiler.events.collector import Collector, Log
    from mem_profiler.events.logs import Logging
    from mem_profiler.profile.build import Ending

NAMELESS_NOTE = "names of code that the program made as it ran are missing: {}"
_LIBRARIES_MAX = 1000
Listener = Callable[["Recording"], None]


def unseen_notes(control: Control, pid: int) -> list[str]:
    """The note on an allocator inside the program that does not lead to the sampler; ``pid`` is as
    of `Recording`. The program of a process that is gone is what its file is now.
    """
    if usable.sees_inside(control):
        return []
    path = control.text("exe")
    if pid and procfs.exe(pid) == path:
        path = f"/proc/{pid}/exe"
    elif control.number("pidns_inode") != procfs.pidns_inode():
        return []  # its files may be others
    why = planning.unseen(path, one_line(path))
    return [unseen.NOTE + why] if why else []


def opened_notes(control: Control) -> list[str]:
    """The note on libraries that the process opened after an attach."""
    opened = control.number("opened_later")
    if not opened:
        return []
    what, they = ("a library", "it") if opened == 1 else (f"{opened:,} libraries", "they")
    note = (
        f"the process opened {what} after the sampler came; what {they} allocated before the next"
        " dlopen or dlsym may be missing; `mem_profiler run` sees all"
    )
    return [note]


class Recording:
    """The latest capture of one segment. `pid` is the process as seen from here, 0: not visible.

    `changes_segment`: readings also reserve memory ahead and keep flags, as the controller does.
    `resident`: the file also says which bytes of the blocks in use are in RAM, and what they
    waste.
    """

    def __init__(
        self,
        segment: Segment,
        pid: int,
        pace: Pace = Pace(),  # noqa: B008 - frozen
        *,
        changes_segment: bool = True,
    ) -> None:
        self.segment = segment
        self.pid = pid
        self.target = Target.of(pid) if pid else Target(None)
        self.code_files = CodeFiles(pid) if pid else None
        self.recorder = Recorder(segment, pid, pace, reserves=changes_segment)
        self.resident = False
        self._known: dict[str, str] = {}
        self._changes_segment = changes_segment
        self.listeners: list[Listener] = []
        self._collector: Collector | None = None
        self._clock_offset_ns = procfs.clock_offset_ns(pid) if pid else 0

    def now_ns(self) -> int:
        """The target's clock, which still runs when the target is gone."""
        return time.monotonic_ns() + self._clock_offset_ns

    def here_ns(self, target_ns: int) -> int:
        """A time of the target's clock by this process's."""
        return target_ns - self._clock_offset_ns

    def made_ns(self) -> int:
        """When its segment was made, by this process's clock."""
        return self.here_ns(self.segment.control().number("created_monotonic_ns"))

    def due_in(self) -> float:
        """Seconds until the next reading is due."""
        return self.recorder.due_in()

    def tick(self) -> None:
        """Take a reading if one is due. Raises MemError, MemoryError, OSError."""
        if self.due_in() > 0:
            return
        if self.pid and self._changes_segment:
            gate.update_flags(self.segment, self.pid)
        self.recorder.tick(self.now_ns())
        for listener in self.listeners:
            listener(self)

    def begin_log(self, number: int, pid: int, logging: Logging) -> None:
        """Write the events of capture `number` to a log, which `finish` or `close` ends. The
        capture may start later. Raises MemError.
        """
        from mem_profiler.events import logs

        followed = logs.Followed(self.segment, self.target, number, self._clock_offset_ns)
        self._collector = logs.begin(followed, pid, logging)

    @property
    def log_has_ended(self) -> bool:
        """Whether a log was started and has ended by itself: `end_log` returns why."""
        return self._collector is not None and self._collector.has_ended

    def end_log(self, how: str) -> Log | None:
        """Write the remaining events to the log and end it; None if there is no log. `how` is the
        value of its END: the `end` of a header.
        """
        collector, self._collector = self._collector, None
        return collector.finish(how) if collector is not None else None

    def _end_log(self, prefix: Where, pid: int, how: str) -> Log | None:
        """The log of the capture, if it has one: the started log, or one of its last events."""
        if self._collector is not None:
            return self._collector.finish(how)
        control = self.segment.control()
        if not control["events"]["rings"]:
            return None
        from mem_profiler.events import logs

        number = control.number("capture_number")
        followed = logs.Followed(self.segment, self.target, number, self._clock_offset_ns)
        return logs.write_last(followed, pid, prefix, how)

    def discard_log(self) -> None:
        """End a log and remove its files, because the program has executed another one."""
        if self._collector is not None:
            log = self._collector.finish("target ended")
            self._collector = None
            for path in log.paths:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def close(self) -> None:
        """End an unfinished log; its files stay."""
        if self._collector is not None:
            self._collector.close()

    def finish(
        self,
        prefix: Where,
        pid: int,
        kind: str,
        end: str,
        *,
        notes: list[str] | None = None,
        form: Form = Form.AUTO,
        with_events: bool = True,
    ) -> Result:
        """Take the last reading and write the next files of `prefix` and `pid`.

        `kind` and `end` are those of the header. `with_events`: also the last events that are in no
        file, where the capture writes events. Raises MemError.
        """
        from mem_profiler.capture import saving
        from mem_profiler.profile.build import Ending, build
        from mem_profiler.profile.jit_names import with_names

        log = self._end_log(prefix, pid, end) if with_events else None
        now = self.now_ns()
        self.recorder.tick(now, final=True)
        files, missing = self._copy_code_files()
        missing += unseen_notes(self.segment.control(), self.pid)
        missing += opened_notes(self.segment.control())
        self.target.brought = self._brought()
        ending = Ending(kind, end, now, (*(notes or ()), *missing))
        pages, unknown = self._open_pages(ending)
        mappings, uncompared = self._open_mappings(ending)
        ending = dataclasses.replace(ending, notes=(*ending.notes, *unknown, *uncompared))
        readings = self.recorder.readings
        make = functools.partial(
            build, self.segment, self.target, ending, readings,
            page_fds=pages, mapped=stillmapped.of_descriptors(mappings),
        )  # fmt: skip
        try:
            named = functools.partial(with_names, make, files)
            result = saving.save(
                prefix, pid, self.segment, named, form, keep=[*files, *pages, *mappings]
            )
        finally:
            for fd in (*files, *pages, *mappings):
                os.close(fd)
        result.log = log
        return result

    def _brought(self) -> dict[str, str]:
        """The allocators that libraries of the target bring along, where its memory has grown much.

        The files of a process that is gone are what they are now.
        """
        control, environment = self.segment.control(), self.target.environment
        if self.recorder.readings.anon.bytes < bypass.LEAST_BROUGHT_BYTES:
            return {}
        led = control.numbers("led_libraries")
        code = [m for m in self.target.mappings if m.inode and "x" in m.permissions]
        # By its path: what was changed in a library's code divides its mapping.
        seen = {m.path for m in code if any(m.start <= at < m.end for at in led)}
        paths = [m.path for m in code if m.path not in seen]
        root = f"/proc/{self.pid}/root" if paths else ""
        if not paths and control.number("pidns_inode") == procfs.pidns_inode():
            paths = [
                module.path
                for module in collect.read_modules(self.segment, control)
                if not any(module.start <= at < module.end for at in led)
            ]
        libraries = [
            path
            for path in dict.fromkeys(paths)
            if path.startswith("/")
            and not ((known := runtimes.library_of(path)) and known.uses_malloc(environment))
        ]
        new = [path for path in libraries if path not in self._known][:_LIBRARIES_MAX]
        if new:
            with contextlib.suppress(MemError):
                found = planning.brought([root + path for path in new])
                self._known.update((path, found.get(root + path, "")) for path in new)
        return {path: self._known[path] for path in libraries if self._known.get(path)}

    def _open_pages(self, ending: Ending) -> tuple[list[int], list[str]]:
        """The descriptors of the target's pagemap, mappings and memory, which the caller closes,
        and why there are none.

        Only here are the rights to open them: the child that reads the blocks has given them up.
        """
        if not self.resident:
            return [], []
        kinds = [pagemap.open_pagemap, stillmapped.open_maps, heappages.open_memory]
        return self._open_of_target(ending, kinds)

    def _open_mappings(self, ending: Ending) -> tuple[list[int], list[str]]:
        """The same for a target that made mappings: its list of them, and its pagemap."""
        control = self.segment.control()
        used = devices.used_in(
            devices.read_domains(self.segment, control), control.number("capture_number")
        )
        if not any(domain.is_mapped for domain in used) or ending.target_ended:
            return [], []
        return self._open_of_target(ending, stillmapped.LISTS)

    def _open_of_target(
        self, ending: Ending, kinds: Sequence[Callable[[int], int]]
    ) -> tuple[list[int], list[str]]:
        if not self.pid or ending.target_ended:
            return [], [pagemap.ENDED_NOTE]
        found = presence.open_of(self.pid, self.segment.control(), kinds)
        return ([], [pagemap.ENDED_NOTE]) if found is None else found

    def _copy_code_files(self) -> tuple[list[int], list[str]]:
        """Descriptors of copies, which the caller closes, and why there are none."""
        if self.code_files is None:
            return [], []
        uid = os.fstat(self.segment.fd).st_uid
        try:
            paths = (one.path for one in self.target.mappings)
            return self.code_files.copy(uid, paths), []
        except MemError as error:
            return [], [NAMELESS_NOTE.format(error)]
