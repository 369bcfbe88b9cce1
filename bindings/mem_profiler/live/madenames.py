"""Names of code that a watched program makes as it runs.

Model: addresses of no module are gathered from stacks as these come. While some have no name, the
files in which the runtime lists its code are read again now and then: one child copies them, and
another one without rights reads the copies; what it says is checked. A view waits for both, so they
may cost a small part of its time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mem_parser.errors import MemError
from mem_parser.model import Profile
from mem_parser.symbols.embedded import EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.madecode import frame_of
from mem_profiler.confined import child, confine
from mem_profiler.process.codefiles import LIMIT_S, CodeFiles
from mem_profiler.process.procfs import Mapping
from mem_profiler.profile.madecode import Addresses, embedded, names_of, outside

EVERY_S = 5.0
RARELY_S = 60.0
"""Where the runtime has told no name yet, the time between two looks grows up to this."""
COST_SHARE = 0.05
ADDRESSES_MAX = 1 << 15


class MadeNames:
    """The names of one process, for one thread. ``problem``: why there are none."""

    def __init__(self, code_files: CodeFiles, uid: int, pid: int) -> None:
        self.problem = ""
        self._code_files, self._uid, self._pid = code_files, uid, pid
        self._next = 0.0
        self._pause_s = EVERY_S
        self._begin(None)

    def _begin(self, series: object) -> None:
        self._series = series
        self._stacks = 0
        self._addresses: Addresses = np.zeros(0, dtype=np.uint64)
        self._found: dict[int, EmbeddedFrame] = {}
        self._names: EmbeddedNames | None = None

    def put(self, profiles: Sequence[Profile], mappings: Sequence[Mapping]) -> None:
        """Give profiles of one moment the names that are known; `mappings` are the process's."""
        for profile in profiles:
            self._gather(profile)
        if len(self._found) < len(self._addresses) and time.monotonic() >= self._next:
            self._ask(mappings)
        for profile in profiles:
            profile.embedded = self._names

    def _gather(self, profile: Profile) -> None:
        """Note the addresses of stacks that were not there before."""
        stacks = profile.stacks
        if stacks.series is not self._series or stacks.series is None:
            self._begin(stacks.series)
        low, high = self._stacks, len(stacks)
        if high <= low:
            return
        self._stacks = high
        bounds = stacks.offsets[low : high + 1] - stacks.offsets[low]
        calls = np.ones(int(bounds[-1]), dtype=np.bool_)
        calls[bounds[:-1][np.diff(bounds) > 0]] = False
        new = outside(stacks.frames_between(low, high)[calls], profile.modules)
        self._addresses = np.union1d(self._addresses, new)[:ADDRESSES_MAX]

    def _ask(self, mappings: Sequence[Mapping]) -> None:
        began = time.monotonic()
        self.problem = ""
        try:
            files = self._code_files.copy(self._uid, mappings)
            found = self._read(files) if files else {}
        except MemError as error:
            self.problem, found = str(error), {}
        if found and found != self._found:
            self._found = found
            self._names = embedded(found)
        self._pause_s = EVERY_S if found else min(2 * self._pause_s, RARELY_S)
        cost_s = time.monotonic() - began
        self._next = began + max(self._pause_s, cost_s / COST_SHARE)

    def _read(self, files: Sequence[int]) -> dict[int, EmbeddedFrame]:
        """Read the copies, and close them."""
        try:
            told = child.call(
                lambda _: _told(self._addresses, files),
                f"pid {self._pid}",
                LIMIT_S,
                keep=files,
                enter=confine.enter,
            )
        finally:
            for fd in files:
                os.close(fd)
        return _checked(told, self._addresses)


def _told(addresses: Addresses, files: Sequence[int]) -> list[list[Any]]:
    """In the child: the place of each address that has a name, and the whole name."""
    found, _ = names_of(addresses, files)
    at = {address: k for k, address in enumerate(addresses.tolist())}
    return [[at[address], frame.full_name] for address, frame in found.items()]


def _checked(told: Any, addresses: Addresses) -> dict[int, EmbeddedFrame]:
    """What a child said, which may be anything that JSON has."""
    frames: dict[str, EmbeddedFrame] = {}
    found = {}
    for row in told if isinstance(told, list) else []:
        if not isinstance(row, list) or len(row) != 2:
            continue
        place, name = row
        if isinstance(place, int) and isinstance(name, str) and 0 <= place < len(addresses):
            found[int(addresses[place])] = frames.setdefault(name, frame_of(name))
    return found
