"""Pages of this process for tables that were reserved, so that no hook meets a page without one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterable, Sequence

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
