"""The record of this process.

Model: as a tracker's capture: the sampler is put into the process unless it is there, and a process
beside keeps the record (`mem_profiler.driver_stats.server`). It ends with this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from mem_profiler.helper.client import Helper
from mem_profiler.helper.errors import TrackerError
from mem_profiler.tracking.inside import Hooks, has_segment

KIND = "record"

_state = threading.RLock()
_hooks = Hooks()
_helper: Helper | None = None


def enable(wanted: list[Any]) -> bool:
    """Begin the record, or change its mode; whether it is on. ``wanted`` is what the server's
    `enable` takes. Raises TrackerError.
    """
    global _helper  # noqa: PLW0603 - one in a process
    with _state:
        helper = _helper
        if helper is None:
            _put_in()
        try:
            helper = helper or Helper(KIND)
            answer = helper.ask("enable", *wanted)
        except BaseException:
            if helper is not _helper or helper is None:
                _leave(helper)
            raise
        _helper = helper
        populate(answer["ranges"])
        return bool(answer["on"])


def _put_in() -> None:
    if has_segment():
        _hooks.rescan()
    else:
        _hooks.begin(pymem=True)


def _leave(helper: Helper | None) -> None:
    if helper is not None:
        helper.close()
    _hooks.end()


def close() -> bool:
    """End the record, if there is one; True. Raises TrackerError."""
    global _helper
    with _state:
        helper, _helper = _helper, None
        if helper is not None:
            try:
                log = helper.ask("close")["log"]
            finally:
                _leave(helper)
            if log.get("problem"):
                warnings.warn(str(log["problem"]), RuntimeWarning, stacklevel=3)
        return True


def report() -> dict[str, Any]:
    """What is in use by line. Raises TrackerError."""
    with _state:
        return checked(_running().ask("report"))


def room_bytes() -> int:
    """Bytes that the tables of the record have. Raises TrackerError."""
    with _state:
        return int(_running().ask("room")["bytes"])


def _running() -> Helper:
    if _helper is None:
        raise TrackerError(
            "this process has no record of its memory",
            "set_enable_mem_profiler(MemRecordType.MEM_RECORD) begins one",
        )
    _hooks.rescan()
    return _helper


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """Return a report as users get it, after a warning where it is not whole."""
    if problem := answer.pop("problem"):
        warnings.warn(problem, RuntimeWarning, stacklevel=4)
    return answer


def _after_fork_in_child() -> None:
    """The record is the parent's."""
    global _helper, _state  # noqa: PLW0603 - one in a process
    _state = threading.RLock()
    helper, _helper = _helper, None
    if helper is not None:
        helper.close()


os.register_at_fork(after_in_child=_after_fork_in_child)


_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, from Linux 5.14
_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) rw-s ([0-9a-f]+) .*/mem_profiler\.[^/]*/(\d+)-\d+-\d+$",
    re.MULTILINE,
)


def populate(ranges: Iterable[Sequence[int]]) -> None:
    """Map the pages of parts (offset, bytes) of this process's segment; what an older kernel does
    not do happens at the first access.
    """
    with open("/proc/self/maps", "rb") as file:
        found = [line.groups() for line in _LINE.finditer(file.read())]
    own = str(os.getpid()).encode()
    mapped = [(int(a, 16), int(b, 16), int(at, 16)) for a, b, at, pid in found if pid == own]
    with contextlib.suppress(AttributeError):
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for offset, size in ranges:
            for start, end, at in mapped:
                low, high = start + offset - at, start + offset - at + size
                if start <= low and high <= end:
                    advise(low, high - low, _POPULATE_WRITE)
