"""Fold frames that a reader cannot tell apart, or need not, into one: what reports show of stacks.

Two kinds: those that start a program or a thread (see `startframes`), and functions without a name.
Of a stripped file these are addresses, which nobody can look up: all of one file are one function,
and where one calls another they are one frame. The fold is of frames, before anything is added up,
so a stack counts once for it. The frames up to the one that blocks are charged to stay apart.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator

import numpy as np

from mem_parser.charge import charged_from
from mem_parser.model import IntArray
from mem_parser.names import FrameRule
from mem_parser.startframes import Runs, fold_starts, with_runs
from mem_parser.symbols.table import Function, Role, Symbols


class Folds(enum.Flag):
    """Which frames to fold."""

    NONE = 0
    STARTS = enum.auto()
    UNNAMED = enum.auto()
    ALL = STARTS | UNNAMED


def fold_frames(symbols: Symbols, folds: Folds, charged: IntArray | None = None) -> Symbols:
    """Return ``symbols`` with one frame in place of those that ``folds`` names. Stacks keep their
    numbers. ``charged`` is as of `fold_starts`.
    """
    if not folds:
        return symbols
    if charged is None:
        charged = charged_from(symbols, FrameRule.PROGRAM)
    inner = charged - symbols.offsets[:-1]
    if Folds.STARTS in folds:
        symbols = fold_starts(symbols, charged)
    if Folds.UNNAMED in folds:
        symbols = _fold_unnamed(symbols, symbols.offsets[:-1] + inner)
    return symbols


def unnamed_function(function: Function, symbols: Symbols) -> Function | None:
    """Return the function that stands for those of its file without a name; None: it has one."""
    if function.known or function.python or not function.module or function.role is Role.WRAPPER:
        return None  # a wrapper's callers have its bytes, and would not if it were one of them
    module, program = symbols.program
    file = function.name.rpartition("+0x")[0] or function.module.rsplit("/", 1)[-1]
    name = f"unnamed functions of {program if function.module == module else file}"
    return Function(name, name, function.module, known=False, role=function.role)


def with_unnamed(functions: Iterable[Function], symbols: Symbols) -> Iterator[Function]:
    """Yield ``functions`` of ``symbols``, each followed by the one that may stand for it."""
    for function in functions:
        yield function
        folded = unnamed_function(function, symbols)
        if folded is not None:
            yield folded


def _fold_unnamed(symbols: Symbols, charged: IntArray) -> Symbols:
    index: dict[Function, int] = {}
    folded = [unnamed_function(f, symbols) for f in symbols.functions]
    of_function = [-1 if f is None else index.setdefault(f, len(index)) for f in folded]
    if not index:
        return symbols
    of_location = np.array(of_function, dtype=np.int64)[symbols.function_of_location]
    of_frame = of_location[symbols.locations_of_stack]
    place = np.flatnonzero(of_frame >= 0)
    stack = np.searchsorted(symbols.offsets, place, side="right") - 1
    name = of_frame[place]
    goes_on = (np.diff(place, prepend=-2) == 1) & (np.diff(stack, prepend=-1) == 0)
    goes_on &= (np.diff(name, prepend=-1) == 0) & (place > charged[stack])
    first = np.flatnonzero(~goes_on)
    last = np.append(first[1:], len(place)) - 1 if len(first) else first
    runs = Runs(stack[first], place[first], place[last] + 1, name[first])
    return with_runs(symbols, runs, list(index))
