"""Merge Python frames and labels of several files' stacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.interning import Growing, Interner, pairs
from mem_parser.model import Profile, StackTable
from mem_parser.python.labels import Labels, MergedLabels
from mem_parser.python.merged import MergedPython, renumbered
from mem_parser.python.stacks import PythonStacks


@dataclass(frozen=True, slots=True)
class Owned:
    """The columns of `StackTable`, and the objects that they number."""

    python: PythonStacks | None
    labels: Labels | None
    interpreter: npt.NDArray[np.uint32] | None
    label: npt.NDArray[np.uint32] | None


class MergedOwners:
    """What stacks of several files have besides native frames, as one number: their Python frames
    and their label.
    """

    def __init__(self) -> None:
        self._python, self._labels = MergedPython(), MergedLabels()
        self._pairs = Interner()
        self._python_of: Growing[np.uint32] = Growing(np.uint32)
        self._label_of: Growing[np.uint32] = Growing(np.uint32)
        self._pairs.intern(np.zeros(1, dtype=np.int64))
        self._python_of.extend(np.zeros(1))
        self._label_of.extend(np.zeros(1))

    def intern(self, profile: Profile) -> npt.NDArray[np.uint32]:
        """Return the number of each stack of ``profile``; 0: it has neither."""
        return self.intern_stacks(profile.stacks, profile.python, profile.labels)

    def intern_stacks(
        self, stacks: StackTable, frames: PythonStacks | None, labels: Labels | None
    ) -> npt.NDArray[np.uint32]:
        """As `intern`, of stacks that have these Python frames and labels."""
        python = renumbered(stacks.interpreters, self._python.intern(frames))
        label = renumbered(stacks.label_numbers, self._labels.intern(labels))
        numbers, first = self._pairs.intern(pairs(label.astype(np.int64), python.astype(np.int64)))
        self._python_of.extend(python[first])
        self._label_of.extend(label[first])
        return numbers.astype(np.uint32)

    def split(self, numbers: npt.NDArray[np.uint32]) -> Owned:
        """Return what `intern` made these numbers of."""
        python, labels = self._python.result(), self._labels.result()
        of_python, of_label = self._python_of.values[numbers], self._label_of.values[numbers]
        return Owned(
            python,
            labels,
            None if python is None else of_python,
            None if labels is None else of_label,
        )
