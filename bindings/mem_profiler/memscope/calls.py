"""Calls of Python functions with their begin and end, in all threads, and their files.

From Python 3.12 on by `sys.monitoring`, which sees every thread; before by profile functions, which
see the thread that starts and those that begin later. A generator has a span for each time it runs.
A call that began before the trace begins with it, one that goes on when it ends ends with it.

There is a `python_trace_{thread}_{time}.csv` per thread. Rows wait in memory until there are
`BATCH_ROWS` of them, or the trace ends: so many are lost if the process is killed.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Any

from mem_parser.memscope.form import PYTHON_TRACE
from mem_parser.output_path import open_own
from mem_profiler import OWN_FOLDERS

BATCH_ROWS = 1024
_MODE = 0o640
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class TraceFile:
    """The file of one thread. After a write that failed it takes no more, and says why."""

    def __init__(self, folder: str, tid: int, stamp: str) -> None:
        self.path = os.path.join(folder, f"python_trace_{tid}_{stamp}.csv")
        self._tid = tid
        self._pid = os.getpid()
        self._begun = False
        self._rows: list[tuple[str, int, int]] = []
        self.problem = ""
        self.lost = 0

    def add(self, name: str, start_ns: int, end_ns: int) -> None:
        """Take a call."""
        self._rows.append((name, start_ns, end_ns))
        if len(self._rows) >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._begun:
            writer.writerow(PYTHON_TRACE)
        writer.writerows((*row, self._tid, self._pid) for row in rows)
        data = text.getvalue().encode("utf-8", "backslashreplace")
        try:
            handle = open_own(self.path, _FLAGS, _MODE)
            try:
                while data:
                    data = data[os.write(handle, data) :]
            finally:
                os.close(handle)
            self._begun = True
        except OSError as error:
            self.problem = f"{self.path}: {error.strerror}"
            self.lost += len(rows)


_TOOL_NAME = "mem_profiler"
_now = time.monotonic_ns
_MOST_NAMES = 1 << 16


class _Thread:
    """One thread's open calls and its file."""

    __slots__ = ("file", "open")

    def __init__(self, file: TraceFile) -> None:
        self.file = file
        self.open: list[tuple[Any, int]] = []


class Calls:
    """Traces calls between `start` and `stop`, to files in a folder."""

    def __init__(self, folder: str, stamp: str) -> None:
        self._folder = folder
        self._stamp = stamp
        self._local = threading.local()
        self._threads: list[_Thread] = []
        self._names: dict[CodeType, str] = {}
        self._began_ns = 0
        self._tool: _Monitoring | _Profile | None = None

    def start(self) -> None:
        """Begin. Raises RuntimeError where another tool has the interpreter's hooks."""
        self._began_ns = _now()
        tool = _Monitoring(self) if hasattr(sys, "monitoring") else _Profile(self)
        tool.start()
        self._tool = tool

    def stop(self) -> list[str]:
        """End; returns a line for each file that could not be written."""
        if self._tool is None:
            return []
        self._tool.stop()
        self._tool = None
        end_ns = _now()
        for thread in self._threads:
            for key, start_ns in reversed(thread.open):
                thread.file.add(self._name(key), start_ns, end_ns)
            thread.open.clear()
            thread.file.flush()
        return [
            f"{t.file.problem}: {t.file.lost} calls are missing"
            for t in self._threads
            if t.file.lost
        ]

    def abandon(self) -> None:
        """In a fork child: trace no more, and write nothing."""
        if self._tool is not None:
            self._tool.stop()
            self._tool = None
        self._threads.clear()

    @property
    def paths(self) -> list[str]:
        """The files of all threads that called something."""
        return [thread.file.path for thread in self._threads]

    def entered(self, key: CodeType | str) -> None:
        """A call begins in this thread: of a code object, or of a name."""
        self._mine().open.append((key, _now()))

    def left(self, key: CodeType | str) -> None:
        """The latest call of ``key`` ends; those inside of it that nobody saw end, end too."""
        end_ns = _now()
        thread = self._mine()
        calls = thread.open
        if calls and calls[-1][0] is key:
            _, start_ns = calls.pop()
            thread.file.add(self._name(key), start_ns, end_ns)
            return
        if not any(known is key for known, _ in calls):
            # Its begin was before the trace, and so was that of all open ones around it.
            thread.file.add(self._name(key), self._began_ns, end_ns)
            return
        while calls:
            known, start_ns = calls.pop()
            thread.file.add(self._name(known), start_ns, end_ns)
            if known is key:
                return

    def _mine(self) -> _Thread:
        try:
            thread: _Thread = self._local.thread
        except AttributeError:
            file = TraceFile(self._folder, threading.get_native_id(), self._stamp)
            thread = self._local.thread = _Thread(file)
            self._threads.append(thread)
        return thread

    def _name(self, key: CodeType | str) -> str:
        if isinstance(key, str):
            return key
        name = self._names.get(key)
        if name is None:
            if len(self._names) > _MOST_NAMES:
                self._names.clear()
            function = getattr(key, "co_qualname", key.co_name)
            name = f"{key.co_filename}({key.co_firstlineno}): {function}"
            self._names[key] = name
        return name


def is_ours(code: CodeType) -> bool:
    """Whether a function is of this package."""
    return code.co_filename.startswith(OWN_FOLDERS)


class _Profile:
    """Profile functions, before Python 3.12."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._before: Any = None
        self._active = False

    def start(self) -> None:
        if sys.getprofile() is not None:
            raise RuntimeError("another profiler runs in this thread: only one can")
        self._before = getattr(threading, "_profile_hook", None)
        self._active = True
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    def stop(self) -> None:
        self._active = False
        threading.setprofile(self._before)
        if sys.getprofile() == self._event:
            sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: object) -> None:
        if not self._active:
            # A thread that goes on after the trace.
            sys.setprofile(None)
        elif event == "call":
            if not is_ours(frame.f_code):
                self._calls.entered(frame.f_code)
        elif event == "return" and not is_ours(frame.f_code):
            self._calls.left(frame.f_code)


class _Monitoring:
    """`sys.monitoring`, from Python 3.12 on."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._id = -1

    def start(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        free = [k for k in (monitoring.PROFILER_ID, 3, 4) if monitoring.get_tool(k) is None]
        if not free:
            raise RuntimeError("other tools have all places of sys.monitoring for profilers")
        self._id = free[0]
        monitoring.use_tool_id(self._id, _TOOL_NAME)
        every = 0
        for event, call in self._events(monitoring).items():
            monitoring.register_callback(self._id, event, call)
            every |= event
        monitoring.set_events(self._id, every)

    def _events(self, monitoring: Any) -> dict[int, Any]:
        events = monitoring.events
        return {
            events.PY_START: self._begin,
            events.PY_RESUME: self._begin,
            events.PY_RETURN: self._end,
            events.PY_YIELD: self._end,
            events.PY_THROW: self._thrown,
            events.PY_UNWIND: self._unwound,
        }

    def stop(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        monitoring.set_events(self._id, 0)
        for event in self._events(monitoring):
            monitoring.register_callback(self._id, event, None)
        monitoring.free_tool_id(self._id)
        # Places that said DISABLE are for the next trace again.
        monitoring.restart_events()

    def _begin(self, code: CodeType, _: int) -> Any:
        if is_ours(code):
            return sys.monitoring.DISABLE  # type: ignore[attr-defined, unused-ignore]
        self._calls.entered(code)
        return None

    def _end(self, code: CodeType, _: int, __: object) -> Any:
        if is_ours(code):
            return sys.monitoring.DISABLE  # type: ignore[attr-defined, unused-ignore]
        self._calls.left(code)
        return None

    def _thrown(self, code: CodeType, _: int, __: object) -> None:
        if not is_ours(code):
            self._calls.entered(code)

    def _unwound(self, code: CodeType, _: int, __: object) -> None:
        if not is_ours(code):
            self._calls.left(code)
