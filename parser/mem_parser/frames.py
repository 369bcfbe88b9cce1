"""Stacks for verdicts: from the charged frame outwards, in comparable frames.

Stacks that differ only in addresses (two calls on one line, an allocator's inner calls) are one
*place*: the same functions at the same lines. Frames compare across runs and builds: those with a
name by function and file, the others by the build-id of their module and their offset in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from mem_parser.charge import charged_from
from mem_parser.interning import StackInterner, StackParts
from mem_parser.model import BoolArray, IntArray, Profile
from mem_parser.names import FrameRule
from mem_parser.symbols.modulelabels import module_keys
from mem_parser.symbols.table import Symbols

_INTERPRETED = re.compile(
    r"Builtins_|v8::internal::(?:FunctionCallbackArguments::Call|Builtin_)|Interpreter$"
)
"""How the interpreters of V8 and HotSpot call native code, which JIT code may call directly."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One function at one line; ``build_id`` is its module's where the function has no name,
    ``python``: it is one of Python's.
    """

    function: str
    file: str
    line: int
    module: str
    build_id: str = ""
    python: bool = False

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

    @property
    def told(self) -> str:
        """The function where no spot is beside it: every file of Python has a `<module>`."""
        whole = self.function == "<module>" and self.spot
        return f"{self.function} ({self.spot})" if whole else self.function

    def as_json(self) -> dict[str, Any]:
        """Return function, file and line."""
        return {"function": self.function, "file": self.file, "line": self.line}


def named_caller(frames: Sequence[Frame]) -> str:
    """Return the nearest caller with a name in the file of a first frame that has none: what a
    stripped library exports says what was asked of it. Of an extension that exports nothing, the
    nearest function of Python. Empty where there is none, or no need.
    """
    first, *callers = frames
    if not first.build_id:
        return ""
    exported = (f.function for f in callers if f.module == first.module and not f.build_id)
    return next(exported, "") or next((f.told for f in callers if f.python), "")


def native_below(frames: Sequence[Frame], inner: Sequence[Frame]) -> Frame | None:
    """Return the native function that allocates for a function of Python's, the first of
    ``frames``, if one of those ``inner`` to it does; the interpreter is none.
    """
    by_native = frames and frames[0].python and inner and not inner[0].python
    return inner[0] if by_native else None


def relative(path: str) -> str:
    """Return a source file relative to the working folder if it is in it, else unchanged."""
    return path.removeprefix(os.getcwd() + os.sep)


def in_repository(path: str) -> str:
    """Return a source file as code hosts name it: relative to the repository that the working
    folder is in, where it has one; else as `relative` does.
    """
    root = os.environ.get("GITHUB_WORKSPACE") or _repository() or os.getcwd()
    return relative(path.removeprefix(root.rstrip(os.sep) + os.sep))


def _repository() -> str | None:
    folder = os.getcwd()
    while not os.path.exists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


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

    def having(self, wanted: Callable[[Frame], bool]) -> BoolArray:
        """Tell for each place whether one of its frames is ``wanted``."""
        found = np.array([wanted(frame) for frame in self._frames], dtype=np.bool_)
        upto = np.append(0, np.cumsum(found[self._locations]))
        return np.asarray(upto[self._high] > upto[self._low])

    def common(
        self, which: IntArray, begin: IntArray | None = None, end: IntArray | None = None
    ) -> tuple[Frame, ...]:
        """Return the frames that all of these places share, from the one at ``begin`` of each (0:
        the innermost) outwards, before ``end``.
        """
        shared: list[Frame] = []
        low, high = self._low[which], self._high[which]
        high = high if end is None else low + end
        low = low if begin is None else low + begin
        if len(which) == 1:  # most often, and several times faster
            return tuple([self._frames[x] for x in self._locations[low[0] : high[0]].tolist()])
        for k in range(int((high - low).min()) if len(low) else 0):
            met = {self._frames[x] for x in set(self._locations[low + k].tolist())}
            if len(met) > 1:
                break
            shared += met
        return tuple(shared)


@dataclass(slots=True)
class Places:
    """``place[k]`` is the place of stack *k*; ``frames[p]`` are a place's frames, innermost first,
    of which ``frames[p][owner[p]]`` is the one that its blocks are charged to, and ``line[p]`` is a
    number that places share whose innermost and charged frames are the same lines.
    """

    place: IntArray
    frames: Spelled
    owner: IntArray
    line: IntArray

    def __len__(self) -> int:
        return len(self.frames)


def find_places(
    profile: Profile,
    symbols: Symbols,
    rule: FrameRule = FrameRule.PROGRAM,
    *,
    to_jit: bool = False,
    apart: BoolArray | None = None,
) -> Places:
    """Return the places of all stacks of ``profile``, without the frames that ``rule`` drops.

    With `FrameRule.OWN` places keep the frames of libraries, which distinguishes their operations;
    the charged frame is then further out. With ``to_jit`` they end before JIT code without names,
    which is compiled again and again: one caller has other addresses each time; and begin at the
    charged frame where such code is below it. Stacks that are ``apart`` share no place and no line
    with others.
    """
    frames = frames_of(profile, symbols)
    begin = charged_from(symbols, rule)
    charged = charged_from(symbols, FrameRule.PROGRAM) if rule is FrameRule.OWN else begin
    spelled, end = symbols.locations_of_stack, symbols.offsets[1:]
    if to_jit:
        begin = np.where(_before_jit(symbols, begin) <= charged, charged, begin)
        end = _before_jit(symbols, charged)
    marked = np.zeros(len(begin), dtype=np.int64) if apart is None else apart.astype(np.int64)
    place, first = StackInterner(spelled.dtype).intern(StackParts(spelled, begin, end, marked))
    low, high, middle = begin[first], end[first], charged[first]
    line = _lines(frames, spelled, np.stack([low, middle]), high > low) * 2 + marked[first]
    return Places(place, Spelled(frames, spelled, low, high), middle - low, line)


def _before_jit(symbols: Symbols, begin: IntArray) -> IntArray:
    """Return where each stack's first frame of JIT code without a name, or of an interpreter in its
    place, is after the one at ``begin``; else its end.
    """
    made = np.array(
        [f.nameless_code or _INTERPRETED.match(f.name) is not None for f in symbols.functions],
        dtype=np.bool_,
    )
    end = symbols.offsets[1:].astype(np.int64)
    where = np.flatnonzero(made[symbols.function_of_location][symbols.locations_of_stack])
    next_one = np.append(where, np.iinfo(np.int64).max)[np.searchsorted(where, begin)]
    return np.where(next_one > begin, np.minimum(next_one, end), end)


def _lines(
    frames: list[Frame],
    spelled: npt.NDArray[np.int32],
    ends: IntArray,
    filled: BoolArray,
) -> IntArray:
    """Return a number for each place, by the lines at its two ``ends``; places not ``filled`` share
    one.
    """
    lines: dict[tuple[Frame, int], int] = {}
    line_of = np.array([lines.setdefault((f, f.line), len(lines)) for f in frames], dtype=np.int64)
    line = np.full(ends.shape[1], -1, dtype=np.int64)
    inner, outer = (line_of[spelled[end[filled]]] for end in ends)
    line[filled] = inner * len(lines) + outer
    return np.unique(line, return_inverse=True)[1].astype(np.int64)


def frames_of(profile: Profile, symbols: Symbols) -> list[Frame]:
    """Return the frame of each location."""
    keys = module_keys(profile.modules)
    build_ids = {k: m.build_id or k for k, m in zip(keys, profile.modules, strict=True)}
    result = []
    for location in symbols.locations:
        function = symbols.functions[location.function]
        unnamed = "" if function.known else build_ids.get(function.module, function.module)
        result.append(
            Frame(
                function.full_name if function.python else function.name,
                location.file or function.file,
                location.line,
                function.module,
                unnamed,
                function.python,
            )
        )
    return result


def same_capture(profiles: Sequence[Profile]) -> bool:
    """Tell whether the files are snapshots of one capture of one process: pid, start and number
    agree, and so does the host.
    """
    marks = {
        (p.capture.host, p.capture.pid, p.capture.started, p.capture.capture) for p in profiles
    }
    return len(marks) == 1 and None not in next(iter(marks))
