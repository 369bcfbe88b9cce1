"""How much memory reading one file may take: a multiple of what is stored of it, and a floor.

Formats shrink what repeats: a line of a few bytes may ask for gigabytes. Whoever reads a file says
how much he is about to take, before he takes it; what a forged file asks for beyond its allowance
ends in one plain error. Files of programs as large as there are stay far below.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NoReturn

from mem_parser import sizes
from mem_parser.errors import InputFileError

VARIABLE = "MEM_PARSER_MEMORY"
"""Names the floor: `4G`, for instance."""
FLOOR_BYTES = 256 << 20
TIMES = 16


class AllowanceExceeded(InputFileError):
    """A file that wants more memory than one of its size can need."""


def bound_bytes(stored_bytes: int, floor_bytes: int = FLOOR_BYTES) -> int:
    """Return what reading a file may take of which so much is stored."""
    chosen = sizes.whole_or(os.environ.get(VARIABLE), 0)
    return max(floor_bytes, chosen) + TIMES * max(stored_bytes, 0)


class MemoryAllowance:
    """What is left of one file's allowance. ``name`` is what errors call the file."""

    def __init__(self, name: str, stored_bytes: int, floor_bytes: int = FLOOR_BYTES) -> None:
        self.name = name
        self._stored_bytes = stored_bytes
        self._limit_bytes = bound_bytes(stored_bytes, floor_bytes)
        self.left_bytes = self._limit_bytes

    def take(self, size_bytes: int) -> None:
        """Say that so much is taken now. Raises `AllowanceExceeded` before it is too much."""
        self.left_bytes -= size_bytes
        if self.left_bytes < 0:
            self.refuse()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Give back at the end of the context what is taken within."""
        before = self.left_bytes
        yield
        self.left_bytes = before

    def grow(self, stored_bytes: int) -> None:
        """Count so much more as stored: what a packed file really holds."""
        self._limit_bytes += TIMES * stored_bytes
        self.left_bytes += TIMES * stored_bytes

    def refuse(self) -> NoReturn:
        """Raise `AllowanceExceeded`."""
        stored, limit = _mebibytes(self._stored_bytes), _mebibytes(self._limit_bytes)
        raise AllowanceExceeded(
            f"{self.name}: to read its {stored} takes more than {limit} of memory",
            hint=f"no capture makes such a file; where it is to be trusted: {VARIABLE}=8G",
        )


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.{0 if size_bytes >= 10 << 20 else 1}f} MiB"
