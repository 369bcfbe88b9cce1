"""Source lines and inlined frames of addresses, from the debug information of one file.

Units are read one after the other, only those with code at an asked address. A unit that cannot be
read costs the lines of its own addresses; how many, and why, is part of the answer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mem_parser.symbols.debug.alternate import NOT_NAMED
from mem_parser.symbols.debug.bits import Damaged
from mem_parser.symbols.debug.constants import At
from mem_parser.symbols.debug.functions import Functions, Inlined, inlined_at
from mem_parser.symbols.debug.lineprogram import LineProgram
from mem_parser.symbols.debug.split import SplitMissing, SplitUnits
from mem_parser.symbols.debug.unitmap import UnitMap
from mem_parser.symbols.debug.units import DebugFile, Unit

UNNAMED = "[inlined]"
"""Stands for an inlined function whose name is in a missing file."""
OUT_OF_TIME = "reading it took too long"
UNITS_DAMAGED = "some of its units are damaged"
_ERRORS = (Damaged, IndexError, OSError, OverflowError, ValueError)

Frame = tuple[str, str, int]
"""Function (empty: unknown), file (empty: unknown), line (0: unknown)."""


@dataclass(slots=True)
class Located:
    """Frames by address, innermost first; and by cause the addresses without some or all."""

    frames: dict[int, list[Frame]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)


class Locator:
    """Looks addresses up in the debug information of one file."""

    def __init__(
        self,
        file: DebugFile,
        splits: SplitUnits,
        missing_alternate: str = NOT_NAMED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``missing_alternate`` says what is wrong with the file that ``file`` shares with
        others.
        """
        self._file = file
        self._splits = splits
        self._missing_alternate = missing_alternate
        self._clock = clock

    def locate(self, addresses: Iterable[int], deadline: float) -> Located:
        """Return the lines and frames of ``addresses``, read until ``deadline``. Raises `Damaged`,
        OSError if nothing can be read.
        """
        located = Located()
        units = UnitMap(self._file)
        asked: dict[Unit, list[int]] = {}
        for address in addresses:
            having = units.at(address)
            for unit in having:
                asked.setdefault(unit, []).append(address)
            if not having and (units.damaged or self._file.is_cut):
                located.lost[UNITS_DAMAGED] += 1
        for unit, mine in asked.items():
            open_ones = [a for a in mine if a not in located.frames]
            if self._clock() > deadline:
                located.lost[OUT_OF_TIME] += len(open_ones)
                continue
            try:
                self._locate_in(unit, open_ones, located)
            except _ERRORS as error:
                rest = [a for a in open_ones if a not in located.frames]
                located.lost[_reason(error)] += len(rest)
        return located

    def _locate_in(self, unit: Unit, addresses: list[int], located: Located) -> None:
        """Add one unit's lines and frames of ``addresses``. Raises any of _ERRORS."""
        opened = self._opened(unit)
        if opened.missing:
            located.lost[f"{opened.missing} is missing"] += len(addresses)
        for function, mine in _by_function(opened.functions, addresses):
            calls = opened.calls_in(function, mine)
            for address in mine:
                frames, is_whole = opened.frames_at(address, function, calls)
                if not is_whole:
                    located.lost[self._missing_alternate] += 1
                if any(line for _, _, line in frames):
                    located.frames[address] = frames

    def _opened(self, unit: Unit) -> _OpenUnit:
        lines = _program(unit)
        try:
            split = self._splits.of(unit)
        except SplitMissing as missing:
            return _OpenUnit(lines, None, lines, str(missing))
        files = (None if split is None else _split_files(split)) or lines
        return _OpenUnit(lines, Functions(split or unit), files)


@dataclass(slots=True)
class _OpenUnit:
    """One unit, ready to be asked."""

    lines: LineProgram | None
    functions: Functions | None
    files: LineProgram | None
    """Has the paths of the files that calls name."""
    missing: str = ""
    """The file with its functions, where that is not there."""

    def calls_in(self, function: int | None, addresses: list[int]) -> list[Inlined]:
        """Return the inlined calls in a function. Raises of _ERRORS."""
        if self.functions is None or function is None:
            return []
        return self.functions.inlined(function, addresses)

    def frames_at(
        self, address: int, function: int | None, calls: list[Inlined]
    ) -> tuple[list[Frame], bool]:
        """Return the frames at ``address``, innermost first, and whether they are whole: the name
        of an inlined function or a folder may be in a missing file. The outermost function needs
        no name, because the symbol there has it. Raises of _ERRORS.
        """
        place = None if self.lines is None else self.lines.find(address)
        file, line, is_whole = "", 0, True
        if self.lines is not None and place is not None:
            file, is_whole = self.lines.path_of(place[0])
            line = place[1]
        frames: list[Frame] = []
        for call in reversed(inlined_at(calls, address)):
            name = self._name(call.at)
            frames.append((UNNAMED if name is None else name, file, line))
            is_whole = is_whole and name is not None
            file, line = "", call.call_line
            if self.files is not None:
                file, has_folder = self.files.path_of(call.call_file)
                is_whole = is_whole and has_folder
        frames.append((self._name(function) or "", file, line))
        return frames, is_whole

    def _name(self, at: int | None) -> str | None:
        """Return the name of the function at a position; None if it is in a missing file."""
        return "" if self.functions is None or at is None else self.functions.name_of(at)


def _by_function(
    functions: Functions | None, addresses: list[int]
) -> Iterable[tuple[int | None, list[int]]]:
    """Return the addresses in order, those of one function together."""
    found: dict[int | None, list[int]] = {}
    for address in sorted(addresses):
        function = None if functions is None else functions.at(address)
        found.setdefault(function, []).append(address)
    return found.items()


def _program(unit: Unit) -> LineProgram | None:
    """Return the line program of a unit that is not split. Raises any of _ERRORS."""
    at = unit.root.get(At.STMT_LIST)
    if at is None:
        return None
    return LineProgram(unit.file.sections, at.number, _folder(unit))


def _split_files(unit: Unit) -> LineProgram | None:
    """Return the line program of a split unit, which has files alone; None where its calls count
    as the skeleton's rows do. Raises of _ERRORS.
    """
    if not unit.file.sections.get("line").size_bytes:
        return None
    at = unit.root.get(At.STMT_LIST)
    start = unit.contribution.line + (0 if at is None else at.number)
    return LineProgram(unit.file.sections, start, _folder(unit.skeleton or unit))


def _folder(unit: Unit) -> str | None:
    """Return the folder of the unit's paths; None if its name is in a missing file."""
    value = unit.root.get(At.COMP_DIR)
    return None if value is not None and unit.is_elsewhere(value) else unit.text(value)


def _reason(error: Exception) -> str:
    if isinstance(error, Damaged):
        return f"it {error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "it cannot be read"
