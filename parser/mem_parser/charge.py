"""The frame of each stack that its blocks are charged to.

Two steps, from the innermost frame outwards. The allocator's frames go up to the outermost of them,
as in jeprof (see `names`). Then, with `FrameRule.PROGRAM`, frames of libraries go up to the first
one that is the program's: only the unbroken run of them, because a library further out (`qsort`, an
event loop) calls the program and not the allocator. Where no frame is the program's, the innermost
that is no mere wrapper stays, so every block has a place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mem_parser.model import BoolArray, IntArray
from mem_parser.names import FrameRule, allocator_functions
from mem_parser.symbols.table import Role, Symbols


def charged_from(symbols: Symbols, rule: FrameRule) -> IntArray:
    """Return for each stack the position in ``locations_of_stack`` of the frame that its blocks are
    charged to; frames before it are not shown.
    """
    offsets, spelled = symbols.offsets, symbols.locations_of_stack
    begin = offsets[:-1]
    if not len(spelled):
        return begin
    dropped = allocator_functions(symbols.functions, rule)
    if dropped.any():
        on_stack = dropped[symbols.function_of_location][spelled]
        if rule is FrameRule.JEPROF:
            on_stack = _whole_addresses(symbols, on_stack)
        begin = first_kept(on_stack, offsets)
    return _beyond_libraries(symbols, begin) if rule is FrameRule.PROGRAM else begin


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


def _beyond_libraries(symbols: Symbols, begin: IntArray) -> IntArray:
    """Return for each stack the first position from ``begin`` on that is the program's; without
    one, the first that is neither a wrapper nor calls `main`; without that, ``begin``.
    """
    role = roles(symbols)
    if not role.any():
        return begin
    on_stack = role[symbols.function_of_location][symbols.locations_of_stack]
    result = begin.copy()
    open_ones = np.ones(len(begin), dtype=np.bool_)
    for wanted in (Role.PROGRAM, Role.LIBRARY):
        found = _first_from(on_stack == wanted, begin)
        there = open_ones & (found < symbols.offsets[1:])
        result[there] = found[there]
        open_ones &= ~there
    return result


def roles(symbols: Symbols) -> npt.NDArray[np.int8]:
    """Return the role of each function."""
    return np.array([f.role for f in symbols.functions], dtype=np.int8)


def _first_from(wanted: BoolArray, begin: IntArray) -> IntArray:
    """Return the first ``wanted`` position from each of ``begin`` on; past all where none is."""
    place = np.append(np.flatnonzero(wanted), len(wanted))
    return np.asarray(place[np.searchsorted(place, begin)], dtype=np.int64)


def _whole_addresses(symbols: Symbols, dropped: BoolArray) -> BoolArray:
    """Judge an address by its innermost function alone, and with it those that function is inlined
    into.
    """
    locations = symbols.locations_of_stack
    inlined = np.array([x.inlined for x in symbols.locations], dtype=np.bool_)[locations]
    begins = np.concatenate(([True], ~inlined[:-1]))
    first = np.flatnonzero(begins)
    return np.asarray(dropped[first][np.cumsum(begins) - 1], dtype=np.bool_)
