"""Sums of a profile's stacks, and the functions that they count for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mem_parser.charge import charged_from
from mem_parser.estimate import FloatArray, added_up
from mem_parser.filters import Filters
from mem_parser.folds import fold_frames, with_unnamed
from mem_parser.model import BoolArray, Count, IntArray, Profile, Unit
from mem_parser.reports.aggregate import stack_parts
from mem_parser.startframes import START_FUNCTIONS
from mem_parser.symbols.table import Function, Symbols


@dataclass(slots=True)
class StackColumns:
    """Sums by stack: bytes in use, and allocated so far."""

    value: FloatArray
    variance: FloatArray
    samples: FloatArray
    allocated: FloatArray
    allocated_variance: FloatArray
    allocated_samples: FloatArray
    freed_variance: FloatArray

    def each(self) -> list[FloatArray]:
        """The columns, in the order of their names."""
        return [getattr(self, f.name) for f in dataclasses.fields(self)]


@dataclass(slots=True)
class ShownStacks:
    """How stacks are shown: ``own`` is the function of each, -1 where the filters leave it out;
    ``stack`` and ``function`` are all pairs of a stack that is shown and a function on it, once.
    """

    own: IntArray
    stack: IntArray
    function: IntArray
    count: int

    def by_own(self, column: FloatArray) -> FloatArray:
        """Add up a column of stacks by the functions that they are charged to."""
        shown = self.own >= 0
        return added_up(self.own[shown], column[shown], self.count)

    def by_total(self, column: FloatArray) -> FloatArray:
        """Add up a column of stacks for all functions on them."""
        return added_up(self.function, column[self.stack], self.count)


@dataclass(slots=True)
class Names:
    """The distinct names of functions, with module and file of the first one of each; ``key`` is
    the index of its name for each function. They begin with `START_FUNCTIONS`.
    """

    names: list[str]
    modules: list[str]
    files: list[str]
    key: IntArray

    @classmethod
    def of(cls, symbols: Symbols) -> Names:
        """The names of the functions of ``symbols``."""
        firsts: dict[str, Function] = {}
        for function in (*START_FUNCTIONS, *with_unnamed(symbols.functions, symbols)):
            firsts.setdefault(function.name, function)
        index = {name: k for k, name in enumerate(firsts)}
        return cls(
            list(index),
            [f.module for f in firsts.values()],
            [f.file for f in firsts.values()],
            np.array([index[f.name] for f in symbols.functions], dtype=np.int64),
        )

    def keys_of(self, names: Sequence[str]) -> IntArray:
        """Return the index of each of some ``names``."""
        wanted = set(names)
        found = {name: k for k, name in enumerate(self.names) if name in wanted}
        return np.array([found[name] for name in names], dtype=np.int64)


def shown_stacks(
    symbols: Symbols, filters: Filters, stacks: BoolArray, names: Names
) -> ShownStacks:
    """Return how ``filters`` show the ``stacks`` (a mask) of ``symbols``."""
    hidden = filters.without_hidden(symbols)
    key = names.key
    if len(hidden.functions) > len(symbols.functions):
        key = np.append(key, -1)  # what stands for stacks of nothing but hidden frames
    begin = charged_from(hidden, filters.rule)
    if filters.folds:
        inner = begin - hidden.offsets[:-1]
        hidden = fold_frames(hidden, filters.folds, begin)
        begin = hidden.offsets[:-1] + inner
        key = np.append(key, names.keys_of([f.name for f in hidden.functions[len(key) :]]))
    on_stack = key[hidden.function_of_location][hidden.locations_of_stack]
    own = np.where(stacks, on_stack[begin], -1)
    counts = _is_last(hidden, on_stack) & (on_stack >= 0)
    stack = np.repeat(np.arange(len(stacks)), np.diff(hidden.offsets))
    place = np.flatnonzero(counts)
    stack = stack[place]
    shown = stacks[stack] & (place >= begin[stack])
    return ShownStacks(own, stack[shown], on_stack[place[shown]], len(names.names))


def _is_last(symbols: Symbols, on_stack: IntArray) -> BoolArray:
    known = symbols.known
    if known is not None and known.locations_of_stack is symbols.locations_of_stack:
        return known.is_last
    return last_of_name(on_stack, symbols.offsets)


def stack_columns(part: Profile) -> StackColumns:
    """Add up a profile by stack."""
    stack, stacks = part.sites.stack, len(part.stacks)
    found = [*part.weigh(Count.INUSE, Unit.SPACE), *part.weigh(Count.ALLOC, Unit.SPACE)]
    found.append(part.weigh(Count.FREED, Unit.SPACE)[1])
    return StackColumns(*(added_up(stack, column, stacks) for column in found))


def last_of_name(key: IntArray, offsets: IntArray) -> BoolArray:
    """Tell for each entry of stacks, back to back, whether its ``key`` (-1: of none) is not on the
    rest of its stack. However much of the inner end is left out, each key of the rest has one such
    entry.
    """
    result = np.zeros(len(key), dtype=np.bool_)
    width = int(key.max(initial=0)) + 2
    for low, high in stack_parts(offsets):
        begin, end = int(offsets[low]), int(offsets[high])
        stack = np.repeat(np.arange(high - low), np.diff(offsets[low : high + 1]))
        pair = stack * width + key[begin:end] + 1
        # The first of a run of equal ones in reverse order is the last of the stack.
        _, place = np.unique(pair[::-1], return_index=True)
        result[end - 1 - place] = True
    return result
