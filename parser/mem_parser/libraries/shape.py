"""Wrappers that no table knows, by the stacks that they are on.

A function is a wrapper if all that is allocated below it is allocated by itself (it ends every
stack that it is on), for many callers, none of which has most of it, and in sizes that are the
callers' choice: at every line of it that allocates, many sizes for many callers. A factory, which
makes one kind of object for many callers, has few sizes, and stays. What a wrapper's callers are
may be another wrapper, so this goes on until it finds no more.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mem_parser.charge import charged_from
from mem_parser.estimate import FloatArray
from mem_parser.libraries.rules import Libraries
from mem_parser.model import BoolArray, Count, IntArray, Profile
from mem_parser.names import FrameRule
from mem_parser.symbols.table import Role, Symbols

LEAST_CALLERS = 5
"""Functions that must call it, and distinct sizes that it must allocate."""
MOST_OF_ONE = 0.6
"""The largest share of its samples that one caller may have."""
_SMALL_LINE = 0.1
"""Lines with less of a function's samples than this share say nothing."""
_ROUNDS = 8


def wrappers(profile: Profile, symbols: Symbols, libraries: Libraries) -> list[int]:
    """Return the functions that are wrappers by shape, the heaviest first; ``symbols`` has the
    roles that are known by name.
    """
    found: list[int] = []
    marked = symbols
    for _ in range(_ROUNDS):
        new = [k for k in _round(profile, marked) if not libraries.keeps(symbols.functions[k])]
        if not new:
            break
        found += new
        marked = with_role(marked, new, Role.WRAPPER)
    return found


def with_role(symbols: Symbols, functions: list[int], role: Role) -> Symbols:
    """Return ``symbols`` whose ``functions`` have that role."""
    changed = list(symbols.functions)
    for k in functions:
        changed[k] = dataclasses.replace(changed[k], role=role)
    return dataclasses.replace(symbols, functions=changed)


def _round(profile: Profile, symbols: Symbols) -> list[int]:
    """Return the wrappers among the functions that blocks are charged to now."""
    begin, end = charged_from(symbols, FrameRule.PROGRAM), symbols.offsets[1:]
    function = symbols.function_of_location[symbols.locations_of_stack].astype(np.int64)
    count = len(symbols.functions)
    blocks, size = profile.counts(Count.ALLOC if profile.has_alloc else Count.INUSE)
    site = np.flatnonzero(blocks > 0)
    stack = profile.sites.stack[site]
    # A stack of one frame has no caller.
    called = (end - begin)[stack] > 1
    site, stack = site[called], stack[called]
    if not len(site):
        return []
    candidates = _ends_all(function, begin, symbols, count)
    candidates[[k for k, f in enumerate(symbols.functions) if _no_function(f.name)]] = False
    possible = candidates[function[begin[stack]]]
    site, stack = site[possible], stack[possible]
    if not len(site):
        return []
    leaf = function[begin[stack]]
    caller = function[_caller(function, begin, end)[stack]]
    weight = blocks[site].astype(np.float64)
    mean = np.round(size[site] / blocks[site]).astype(np.int64)
    own = np.bincount(leaf, weights=weight, minlength=count)
    candidates &= _wide(leaf, caller, mean, count)
    candidates &= _largest(leaf, caller, weight, count) <= MOST_OF_ONE * own
    lines, line = np.unique(symbols.locations_of_stack[begin[stack]], return_inverse=True)
    held = np.bincount(line, weights=weight)
    narrow = ~_wide(line, caller, mean, len(lines))[line]
    candidates[leaf[narrow & (held[line] >= _SMALL_LINE * own[leaf])]] = False
    return sorted(np.flatnonzero(candidates).tolist(), key=lambda k: -own[k])


def _wide(group: IntArray, caller: IntArray, size: IntArray, count: int) -> BoolArray:
    """Tell for each group whether it has many callers and many sizes."""
    several = _distinct(group, caller, count) >= LEAST_CALLERS
    return np.asarray(several & (_distinct(group, size, count) >= LEAST_CALLERS))


def _caller(function: IntArray, begin: IntArray, end: IntArray) -> IntArray:
    """Return the position of the first other function outside each stack's charged frame; the
    outermost frame where recursion hides it.
    """
    at = np.minimum(begin + 1, end - 1)
    for _ in range(_ROUNDS):
        same = (function[at] == function[begin]) & (at < end - 1)
        if not same.any():
            break
        at = at + same
    return at


def _no_function(name: str) -> bool:
    return name.startswith("[") or name == "main"


def _ends_all(function: IntArray, begin: IntArray, symbols: Symbols, count: int) -> BoolArray:
    """Return for each function whether it is nowhere but where stacks end."""
    inner = np.ones(len(function), dtype=np.bool_)
    inner[begin] = False
    place = np.arange(len(function))
    depth = np.diff(symbols.offsets)
    inner &= place > np.repeat(begin, depth)
    # A direct recursion is no other function.
    inner &= function != np.repeat(function[begin], depth)
    return np.asarray(np.bincount(function[inner], minlength=count) == 0)


def _distinct(group: IntArray, value: IntArray, count: int) -> IntArray:
    """Return how many distinct values each group has."""
    codes, width = _codes(group, value)
    return np.bincount(np.unique(codes) // width, minlength=count)


def _largest(group: IntArray, part: IntArray, weight: FloatArray, count: int) -> FloatArray:
    """Return the weight of the heaviest part of each group."""
    codes, width = _codes(group, part)
    pairs, which = np.unique(codes, return_inverse=True)
    result = np.zeros(count)
    np.maximum.at(result, pairs // width, np.bincount(which, weights=weight))
    return result


def _codes(group: IntArray, value: IntArray) -> tuple[IntArray, int]:
    """Return a number for each pair, and what to divide it by for its group."""
    values, code = np.unique(value, return_inverse=True)
    return group * len(values) + code, len(values)
