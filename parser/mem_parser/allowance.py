"""Memory allowance of a file's reader: a multiple of the stored bytes, and a floor.

Formats compress repetition: a line of a few bytes may ask for gigabytes. A reader says how much
memory it needs before it allocates it; a forged file that needs more than its allowance ends in one
plain error. Files of the largest real programs stay far below.
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
UNPACKED_TIMES = 16
"""How much more a file may unpack to, piece by piece, than its reader may keep: 4 GiB of text, and
more for large files."""


class AllowanceExceeded(InputFileError):
    """A file that needs more memory than any valid file of its size."""


def bound_bytes(stored_bytes: int, floor_bytes: int = FLOOR_BYTES) -> int:
    """Return the memory that a reader of a file with so many stored bytes may use."""
    chosen = sizes.whole_or(os.environ.get(VARIABLE), 0)
    return max(floor_bytes, chosen) + TIMES * max(stored_bytes, 0)


def unpacked_bytes(stored_bytes: int) -> int:
    """Return the unpacked size allowed for so many stored bytes, if little of it is kept."""
    return UNPACKED_TIMES * bound_bytes(stored_bytes)


class MemoryAllowance:
    """The remaining allowance of one file. ``name`` is the file's name in errors."""

    def __init__(self, name: str, stored_bytes: int, floor_bytes: int = FLOOR_BYTES) -> None:
        self.name = name
        self._stored_bytes = stored_bytes
        self._limit_bytes = bound_bytes(stored_bytes, floor_bytes)
        self.left_bytes = self._limit_bytes

    def take(self, size_bytes: int) -> None:
        """Take from the allowance. Raises `AllowanceExceeded` if it does not suffice."""
        self.left_bytes -= size_bytes
        if self.left_bytes < 0:
            self.refuse()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Return to the allowance, at the end of the context, everything taken in its body."""
        before = self.left_bytes
        yield
        self.left_bytes = before

    def grow(self, stored_bytes: int) -> None:
        """Count so many more bytes as stored: the contents of a packed file."""
        self._limit_bytes += TIMES * stored_bytes
        self.left_bytes += TIMES * stored_bytes

    def refuse(self) -> NoReturn:
        """Raise `AllowanceExceeded`."""
        stored, limit = _mebibytes(self._stored_bytes), _mebibytes(self._limit_bytes)
        raise AllowanceExceeded(
            f"{self.name}: reading its {stored} needs more than {limit} of memory",
            hint=f"no capture makes such a file; if you trust it, set {VARIABLE}=8G",
        )


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.{0 if size_bytes >= 10 << 20 else 1}f} MiB"
