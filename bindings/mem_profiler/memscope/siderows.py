"""Rows of events that the program itself knows of, beside the log of its blocks.

One file per process, one JSON array a line:

    [time_ns, tid, device, event, event type, name, address, {attributes}, Python stack]

Times are CLOCK_MONOTONIC, as in the log. `device` is "cpu", a number as text, or null; `address`
and the stack may be null. Words are those of the dump's columns; three events are for the
conversion alone: OWNER (who owns the block at an address), PHASE (what a thread begins) and LOST.
A line is written at once, with one system call for all lines of a moment: what was written is in
the file also when the process is killed. A stack is `file(line): function`, innermost first.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, NamedTuple, Optional

from mem_parser.libraries.frameworks import FrameKind, folded, kind_of
from mem_parser.output_path import open_own
from mem_profiler import OWN_FOLDERS

PREFIX = "side_rows_"
SUFFIX = ".jsonl"
MOST_CHARS = 1 << 16
"""Of one line; what is longer has no stack, and a name that was cut."""
_NAME_CHARS = 4096
_MODE = 0o640
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_json = json.JSONEncoder(separators=(",", ":")).encode


class SideRow(NamedTuple):
    """One row, in the order of a line."""

    time_ns: int
    tid: int
    device: Optional[str]  # noqa: UP045 - Python 3.9 evaluates it
    event: str
    event_type: str
    name: str
    address: Optional[int] = None  # noqa: UP045 - same
    attributes: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    stack: Optional[str] = None  # noqa: UP045 - same


def row_now(event: str, event_type: str, name: str, **rest: Any) -> SideRow:
    """Return a row of this moment and thread; ``rest`` are other fields of `SideRow`."""
    fields: dict[str, Any] = {"device": None, **rest}
    return SideRow(
        time.monotonic_ns(), threading.get_native_id(), event=event, event_type=event_type,
        name=name, **fields,
    )  # fmt: skip


def line_of(row: SideRow) -> str:
    """Return the line of a row, with its end."""
    line = _json(row)
    if len(line) >= MOST_CHARS:
        line = _json(row._replace(name=row.name[:_NAME_CHARS], attributes={}, stack=None))
    return line + "\n"


class SideRows:
    """The file of this process in a folder; a fork child gets its own.

    Never raises after it was made: rows that could not be written are counted, and each number is
    said once by a row of the event LOST, as soon as there is room again.
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        self._handle = -1
        self._pid = 0
        self._torn = False
        self._said = 0
        self._opening = threading.Lock()
        self.lost = 0
        """Rows that are not in the file."""
        self._open()

    @property
    def path(self) -> str:
        """The name of this process's file."""
        return os.path.join(self._folder, f"{PREFIX}{os.getpid()}{SUFFIX}")

    def _open(self) -> None:
        self._handle = open_own(self.path, _FLAGS, _MODE)
        self._pid = os.getpid()

    def write(self, rows: Iterable[SideRow]) -> None:
        """Write rows."""
        self.write_lines([line_of(row) for row in rows])

    def write_lines(self, lines: list[str]) -> None:
        """Write lines that `line_of` made, or that have its form."""
        if self._pid != os.getpid():
            self._reopen()
        text = "".join(lines)
        said = self.lost
        if self._torn:
            lost = row_now("LOST", "ROWS", str(said - self._said))
            text = "\n" + line_of(lost) + text
        data = text.encode("ascii", "replace")
        try:
            done = os.write(self._handle, data)
        except OSError:
            done = 0
        if done == len(data):
            if self._torn:
                self._torn, self._said = False, said
        else:
            # The begin of a line may be there: the next text ends it.
            self._torn = True
            self.lost += len(lines) - data[:done].count(b"\n")

    def _reopen(self) -> None:
        """In a fork child: leave the parent's file."""
        with self._opening:
            if self._pid == os.getpid():
                return
            self.lost = self._said = 0
            self._torn = False
            try:
                self._open()
            except OSError:
                # Each write fails, and counts.
                self._handle, self._pid = -1, os.getpid()

    def close(self) -> None:
        """Close the file; rows that come later are lost."""
        handle, self._handle = self._handle, -1
        if handle >= 0 and self._pid == os.getpid():
            os.close(handle)


_PROGRAM = FrameKind.PROGRAM
_MOST_FRAMES = 512
"""As many innermost frames are looked at, as the sampler reads."""


def python_stack(depth: int, *, every: bool = False) -> str | None:
    """Return at most ``depth`` frames, none of ours; None for a depth of 0. ``every``: the inner
    frames of a framework too.
    """
    if depth <= 0:
        return None
    found = folded(_frames(sys._getframe(1), every=every), depth)  # noqa: SLF001 - documented
    lines = [
        f"{frame.f_code.co_filename}({frame.f_lineno}): {frame.f_code.co_name}" for frame in found
    ]
    return "\n".join(lines) or "NA"


def _frames(frame: FrameType | None, *, every: bool) -> Iterator[tuple[FrameType, FrameKind]]:
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return
        code = frame.f_code
        if not code.co_filename.startswith(OWN_FOLDERS):
            yield frame, _PROGRAM if every else kind_of(code.co_filename, code.co_name)
        frame = frame.f_back
