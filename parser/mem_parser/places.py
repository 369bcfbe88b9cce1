"""Stacks as verdicts name them: without allocator frames, in frames that can be compared.

Stacks that differ only in addresses (two calls on one line, an allocator's inner ways) are one
*place*: the same functions at the same lines. Frames compare across runs and builds: what is known
by name by function and file, what is not by the build-id of its module and its offset there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mem_parser.model import IntArray, Profile
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
        """What stays the same in another run or build."""
        if self.build_id:
            return self.build_id, self.function
        return _last(self.file) or _last(self.module), self.function

    @property
    def line_key(self) -> tuple[str, str, int]:
        """The same with the line."""
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


@dataclass(slots=True)
class Places:
    """``place[k]`` is the place of stack *k*; ``frames[p]`` are a place's frames, innermost
    first.
    """

    place: IntArray
    frames: list[tuple[Frame, ...]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frames)


def find_places(profile: Profile, symbols: Symbols) -> Places:
    """Return the places of all stacks of ``profile``."""
    frames = _frames(profile, symbols)
    begin = _first_kept(symbols)
    spelled = symbols.locations_of_stack
    index: dict[bytes, int] = {}
    result = Places(np.zeros(len(begin), dtype=np.int64))
    for k, (low, high) in enumerate(zip(begin.tolist(), symbols.offsets[1:].tolist(), strict=True)):
        locations = spelled[low:high]
        key = locations.tobytes()
        known = index.get(key)
        if known is None:
            known = index[key] = len(result.frames)
            result.frames.append(tuple(frames[j] for j in locations.tolist()))
        result.place[k] = known
    return result


def _frames(profile: Profile, symbols: Symbols) -> list[Frame]:
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


def _first_kept(symbols: Symbols) -> IntArray:
    """Return where each stack begins once everything up to its outermost allocator frame is gone;
    a stack of nothing else keeps its last frame.
    """
    offsets, spelled = symbols.offsets, symbols.locations_of_stack
    dropped = allocator_functions(symbols.functions, FrameRule.OWN)
    if not len(spelled) or not dropped.any():
        return offsets[:-1]
    position = np.where(
        dropped[symbols.function_of_location][spelled], np.arange(1, len(spelled) + 1), 0
    )
    last = np.maximum.reduceat(position, offsets[:-1])
    return np.minimum(np.maximum(offsets[:-1], last), offsets[1:] - 1)


def same_capture(profiles: Sequence[Profile]) -> bool:
    """Tell whether the files are snapshots of one capture of one process: pid, start and number
    agree, and so does the host.
    """
    marks = {
        (p.capture.host, p.capture.pid, p.capture.started, p.capture.capture) for p in profiles
    }
    return len(marks) == 1 and None not in next(iter(marks))
