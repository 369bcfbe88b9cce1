"""Cache how each stack is shown, from moment to moment.

What a stack counts for depends on its frames and on the roles of their functions. Stacks of a
series keep their frames; where a known function has another role than before, all stacks are looked
at anew.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from mem_parser.filters import Filters
from mem_parser.folds import with_unnamed
from mem_parser.interning import Growing
from mem_parser.live.stacksums import Names, ShownStacks, shown_stacks
from mem_parser.startframes import START_FUNCTIONS
from mem_parser.symbols.table import Function, KnownColumns, Symbols


class KeptShown:
    """The stacks of one series, for one thread."""

    def __init__(self) -> None:
        self._begin(None, Filters())

    def _begin(self, series: object, filters: Filters) -> None:
        self._series, self._filters = series, filters
        self._role = np.zeros(0, dtype=np.int8)
        self._index = {f.name: k for k, f in enumerate(START_FUNCTIONS)}
        self._firsts = list(START_FUNCTIONS)
        self._key: Growing[np.int64] = Growing(np.int64)
        self._own: Growing[np.int64] = Growing(np.int64)
        self._stack: Growing[np.int64] = Growing(np.int64)
        self._function: Growing[np.int64] = Growing(np.int64)

    def of(self, symbols: Symbols, filters: Filters) -> tuple[Names, ShownStacks] | None:
        """Return how ``filters`` show all stacks of ``symbols``; None: it must be found out anew,
        because nothing is known of them, or the filters choose among stacks or frames.
        """
        known = symbols.known
        chooses = filters.focus or filters.ignore or filters.hide or filters.min_samples > 1
        if known is None or chooses or known.locations_of_stack is not symbols.locations_of_stack:
            return None
        role = np.array([f.role for f in symbols.functions], dtype=np.int8)
        if not self._goes_on(known, filters, role):
            self._begin(known.series, filters)
        if len(self._own) >= len(symbols.offsets):
            return None  # an earlier moment
        self._name(symbols, symbols.functions[len(self._role) :])
        self._role = role
        names = self._names()
        self._look_at(symbols, known, filters, names)
        return names, ShownStacks(
            self._own.values, self._stack.values, self._function.values, len(names.names)
        )

    def _goes_on(self, known: KnownColumns, filters: Filters, role: npt.NDArray[np.int8]) -> bool:
        """Tell whether what was found of known stacks holds."""
        same = known.series is self._series and known.series is not None
        last = self._filters
        same &= (filters.rule, filters.folds) == (last.rule, last.folds)
        before = len(self._role)
        return same and before <= len(role) and np.array_equal(role[:before], self._role)

    def _name(self, symbols: Symbols, new: list[Function]) -> None:
        index = self._index
        for function in with_unnamed(new, symbols):
            if function.name not in index:
                index[function.name] = len(index)
                self._firsts.append(function)
        self._key.extend(np.array([index[f.name] for f in new], dtype=np.int64))

    def _names(self) -> Names:
        firsts = self._firsts
        return Names(
            list(self._index),
            [f.module for f in firsts],
            [f.file for f in firsts],
            self._key.values,
        )

    def _look_at(
        self, symbols: Symbols, known: KnownColumns, filters: Filters, names: Names
    ) -> None:
        """Find out how the stacks that are new are shown."""
        low, offsets = len(self._own), symbols.offsets
        begin = int(offsets[low])
        spelled = symbols.locations_of_stack[begin:]
        part = dataclasses.replace(
            symbols,
            offsets=offsets[low:] - begin,
            locations_of_stack=spelled,
            called=None,
            known=dataclasses.replace(
                known, locations_of_stack=spelled, is_last=known.is_last[begin:]
            ),
        )
        every = np.ones(len(part.offsets) - 1, dtype=np.bool_)
        new = shown_stacks(part, filters, every, names)
        self._own.extend(new.own)
        self._stack.extend(new.stack + low)
        self._function.extend(new.function)
