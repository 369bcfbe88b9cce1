"""One tree of Python's frames for several files, in which equal stacks have one number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mem_parser.interning import Growing, Ids, Interner, pairs
from mem_parser.python.stacks import PythonCode, PythonStacks


class MergedPython:
    """The distinct nodes of all trees, in the order of first appearance.

    A node is the same as another if function, line and entry are the same, and its callers' are.
    """

    def __init__(self) -> None:
        self._codes: dict[PythonCode, int] = {}
        self._lines, self._frames = Interner(), Interner()
        self._numbers: dict[int, int] = {}
        self._parent: Growing[np.uint32] = Growing(np.uint32)
        self._code: Growing[np.uint32] = Growing(np.uint32)
        self._line: Growing[np.uint32] = Growing(np.uint32)
        self._entry: Growing[np.bool_] = Growing(np.bool_)

    def __len__(self) -> int:
        return len(self._parent)

    def intern(self, python: PythonStacks | None) -> Ids:
        """Return the number here of every number of ``python``; of 0 it is 0."""
        if python is None or not len(python):
            return np.zeros(1, dtype=np.int64)
        known = [self._codes.setdefault(code, len(self._codes)) for code in python.codes]
        code = np.array(known, dtype=np.int64)[python.code]
        line, _ = self._lines.intern(pairs(code, python.line.astype(np.int64)))
        frame, _ = self._frames.intern(line << 1 | python.entry)
        here = [0] * (len(python) + 1)
        new = []
        numbers = self._numbers
        # Node by node: a caller has its number before what it calls.
        rows = zip(python.parent.tolist(), frame.tolist(), strict=True)
        for k, (parent, kind) in enumerate(rows):
            key = here[parent] << 32 | kind
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = len(numbers) + 1
                new.append(k)
            here[k + 1] = number
        result = np.array(here, dtype=np.int64)
        self._parent.extend(result[python.parent[new]])
        self._code.extend(code[new])
        self._line.extend(python.line[new])
        self._entry.extend(python.entry[new])
        return result

    def result(self) -> PythonStacks | None:
        """Return the tree; None without any node."""
        if not len(self):
            return None
        parent, code, line = (c.values.copy() for c in (self._parent, self._code, self._line))
        return PythonStacks(parent, code, line, self._entry.values.copy(), list(self._codes))


def renumbered(numbers: npt.NDArray[np.uint32], here: Ids) -> npt.NDArray[np.uint32]:
    """Return the numbers that `MergedPython.intern` gave these; 0 for those of no node."""
    known = numbers < len(here)
    return np.where(known, here[np.where(known, numbers, 0)], 0).astype(np.uint32)
