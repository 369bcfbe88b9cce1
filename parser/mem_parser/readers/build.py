"""Collect the records of a text profile, then make columns of them.

Text readers get records one by one; the builder interns stacks by their text, so that it converts a
stack with a thousand records once.
"""

from __future__ import annotations

from array import array
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError
from mem_parser.model import SiteTable, StackTable, ThreadBlocks

_STACK_BYTES, _FRAME_BYTES = 256, 24
_SITE_BYTES, _THREAD_BYTES = 160, 96
"""What one takes here and in the tables made of it."""
COUNT_LIMIT = 1 << 62
"""Counts above this are forged: no machine has so many bytes."""


class ProfileBuilder:
    """Records of one file, in order; `stacks` and `sites` make the tables at the end."""

    def __init__(self, path: str, allowance: MemoryAllowance) -> None:
        self.path = path
        self.bad_addresses = 0
        self._allowance = allowance
        self._stack_of_text: dict[bytes, int] = {}
        self._frames: array[int] = array("Q")
        self._offsets: array[int] = array("q", [0])
        self._stack: array[int] = array("q")
        self._counts: array[int] = array("q")
        self._threads: array[int] = array("q")

    def fail(self, line: int, what: str) -> NoReturn:
        """Raise the error that names this file and ``line``."""
        raise InputFileError(f"{self.path}, line {line}: {what}")

    def intern(self, text: bytes) -> int:
        """Return the index of the stack ``text``: addresses between blanks."""
        known = self._stack_of_text.get(text)
        if known is not None:
            return known
        tokens = text.split()
        self._allowance.take(_STACK_BYTES + len(text) + _FRAME_BYTES * len(tokens))
        for token in tokens:
            self._add_frame(token)
        index = len(self._offsets) - 1
        self._offsets.append(len(self._frames))
        self._stack_of_text[text] = index
        return index

    def _add_frame(self, token: bytes) -> None:
        try:
            address = int(token, 16)
        except ValueError:
            address = -1
        if not 0 <= address < 1 << 64:
            self.bad_addresses += 1
            return
        self._frames.append(address)

    def add(self, stack: int, counts: tuple[int, int, int, int], line: int) -> None:
        """Add a site: in-use blocks and bytes, allocated blocks and bytes."""
        if max(counts) > COUNT_LIMIT or min(counts) < -COUNT_LIMIT:
            self.fail(line, "a count is too large")
        self._allowance.take(_SITE_BYTES)
        self._stack.append(stack)
        self._counts.extend(counts)

    def add_thread(self, row: int, blocks: int, size: int) -> None:
        """Add in-use blocks of thread ``row`` to the latest site."""
        if self._stack and 0 < blocks <= COUNT_LIMIT and 0 <= size <= COUNT_LIMIT:
            self._allowance.take(_THREAD_BYTES)
            self._threads.extend((len(self._stack) - 1, row, blocks, size))

    def __len__(self) -> int:
        return len(self._stack)

    def stacks(self, *, leaf_exact: bool) -> StackTable:
        """Return the table of all stacks."""
        offsets = _column(self._offsets, np.int64)
        empty = np.zeros(len(offsets) - 1, dtype=np.uint32)
        frames = _column(self._frames, np.uint64)
        return StackTable(offsets, frames, empty, empty.copy(), leaf_exact)

    def sites(self) -> SiteTable:
        """Return the table of all sites."""
        counts = _column(self._counts, np.int64).reshape(-1, 4)
        return SiteTable(
            stack=_column(self._stack, np.int64),
            domain=np.zeros(len(self._stack), dtype=np.int32),
            inuse_blocks=counts[:, 0].copy(),
            inuse_bytes=counts[:, 1].copy(),
            alloc_blocks=counts[:, 2].copy(),
            alloc_bytes=counts[:, 3].copy(),
        )

    def thread_blocks(self) -> ThreadBlocks | None:
        """Return the blocks by thread; None if no line has a thread."""
        if not self._threads:
            return None
        table = _column(self._threads, np.int64).reshape(-1, 4)
        return ThreadBlocks(*(table[:, k].copy() for k in range(4)))


def _column(numbers: array[int], kind: Any) -> npt.NDArray[Any]:
    return np.array(numbers, dtype=kind)
