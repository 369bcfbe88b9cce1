"""Threads and asyncio tasks that ran a Python stack, by their names.

Label *k* has the number ``k + 1``; 0 means none. `StackTable.label` of a stack is the number of its
innermost label; those that it is in follow by ``outer``. An outer label comes first.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.escape import one_line

MOST_DEPTH = 16
"""Labels of a stack that are shown at most; honest files have one of each kind."""


class LabelKind(enum.IntEnum):
    """The kind of named thing."""

    THREAD = 1
    TASK = 2


@dataclass(slots=True)
class Labels:
    """All arrays have one entry per label.

    ``outer`` is the number of the label that this one is in, at most its own index; 0: none.
    ``kind`` is a `LabelKind`. An empty name stands for all that have no label of their own, because
    there were too many.
    """

    outer: npt.NDArray[np.uint32]
    kind: npt.NDArray[np.uint8]
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def named(self, index: int) -> tuple[str, str]:
        """Return the kind of a label and its name: `thread`, `worker-3`; `task`, `other tasks`."""
        kind = LabelKind(int(self.kind[index])).name.lower()
        return kind, one_line(self.names[index]) or f"other {kind}s"

    def spelled(self, index: int) -> str:
        """Return what reports call a label: `thread worker-3`, `other tasks`."""
        kind, name = self.named(index)
        return f"{kind} {name}" if self.names[index] else name

    def path(self, number: int) -> str:
        """Return all that a label says, outermost first: `thread io, task fetch`; of 0 nothing."""
        return ", ".join(self.spelled(index) for index in reversed(self.outwards(number)))

    def outwards(self, number: int) -> list[int]:
        """Return the labels of the number, innermost first, as indices; at most `MOST_DEPTH`."""
        found: list[int] = []
        while number and len(found) < MOST_DEPTH:
            found.append(number - 1)
            number = int(self.outer[number - 1])
        return found


class MergedLabels:
    """The distinct labels of several files, in the order of first appearance: by kind, name and
    the labels that they are in.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, int, str], int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def intern(self, labels: Labels | None) -> npt.NDArray[np.int64]:
        """Return the number here of every number of ``labels``; of 0 it is 0."""
        here = [0]
        if labels is not None:
            rows = zip(labels.outer.tolist(), labels.kind.tolist(), labels.names, strict=True)
            for outer, kind, name in rows:
                key = (here[outer], kind, name)
                here.append(self._numbers.setdefault(key, len(self._numbers) + 1))
        return np.array(here, dtype=np.int64)

    def result(self) -> Labels | None:
        """Return them; None without any."""
        if not self._numbers:
            return None
        outer, kind, names = zip(*self._numbers, strict=True)
        return Labels(np.array(outer, np.uint32), np.array(kind, np.uint8), list(names))
