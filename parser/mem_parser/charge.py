"""The frame of each stack that its blocks are charged to.

Two steps, from the innermost frame outwards. The allocator's frames go up to the outermost of them,
as in jeprof (see `names`). Then, with `FrameRule.PROGRAM`, frames of libraries go up to the first
one that is the program's: only the unbroken run of them, because a library further out (`qsort`, an
event loop) calls the program and not the allocator. Without a frame of the program, the innermost
that is not a mere wrapper stays, so every block has a place. It stays, too, where the first frame
of the program is code that a runtime made and nobody named: what that calls says more.
"""

from __future__ import annotations

import numpy as np

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
    return beyond_libraries(symbols, begin) if rule is FrameRule.PROGRAM else begin


def first_kept(dropped: BoolArray, offsets: IntArray) -> IntArray:
    """Return the start of each stack after its outermost ``dropped`` frame; a stack with no other
    frames keeps its last one.
    """
    begin = offsets[:-1].copy()
    place = np.flatnonzero(dropped)
    stack = np.searchsorted(offsets, place, side="right") - 1
    outermost = np.flatnonzero(np.diff(stack, append=-1))
    begin[stack[outermost]] = place[outermost] + 1
    return np.minimum(begin, offsets[1:] - 1)


def beyond_libraries(symbols: Symbols, begin: IntArray) -> IntArray:
    """Return for each stack the first position from ``begin`` on that is the program's; without
    one, the first that is a runtime's, else the first that is neither a wrapper nor calls `main`;
    without that, ``begin``.
    """
    role = np.array([f.role for f in symbols.functions], dtype=np.int8)
    if not role.any():
        return begin
    nameless = np.array([f.nameless_code for f in symbols.functions], dtype=np.bool_)
    role, nameless = role[symbols.function_of_location], nameless[symbols.function_of_location]
    first = first_from(symbols, role == Role.PROGRAM, begin, np.arange(len(begin)))
    doubtful = first < 0
    doubtful[~doubtful] = nameless[symbols.locations_of_stack[first[~doubtful]]]
    result = np.where(first >= 0, first, begin)
    left = np.flatnonzero(doubtful)
    for wanted in (Role.RUNTIME, Role.LIBRARY):
        inner = first_from(symbols, role == wanted, begin[left], left)
        better = (inner >= 0) & ((first[left] < 0) | (inner < first[left]))
        result[left[better]] = inner[better]
        left = left[~better]
    return result


def first_from(symbols: Symbols, wanted: BoolArray, begin: IntArray, stack: IntArray) -> IntArray:
    """Return the first position from ``begin`` of each ``stack`` whose location is ``wanted``; -1
    if there is none. Frame by frame, because runs of libraries are short and stacks many.
    """
    end = symbols.offsets[1:][stack]
    result = np.full(len(stack), -1, dtype=np.int64)
    at = begin.copy()
    left = np.arange(len(stack))
    while len(left):
        hit = wanted[symbols.locations_of_stack[at[left]]]
        result[left[hit]] = at[left[hit]]
        left = left[~hit]
        at[left] += 1
        left = left[at[left] < end[left]]
    return result


def _whole_addresses(symbols: Symbols, dropped: BoolArray) -> BoolArray:
    """Judge an address by its innermost function alone, and with it those that function is inlined
    into.
    """
    locations = symbols.locations_of_stack
    inlined = np.array([x.inlined for x in symbols.locations], dtype=np.bool_)[locations]
    begins = np.concatenate(([True], ~inlined[:-1]))
    first = np.flatnonzero(begins)
    return np.asarray(dropped[first][np.cumsum(begins) - 1], dtype=np.bool_)
