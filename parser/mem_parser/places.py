"""Stacks as verdicts name them: without allocator frames, in comparable frames.

Stacks that differ only in addresses (two calls on one line, an allocator's inner calls) are one
*place*: the same functions at the same lines. Frames compare across runs and builds: those with a
name by function and file, the others by the build-id of their module and their offset in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from mem_parser.interning import StackInterner, StackParts
from mem_parser.model import BoolArray, IntArray, Profile
from mem_parser.names import FrameRule, allocator_functions
from mem_parser.symbols.table import Symbols


@dataclass(frozen=True, slots=True)
class Frame:
    """One function at one line; ``build_id`` is its module's where the function has no name."""

    function: str
    file: str
    line: int
    module: str
    build_id: str = ""

    @property
    def function_key(self) -> tuple[str, str]:
        """The key that stays the same in another run or build."""
        if self.build_id:
            return self.build_id, self.function
        return _last(self.file) or _last(self.module), self.function

    @property
    def line_key(self) -> tuple[str, str, int]:
        """The function's key with the line."""
        return (*self.function_key, self.line)

    @property
    def spot(self) -> str:
        """File and line as reports print them: `net.c:212`, or nothing."""
        name = _last(self.file)
        return f"{name}:{self.line}" if name and self.line else name

    def as_json(self) -> dict[str, Any]:
        """Return function, file and line."""
        return {"function": self.function, "file": self.file, "line": self.line}


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


class Spelled(Sequence[tuple[Frame, ...]]):
    """The frames of every place, innermost first; a look-up builds them, because there may be a
    million places of the same few frames.
    """

    def __init__(
        self,
        frames: list[Frame],
        locations: npt.NDArray[np.int32],
        low: IntArray,
        high: IntArray,
    ) -> None:
        self._frames = frames
        self._locations = locations
        self._low, self._high = low, high

    def __len__(self) -> int:
        return len(self._low)

    @overload
    def __getitem__(self, index: int) -> tuple[Frame, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[Frame, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[Frame, ...] | list[tuple[Frame, ...]]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = self._locations[self._low[index] : self._high[index]]
        return tuple([self._frames[k] for k in part.tolist()])

    def common(self, which: IntArray) -> tuple[Frame, ...]:
        """Return the innermost frames that all of these places share."""
        shared: list[Frame] = []
        low, depth = self._low[which], self._high[which] - self._low[which]
        for k in range(int(depth.min()) if len(depth) else 0):
            met = {self._frames[x] for x in set(self._locations[low + k].tolist())}
            if len(met) > 1:
                break
            shared += met
        return tuple(shared)


@dataclass(slots=True)
class Places:
    """``place[k]`` is the place of stack *k*; ``frames[p]`` are a place's frames, innermost first,
    and ``line[p]`` is a number that places share whose innermost frames are one line.
    """

    place: IntArray
    frames: Spelled
    line: IntArray

    def __len__(self) -> int:
        return len(self.frames)


def find_places(profile: Profile, symbols: Symbols) -> Places:
    """Return the places of all stacks of ``profile``."""
    frames = frames_of(profile, symbols)
    begin = begins_of(symbols)
    spelled, end = symbols.locations_of_stack, symbols.offsets[1:]
    place, first = StackInterner(spelled.dtype).intern(
        StackParts(spelled, begin, end, np.zeros(len(begin), dtype=np.int64))
    )
    low, high = begin[first], end[first]
    lines: dict[tuple[Frame, int], int] = {}
    line_of = np.array([lines.setdefault((f, f.line), len(lines)) for f in frames], dtype=np.int64)
    line = np.full(len(first), len(lines), dtype=np.int64)
    filled = high > low
    line[filled] = line_of[spelled[low[filled]]]
    return Places(place, Spelled(frames, spelled, low, high), line)


def frames_of(profile: Profile, symbols: Symbols) -> list[Frame]:
    """Return the frame of each location."""
    build_ids = {m.path: m.build_id or m.path for m in profile.modules}
    result = []
    for location in symbols.locations:
        function = symbols.functions[location.function]
        unnamed = "" if function.known else build_ids.get(function.module, function.module)
        result.append(
            Frame(
                function.name,
                location.file or function.file,
                location.line,
                function.module,
                unnamed,
            )
        )
    return result


def begins_of(symbols: Symbols) -> IntArray:
    """Return the start of each stack without everything up to its outermost allocator frame; a
    stack of nothing else keeps its last frame.
    """
    offsets, spelled = symbols.offsets, symbols.locations_of_stack
    dropped = allocator_functions(symbols.functions, FrameRule.OWN)
    if not len(spelled) or not dropped.any():
        return offsets[:-1]
    return first_kept(dropped[symbols.function_of_location][spelled], offsets)


def first_kept(dropped: BoolArray, offsets: IntArray) -> IntArray:
    """Return the start of each stack without everything up to its outermost ``dropped`` frame; a
    stack of nothing else keeps its last frame.
    """
    begin = offsets[:-1].copy()
    place = np.flatnonzero(dropped)
    stack = np.searchsorted(offsets, place, side="right") - 1
    outermost = np.flatnonzero(np.diff(stack, append=-1))
    begin[stack[outermost]] = place[outermost] + 1
    return np.minimum(begin, offsets[1:] - 1)


def same_capture(profiles: Sequence[Profile]) -> bool:
    """Tell whether the files are snapshots of one capture of one process: pid, start and number
    agree, and so does the host.
    """
    marks = {
        (p.capture.host, p.capture.pid, p.capture.started, p.capture.capture) for p in profiles
    }
    return len(marks) == 1 and None not in next(iter(marks))
