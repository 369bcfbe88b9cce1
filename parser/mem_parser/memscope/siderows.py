"""Rows that a program tells of itself: one file per process, one JSON array a line.

    [time_ns, tid, device, event, event type, name, address, {attributes}, Python stack]

Times are CLOCK_MONOTONIC in nanoseconds. ``device`` and ``address`` may be null, and so may the
stack. The words are those of a dump; some events are for the conversion alone (`INTERNAL`). The
file grows while it is read, and is untrusted: a line that is none is left out and counted.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, NamedTuple

from mem_parser.memscope.form import EVENTS, NOTHING, canonical_device
from mem_parser.plainfile import open_plain

PREFIX, SUFFIX = "side_rows_", ".jsonl"
LINE_MAX_BYTES = 1 << 17
TEXT_MAX_CHARS = 4096
CONFIG, OWNER, REGION, PHASE, LOST = "CONFIG", "OWNER", "REGION", "PHASE", "LOST"
INTERNAL = frozenset((CONFIG, OWNER, REGION, PHASE, LOST))
_KNOWN = frozenset(EVENTS) | INTERNAL
_DEVICE = re.compile("[0-9]{1,6}|cpu|host|N/A")
_READ_BYTES = 1 << 20
_FIELDS = 9
_MOST = 1 << 62
_ADDRESS_END = 1 << 64


class SideRow(NamedTuple):
    """One row, in the order of a line."""

    time_ns: int
    tid: int
    device: str | None
    event: str
    type: str
    name: str
    address: int | None
    attributes: dict[str, Any]
    stack: str | None


def path_in(folder: str, pid: int) -> str:
    """Return the name of the file of a process in a folder."""
    return os.path.join(folder, f"{PREFIX}{pid}{SUFFIX}")


class SideFile:
    """Follows the file of a process, which may not be there yet. Not for several threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._at = 0
        self._rest = b""
        self._skips = False
        self.wrong_lines = 0
        """Lines that are no rows."""

    def take(self) -> list[SideRow]:
        """Return the rows of all whole lines since the last call."""
        rows: list[SideRow] = []
        while data := self._more():
            *lines, self._rest = (self._rest + data).split(b"\n")
            if self._skips and lines:
                lines = lines[1:]
                self._skips = False
            rows += filter(None, map(self._row, lines))
            if len(self._rest) > LINE_MAX_BYTES or self._skips:
                self.wrong_lines += not self._skips
                self._rest, self._skips = b"", True
        return rows

    def _more(self) -> bytes:
        if self._fd < 0:
            try:
                self._fd = open_plain(self._path, follow=False)
            except OSError:
                return b""
        try:
            data = os.pread(self._fd, _READ_BYTES, self._at)
        except OSError:
            return b""
        self._at += len(data)
        return data

    def _row(self, line: bytes) -> SideRow | None:
        if not line:
            return None
        try:
            row = row_of(json.loads(line)) if len(line) <= LINE_MAX_BYTES else None
        except (ValueError, RecursionError):
            row = None
        self.wrong_lines += row is None
        return row

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def row_of(told: object) -> SideRow | None:
    """Return a row from untrusted JSON; None if it is invalid."""
    if not isinstance(told, list) or len(told) != _FIELDS:
        return None
    time_ns, tid, device, event, kind, name, address, attributes, stack = told
    good = (
        _is_number(time_ns, _MOST)
        and _is_number(tid, 1 << 31)
        and isinstance(event, str)
        and event in _KNOWN
        and isinstance(kind, str)
        and isinstance(name, str)
        and (device is None or _is_device(device))
        and (address is None or _is_number(address, _ADDRESS_END))
        and isinstance(attributes, dict)
        and (stack is None or isinstance(stack, str))
    )
    if not good:
        return None
    return SideRow(
        time_ns, tid, None if device in {None, NOTHING} else canonical_device(device), event,
        kind[:TEXT_MAX_CHARS], name[:TEXT_MAX_CHARS], address, attributes, stack,
    )  # fmt: skip


def _is_device(value: object) -> bool:
    """Whether it names a device: a folder will have that name."""
    return isinstance(value, str) and _DEVICE.fullmatch(value) is not None


def _is_number(value: object, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end
