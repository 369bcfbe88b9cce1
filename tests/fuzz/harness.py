"""What the fuzzers in Python share: limits, and what counts as a finding.

A finding is any exception that is not of the allowed kinds, a signal, an input that takes longer
than libFuzzer's -timeout, and an input that takes more memory than readers promise: a multiple of
its own size above a floor.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import warnings
from collections.abc import Callable

import atheris

MEMORY_FACTOR = 16
MEMORY_FLOOR_BYTES = 64 << 20
READERS_FLOOR_BYTES = 256 << 20
# Far above what is allowed: it keeps a finding from taking the machine down.
ADDRESS_SPACE_BYTES = 4 << 30

Mutator = Callable[[bytes, int, int], bytes]


class Finding(Exception):
    """A promise that an input broke."""


class Meter:
    """The highest resident memory of this process since `start`."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._before = 0

    def _bytes(self, name: bytes) -> int:
        found = re.search(name + rb":\s+(\d+) kB", os.pread(self._status, 4096, 0))
        return int(found[1]) * 1024 if found else 0

    def start(self) -> None:
        """Begin anew (proc(5): 5 resets the peak)."""
        os.write(self._reset, b"5")
        self._before = self._bytes(b"VmRSS")

    def rise(self) -> int:
        """How far memory rose above what it was at the start."""
        return self._bytes(b"VmHWM") - self._before

    def address_space(self) -> int:
        """Bytes that are mapped."""
        return self._bytes(b"VmSize")


def fuzz(
    one: Callable[[bytes], None],
    allowed: tuple[type[BaseException], ...],
    mutate: Mutator | None = None,
    size_of: Callable[[bytes], int] = len,
    floor_bytes: int = MEMORY_FLOOR_BYTES,
) -> None:
    """Run `one` on inputs until libFuzzer's options end it.

    `size_of`: bytes of what the reader reads, where that is not the input itself.
    """
    meter = Meter()
    limit = meter.address_space() + ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A warning would stand on the user's terminal.
    warnings.simplefilter("error")

    def guarded(data: bytes) -> None:
        meter.start()
        try:
            one(data)
        except allowed:
            pass
        rise = meter.rise()
        most = floor_bytes + MEMORY_FACTOR * size_of(data)
        if rise > most:
            raise Finding(
                f"{rise >> 20} MiB of memory for {size_of(data)} bytes; {most >> 20} are allowed"
            )

    if mutate is None:
        atheris.Setup(sys.argv, guarded)
    else:
        atheris.Setup(sys.argv, guarded, custom_mutator=mutate)
    atheris.Fuzz()
