"""The stacks, Python frames and labels of one file, put together from their blocks.

Where a block is missing, its rows are there without content: a stack without frames, a frame
without a function. So the numbers of all others are right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mem_parser.allowance import MemoryAllowance
from mem_parser.interning import Growing
from mem_parser.memlog.blocks import BadBlockError, Head
from mem_parser.memlog.contents import read_labels, read_python_part, read_stacks
from mem_parser.memlog.launches import read_texts
from mem_parser.model import STACK_LOST_SHIFT, StackTable
from mem_parser.python.labels import LabelKind, Labels
from mem_parser.python.stacks import PythonCode, PythonStacks

MOST_NUMBER = 1 << 28
"""No stack has a larger number: what is live is added up by keys that have so much room."""
_LOST = 1 << STACK_LOST_SHIFT
_STACK_BYTES, _NODE_BYTES, _CODE_BYTES, _LABEL_BYTES = 36, 24, 300, 100
_UNKNOWN = PythonCode("?", "?", "", 0)


class FileTables:
    """Takes the blocks in the order of the file."""

    def __init__(self, allowance: MemoryAllowance) -> None:
        self._allowance = allowance
        self._depth: Growing[np.int64] = Growing(np.int64)
        self._flags: Growing[np.uint32] = Growing(np.uint32)
        self._generation: Growing[np.uint32] = Growing(np.uint32)
        self._interpreter: Growing[np.uint32] = Growing(np.uint32)
        self._frames: Growing[np.uint64] = Growing(np.uint64)
        self._parent: Growing[np.uint32] = Growing(np.uint32)
        self._code: Growing[np.uint32] = Growing(np.uint32)
        self._line: Growing[np.uint32] = Growing(np.uint32)
        self._entry: Growing[np.bool_] = Growing(np.bool_)
        self._codes: list[PythonCode] = []
        self._label: Growing[np.uint32] = Growing(np.uint32)
        self._outer: Growing[np.uint32] = Growing(np.uint32)
        self._kind: Growing[np.uint8] = Growing(np.uint8)
        self._names: list[str] = []
        self.texts: list[bytes] = []
        """Texts of launches; text *k* has the number *k* + 1."""

    def take_stacks(self, head: Head, data: bytes) -> None:
        """Take in a block of stacks. Raises BadBlockError, AllowanceExceeded."""
        stacks = read_stacks(head, data)
        self._fill(head.first, len(self._depth), _STACK_BYTES, self._lost_stacks)
        self._allowance.take(2 * (_STACK_BYTES * len(stacks) + stacks.frames.nbytes))
        self._depth.extend(stacks.depths)
        self._flags.extend(stacks.flags)
        self._generation.extend(stacks.generation)
        self._interpreter.extend(stacks.interpreters)
        self._label.extend(stacks.label_numbers)
        self._frames.extend(stacks.frames)

    def take_python(self, head: Head, data: bytes) -> None:
        """Take in a block of Python's frames. Raises BadBlockError, AllowanceExceeded."""
        part, first_code = read_python_part(head, data)
        if first_code < len(self._codes) and part.codes:
            raise BadBlockError("its functions come twice")
        self._fill(head.first, len(self._parent), _NODE_BYTES, self._lost_nodes)
        if part.codes:
            self._fill(first_code, len(self._codes), _CODE_BYTES, self._lost_codes)
        self._allowance.take(2 * _NODE_BYTES * len(part) + _CODE_BYTES * len(part.codes))
        self._parent.extend(part.parent)
        self._code.extend(part.code)
        self._line.extend(part.line)
        self._entry.extend(part.entry)
        self._codes.extend(part.codes)

    def take_labels(self, head: Head, data: bytes) -> None:
        """Take in a block of labels. Raises BadBlockError, AllowanceExceeded."""
        labels = read_labels(head, data)
        self._fill(head.first, len(self._names), _LABEL_BYTES, self._lost_labels)
        self._allowance.take(2 * (_LABEL_BYTES * len(labels) + len(data)))
        self._outer.extend(labels.outer)
        self._kind.extend(labels.kind)
        self._names.extend(labels.names)

    def take_texts(self, head: Head, data: bytes) -> None:
        """Take in a block of texts. Raises BadBlockError, AllowanceExceeded."""
        texts = read_texts(head, data)
        self._fill(head.first, len(self.texts), _LABEL_BYTES, self._lost_texts)
        self._allowance.take(2 * (_LABEL_BYTES * len(texts) + len(data)))
        self.texts += texts

    def stacks(self) -> StackTable:
        """Return all stacks; one that names an unknown Python frame or label names none."""
        offsets = np.zeros(len(self._depth) + 1, dtype=np.int64)
        np.cumsum(self._depth.values, out=offsets[1:])
        interpreter = self._interpreter.values.copy()
        interpreter[interpreter > len(self._parent)] = 0
        label = self._label.values.copy()
        label[label > len(self._names)] = 0
        return StackTable(
            offsets,
            self._frames.values,
            self._flags.values,
            self._generation.values,
            leaf_exact=True,
            interpreter=interpreter if interpreter.any() else None,
            label=label if label.any() else None,
        )

    def labels(self) -> Labels | None:
        """Return all labels; None without any."""
        if not self._names:
            return None
        return Labels(self._outer.values, self._kind.values, self._names)

    def python(self) -> PythonStacks | None:
        """Return all Python frames; None without any."""
        if not len(self._parent):
            return None
        code, codes = self._code.values.copy(), self._codes
        unknown = code >= len(codes)
        if unknown.any():
            code[unknown] = len(codes)
            codes = [*codes, _UNKNOWN]
        return PythonStacks(self._parent.values, code, self._line.values, self._entry.values, codes)

    @property
    def stack_count(self) -> int:
        """How many stacks there are so far."""
        return len(self._depth)

    def pad_stacks(self, count: int) -> None:
        """Extend the table to at least so many stacks: the last ones may be lost. Raises
        BadBlockError, AllowanceExceeded.
        """
        if count > len(self._depth):
            self._fill(count, len(self._depth), _STACK_BYTES, self._lost_stacks)

    def _fill(self, first: int, have: int, row_bytes: int, add: Callable[[int], None]) -> None:
        missing = first - have
        if missing < 0 or first > MOST_NUMBER:
            raise BadBlockError("its rows come twice")
        if missing:
            self._allowance.take(2 * missing * row_bytes)
            add(missing)

    def _lost_stacks(self, count: int) -> None:
        self._depth.extend(np.zeros(count, dtype=np.int64))
        self._flags.extend(np.full(count, _LOST, dtype=np.uint32))
        self._generation.extend(np.zeros(count, dtype=np.uint32))
        self._interpreter.extend(np.zeros(count, dtype=np.uint32))
        self._label.extend(np.zeros(count, dtype=np.uint32))

    def _lost_nodes(self, count: int) -> None:
        self._parent.extend(np.zeros(count, dtype=np.uint32))
        self._code.extend(np.full(count, MOST_NUMBER, dtype=np.uint32))
        self._line.extend(np.zeros(count, dtype=np.uint32))
        self._entry.extend(np.zeros(count, dtype=np.bool_))

    def _lost_codes(self, count: int) -> None:
        self._codes.extend([_UNKNOWN] * count)

    def _lost_labels(self, count: int) -> None:
        self._outer.extend(np.zeros(count, dtype=np.uint32))
        self._kind.extend(np.full(count, LabelKind.THREAD, dtype=np.uint8))
        self._names.extend(["?"] * count)

    def _lost_texts(self, count: int) -> None:
        self.texts.extend([b"?"] * count)
