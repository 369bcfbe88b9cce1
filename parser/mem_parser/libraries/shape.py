"""Wrappers that no table knows, by the stacks that they are on.

A function is a wrapper if all that is allocated below it is allocated by itself (it ends every
stack that it is on), for many callers, none of which has most of it, and in sizes that are the
callers' choice: at every line of it that allocates, many sizes for many callers. A factory, which
makes one kind of object for many callers, has few sizes, and stays. What a wrapper's callers are
may be another wrapper, so this goes on until it finds no more. Of a stripped file, a function
without a name is one too if most blocks come to it through a named allocator of that file: the
names that a file exports are left, so `palloc` is known and what it calls is not. And what reports
its blocks by `mem_profiler.h` is an allocator by its own word.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mem_parser.charge import beyond_libraries, charged_from, first_from
from mem_parser.estimate import FloatArray
from mem_parser.interning import distinct
from mem_parser.libraries.rules import Libraries
from mem_parser.model import BoolArray, Count, IntArray, Profile
from mem_parser.names import REPORTING, FrameRule
from mem_parser.symbols.table import Function, Role, Symbols

LEAST_CALLERS = 5
"""Functions that must call it, and distinct sizes that it must allocate."""
MOST_OF_ONE = 0.6
"""The largest share of its samples that one caller may have."""
_SMALL_LINE = 0.1
"""Lines with less of a function's samples than this share say nothing."""
_ROUNDS = 8
_MOST_BELOW = 0.5
"""Of a nameless function's samples, below named allocators of its file."""


def wrappers(profile: Profile, symbols: Symbols, libraries: Libraries) -> list[int]:
    """Return the functions that are wrappers by shape, the heaviest first; ``symbols`` has the
    roles that are known by name.
    """
    found = [k for k in _reporting(symbols) if not libraries.keeps(symbols.functions[k])]
    marked = with_role(symbols, found, Role.WRAPPER)
    outside = charged_from(symbols, FrameRule.OWN)
    for _ in range(_ROUNDS):
        begin = beyond_libraries(marked, outside)
        new = _nameless(profile, marked, begin) or _round(profile, marked, begin)
        new = [k for k in new if not libraries.keeps(symbols.functions[k])]
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


def _reporting(symbols: Symbols) -> list[int]:
    """Return the functions of the program into which one of `REPORTING` is inlined. Without debug
    information these are not known from what the allocator is inlined into.
    """
    functions, of_location = symbols.functions, symbols.function_of_location
    reports = np.array([f.name in REPORTING and not f.python for f in functions], dtype=np.bool_)
    if not reports.any():
        return []
    inlined = np.array([x.inlined for x in symbols.locations], dtype=np.bool_)
    spelled = symbols.locations_of_stack
    place = np.flatnonzero((reports[of_location] & inlined)[spelled]) + 1
    callers = distinct(of_location[spelled[place[~np.isin(place, symbols.offsets)]]])
    own = (k for k in callers.tolist() if functions[k].role is Role.PROGRAM)
    return [k for k in own if not _is_none(functions[k])]


def _round(profile: Profile, symbols: Symbols, begin: IntArray) -> list[int]:
    """Return the wrappers among the functions that blocks are charged to now, at ``begin``."""
    end = symbols.offsets[1:]
    spelled, of_location = symbols.locations_of_stack, symbols.function_of_location
    count = len(symbols.functions)
    blocks, size = profile.counts(Count.ALLOC if profile.has_alloc else Count.INUSE)
    site = np.flatnonzero(blocks > 0)
    stack = profile.sites.stack[site]
    # A stack of one frame has no caller.
    called = (end - begin)[stack] > 1
    site, stack = site[called], stack[called]
    if not len(site):
        return []
    candidates = _ends_all(symbols, begin)
    candidates[[k for k, f in enumerate(symbols.functions) if _is_none(f)]] = False
    possible = candidates[of_location[spelled[begin[stack]]]]
    site, stack = site[possible], stack[possible]
    if not len(site):
        return []
    leaf = of_location[spelled[begin[stack]]].astype(np.int64)
    caller = of_location[spelled[begin[stack] + 1]].astype(np.int64)
    weight = blocks[site].astype(np.float64)
    mean = np.round(size[site] / blocks[site]).astype(np.int64)
    own = np.bincount(leaf, weights=weight, minlength=count)
    candidates &= _wide(leaf, caller, mean, count)
    candidates &= _largest(leaf, caller, weight, count) <= MOST_OF_ONE * own
    lines, line = np.unique(spelled[begin[stack]], return_inverse=True)
    held = np.bincount(line, weights=weight)
    narrow = ~_wide(line, caller, mean, len(lines))[line]
    candidates[leaf[narrow & (held[line] >= _SMALL_LINE * own[leaf])]] = False
    return sorted(np.flatnonzero(candidates).tolist(), key=lambda k: -own[k])


def _nameless(profile: Profile, symbols: Symbols, begin: IntArray) -> list[int]:
    """Return the functions without a name that end stacks below a named allocator of their file."""
    functions = symbols.functions
    known = np.array([f.known for f in functions], dtype=np.bool_)
    if known.all():
        return []
    allocates = np.array([f.role is Role.WRAPPER for f in functions], dtype=np.bool_) & known
    numbers: dict[str, int] = {}
    module = np.array([numbers.setdefault(f.module, len(numbers)) for f in functions])
    spelled, of_location = symbols.locations_of_stack, symbols.function_of_location
    leaf = of_location[spelled[begin]]
    stack = np.flatnonzero(~known[leaf])
    named = first_from(symbols, known[of_location], begin[stack], stack)
    stack, named = stack[named >= 0], named[named >= 0]
    above = of_location[spelled[named]]
    below = np.zeros(len(begin), dtype=np.bool_)
    below[stack] = allocates[above] & (module[above] == module[leaf[stack]])
    blocks, _ = profile.counts(Count.ALLOC if profile.has_alloc else Count.INUSE)
    of_site = profile.sites.stack
    every = np.bincount(leaf[of_site], weights=blocks, minlength=len(functions))
    some = np.bincount(leaf[of_site], weights=blocks * below[of_site], minlength=len(functions))
    return np.flatnonzero((some > 0) & (some >= _MOST_BELOW * every)).tolist()


def _wide(group: IntArray, caller: IntArray, size: IntArray, count: int) -> BoolArray:
    """Tell for each group whether it has many callers and many sizes."""
    several = _distinct(group, caller, count) >= LEAST_CALLERS
    return np.asarray(several & (_distinct(group, size, count) >= LEAST_CALLERS))


def _is_none(function: Function) -> bool:
    """Tell whether it is no wrapper whatever its stacks: nobody allocates by one of Python's."""
    return function.python or function.name.startswith("[") or function.name == "main"


def _ends_all(symbols: Symbols, begin: IntArray) -> BoolArray:
    """Return for each function whether it is on stacks only where they end, or further in."""
    count = len(symbols.locations)
    spelled = symbols.locations_of_stack
    outside = np.bincount(spelled, minlength=count) - np.bincount(spelled[begin], minlength=count)
    inner = begin - symbols.offsets[:-1]
    behind = np.cumsum(inner)
    place = np.repeat(begin - behind, inner) + np.arange(int(inner.sum()))
    outside -= np.bincount(spelled[place], minlength=count)
    functions = len(symbols.functions)
    by_function = np.bincount(symbols.function_of_location, weights=outside, minlength=functions)
    return np.asarray(by_function == 0)


def _distinct(group: IntArray, value: IntArray, count: int) -> IntArray:
    """Return how many distinct values each group has."""
    codes, width = _codes(group, value)
    return np.bincount(distinct(codes) // width, minlength=count)


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
