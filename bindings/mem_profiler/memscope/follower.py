"""The process that writes the dumps of another one while that runs.

Model: a child of the controller reads the log of events and the side rows as they grow
(`mem_parser.memscope.collecting`), and writes rows a second after their events. It ends when the
log has ended and all of it is written. It may change files below the folder of that process alone.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from mem_parser.errors import DiskFull, MemError
from mem_parser.memscope.collecting import Collecting
from mem_parser.memscope.dumps import Dumps
from mem_parser.memscope.form import Folders
from mem_parser.memscope.logtail import LogTail
from mem_parser.memscope.settings import Settings
from mem_parser.memscope.siderows import SideFile, path_in
from mem_parser.symbols.cache import default_folder
from mem_profiler.memscope.mark import Mark, Unfinished
from mem_profiler.memscope.tree import EVENTS_FOLDER
from mem_sandbox import confine
from mem_sandbox.child import Asked, Child

PAUSE_S = 0.05
END_LIMIT_S = 600.0
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True)
class Task:
    """One process to follow: its settings and places, the stem of its log's files, and path of
    its segment, and how much later its clock is than ours.
    """

    settings: Settings
    places: Folders
    stem: str
    pid: int
    segment: str = ""
    clock_offset_ns: int = 0


@dataclass(frozen=True)
class Collected:
    """The outcome of a collection: files by device, gaps, and why it ended early."""

    pid: int
    paths: dict[str, str]
    warnings: list[str]
    problem: str = ""
    is_full: bool = False
    """Whether it ended early because the disk is full: `recover` completes it."""


class Follower:
    """Use as a context manager, or `close` it: no process of it outlives that."""

    def __init__(self, task: Task) -> None:
        """Begin. Raises MemError."""
        self._task = task
        self._closed = False
        told = Unfinished(task.settings, task.places, task.stem, task.pid, task.segment)
        try:
            self._mark = Mark.make(told)
        except OSError as error:
            raise MemError(f"cannot write in {task.places.run}: {error.strerror}") from None
        self._child = Child(
            lambda asked: _follow(task, asked),
            f"pid {task.pid}",
            enter=lambda: enter(task.places),
            memory_bytes=MEMORY_BYTES,
        )

    def finish(self) -> Collected:
        """Let it write the rest. The log has ended."""
        self._child.ask_to_stop()
        try:
            told = self._child.result(END_LIMIT_S)
            if not told["problem"]:
                self._mark.end()
        except MemError as error:
            return Collected(self._task.pid, {}, [], str(error))
        finally:
            self.close()
        paths = {str(device): str(path) for device, path in told["paths"].items()}
        return Collected(
            self._task.pid, paths, [str(line) for line in told["warnings"]], str(told["problem"]),
            bool(told["is_full"]),
        )  # fmt: skip

    def close(self) -> None:
        """End the process, if it still runs; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._child.__exit__()
            self._mark.release()


def enter(places: Folders) -> None:
    """Give up the rights that the dumps do not need: the log and the side rows are untrusted. What
    reads symbols keeps its cache, and has its temporary files beside the log.
    """
    temporary = os.path.join(places.run, EVENTS_FOLDER)
    os.environ["TMPDIR"] = tempfile.tempdir = temporary
    cache = default_folder()
    confine.enter_writer([places.run, *([os.fspath(cache)] if cache else ())])


def _follow(task: Task, asked: Asked) -> dict[str, Any]:
    """Read and write until asked to end. Runs in the child."""
    folder = os.path.join(task.places.run, EVENTS_FOLDER)
    dumps = Dumps(task.settings.form, task.places)
    collecting = Collecting(
        task.settings, LogTail(task.stem), SideFile(path_in(folder, task.pid)), dumps, task.pid
    )
    collecting.scribe.run_folder = task.places.run
    problem, is_full = "", False
    try:
        while not asked():
            if not collecting.step(time.monotonic_ns() + task.clock_offset_ns):
                time.sleep(PAUSE_S)
        collecting.finish()
    except sqlite3.Error as error:
        problem = f"the dump ends early: {error}"
    except OSError as error:
        problem = f"the dump ends early: {error.strerror}"
    except MemError as error:
        problem = f"the dump ends early: {error}"
        is_full = isinstance(error, DiskFull)
    finally:
        with contextlib.suppress(OSError, sqlite3.Error):
            collecting.close()
    return {
        "paths": dumps.paths, "warnings": collecting.warnings, "problem": problem,
        "is_full": is_full,
    }  # fmt: skip
