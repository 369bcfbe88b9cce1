"""Stacks of which many have the same frames: a table that has these frames once.

A Python program reaches one allocation by the same native frames below many Python stacks. Laid out
back to back their frames take several times as much memory as all the rest of a profile.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mem_parser.model import AddressArray, IntArray, StackTable

Numbers = npt.NDArray[np.uint32]


class SharedStacks(StackTable):
    """Stack *k* has the frames, flags and generation of ``distinct``'s stack ``of[k]``.

    ``frames`` lays all of them out, once, when somebody asks for it.
    """

    __slots__ = ("_laid_out", "distinct", "of")

    def __init__(
        self,
        distinct: StackTable,
        of: IntArray,
        interpreter: Numbers | None = None,
        label: Numbers | None = None,
        series: object | None = None,
    ) -> None:
        self.distinct = distinct
        self.of = of
        self._laid_out: AddressArray | None = None
        self.offsets = np.concatenate(([0], np.cumsum(distinct.depths[of]))).astype(np.int64)
        self.flags = distinct.flags[of]
        self.generation = distinct.generation[of]
        self.leaf_exact = distinct.leaf_exact
        self.interpreter = interpreter
        self.label = label
        self.series = series

    @property
    def frames(self) -> AddressArray:  # type: ignore[override]
        """The frames of all stacks, back to back."""
        if self._laid_out is None:
            self._laid_out = self.frames_between(0, len(self))
        return self._laid_out

    def numbered(self, interpreter: Numbers | None, label: Numbers | None) -> SharedStacks:
        """As `StackTable.numbered`."""
        return SharedStacks(self.distinct, self.of, interpreter, label)

    def shared(self) -> tuple[StackTable, IntArray]:
        """As `StackTable.shared`."""
        return self.distinct, self.of

    def frames_between(self, low: int, high: int) -> AddressArray:
        """As `StackTable.frames_between`."""
        of = self.of[low:high]
        offsets = self.offsets[low : high + 1]
        first = self.distinct.offsets[:-1][of] - offsets[:-1] + self.offsets[low]
        inner = np.arange(int(offsets[-1] - offsets[0])) + np.repeat(first, np.diff(offsets))
        frames: AddressArray = self.distinct.frames[inner]
        return frames
