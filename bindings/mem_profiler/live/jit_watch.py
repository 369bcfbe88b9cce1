"""Names of JIT code of a watched program.

Model: addresses of no module are gathered from stacks as these come. While some have no name, the
files in which the runtime lists its code are read again now and then. Two processes do that, for
what these files are is the target's choice, and so is what they say: one copies them, and another
one without rights reads the copies; what it says is checked (`ByChildren`). Where the one that
watches has no rights itself, it reads the copies, and gets them from a process that may open files
(`names_in`). A view waits for both, so they may cost a small part of its time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mem_parser.errors import MemError
from mem_parser.model import Profile
from mem_parser.symbols.embedded import EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.jit_symbols import frame_of
from mem_profiler.capture.recording import NAMELESS_NOTE
from mem_profiler.process.codefiles import LIMIT_S, CodeFiles
from mem_profiler.process.procfs import Mapping
from mem_profiler.profile.jit_names import Addresses, embedded, names_of, outside
from mem_sandbox import child, confine

EVERY_S = 5.0
RARELY_S = 60.0
"""Where the runtime has told no name yet, the time between two looks grows up to this."""
COST_SHARE = 0.05
ADDRESSES_MAX = 1 << 15

Names = dict[int, EmbeddedFrame]
Find = Callable[[Addresses, Sequence[Mapping]], tuple[Names, str]]
"""From addresses in rising order, and the process's mappings, to the names that files tell, and why
some of them are missing. Raises MemError.
"""


class MadeNames:
    """The names of one process, for one thread. ``problem``: why some are missing."""

    def __init__(self, find: Find) -> None:
        self.problem = ""
        self._find = find
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
        if self.problem:
            profiles[0].capture.notes.append(NAMELESS_NOTE.format(self.problem))

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
        try:
            found, self.problem = self._find(self._addresses, mappings)
        except MemError as error:
            found, self.problem = {}, str(error)
        if found and found != self._found:
            self._found = found
            self._names = embedded(found)
        self._pause_s = EVERY_S if found else min(2 * self._pause_s, RARELY_S)
        cost_s = time.monotonic() - began
        self._next = began + max(self._pause_s, cost_s / COST_SHARE)


class ByChildren:
    """Finds names by two children: one copies the files, one without rights reads the copies."""

    def __init__(self, code_files: CodeFiles, uid: int, pid: int) -> None:
        self._code_files, self._uid, self._pid = code_files, uid, pid

    def __call__(self, addresses: Addresses, mappings: Sequence[Mapping]) -> tuple[Names, str]:
        """Return names as `Find` says."""
        files = self._code_files.copy(self._uid, (one.path for one in mappings))
        if not files:
            return {}, ""
        try:
            told = child.call(
                lambda _: _told(addresses, files),
                f"pid {self._pid}",
                LIMIT_S,
                keep=files,
                enter=confine.enter,
            )
        finally:
            _close(files)
        return _checked(told, addresses), ""


def names_in(files: Sequence[int], addresses: Addresses) -> tuple[Names, str]:
    """Read copies in this process, which has no rights, and close them. It takes `LIMIT_S` at most:
    names that come later are missing.
    """
    try:
        found, problems = names_of(addresses, files, LIMIT_S)
        return found, "; ".join(problems)
    except MemoryError:
        return {}, "they need too much memory"
    finally:
        _close(files)


def _close(files: Sequence[int]) -> None:
    for fd in files:
        os.close(fd)


def _told(addresses: Addresses, files: Sequence[int]) -> list[list[Any]]:
    """In the child: the place of each address that has a name, and the whole name."""
    found, _ = names_of(addresses, files)
    at = {address: k for k, address in enumerate(addresses.tolist())}
    return [[at[address], frame.full_name] for address, frame in found.items()]


def _checked(told: Any, addresses: Addresses) -> Names:
    """A child's message, which may be any JSON value."""
    frames: dict[str, EmbeddedFrame] = {}
    found = {}
    for row in told if isinstance(told, list) else []:
        if not isinstance(row, list) or len(row) != 2:
            continue
        place, name = row
        if isinstance(place, int) and isinstance(name, str) and 0 <= place < len(addresses):
            found[int(addresses[place])] = frames.setdefault(name, frame_of(name))
    return found
