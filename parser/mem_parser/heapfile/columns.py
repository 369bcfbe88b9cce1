"""Columns of our own files: they stay packed, and a look-up unpacks one.

So an unknown column costs nothing, and a forged one is limited by the file's allowance.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.counts import PART_COLUMNS
from mem_parser.symbols.demangle import printable

Column = npt.NDArray[Any]
DTYPES: dict[bytes, np.dtype[Any]] = {
    b"<u4": np.dtype("<u4"),
    b"<u8": np.dtype("<u8"),
    b"<f8": np.dtype("<f8"),
    b"|u1": np.dtype("|u1"),
}
OPTIONAL_COLUMNS = {
    "births": "<u4", "live_births": "<u4", "oldest_birth_s": "<f8", "peak_blocks": "<u8",
    "peak_bytes": "<u8", "rate_bytes": "<f8", "failed_blocks": "<u8", "failed_bytes": "<u8",
    "before_end_blocks": "<u8", "before_end_bytes": "<u8", "before_end_births": "<u4",
    "before_end_live_births": "<u4", "before_end_oldest_s": "<f8",
    **PART_COLUMNS,
}  # fmt: skip
"""Of a `SiteTable`, by the names of its fields, with their types in a file."""
_MOST_ZLIB_SHRINKS = 1040
"""deflate cannot shrink data by more than 1032 times; a column that claims more is forged."""
_MADE_BYTES = 16
"""What is made of one entry in the tables: at most two numbers."""
_TEXT_BYTES = 64
"""What is made of one text, beside its characters."""


@dataclass(frozen=True, slots=True)
class PackedColumn:
    """The position of a column in the file, and the facts in its line."""

    dtype: np.dtype[Any]
    count: int
    start: int
    end: int


class Columns(MutableMapping[str, Column]):
    """The columns of one file by name. Look-ups unpack; ``fail`` raises for a damaged column."""

    def __init__(
        self, data: bytes, allowance: MemoryAllowance, fail: Callable[[str], NoReturn]
    ) -> None:
        self._data = data
        self.allowance = allowance
        self.fail = fail
        self._packed: dict[str, PackedColumn] = {}

    def add(self, name: str, column: PackedColumn) -> None:
        """Add a column; it replaces an earlier one of the same name."""
        self._packed[name] = column

    def __contains__(self, name: object) -> bool:
        return name in self._packed

    def __getitem__(self, name: str) -> Column:
        return self._unpack(name, self._packed[name])

    def __setitem__(self, name: str, column: Column) -> None:
        raise NotImplementedError

    def __delitem__(self, name: str) -> None:
        del self._packed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def whole(self, name: str, count: int | None = None) -> Column:
        """Take out a column that must be there, with so many entries."""
        column = self.pop(name, None)
        if column is None:
            self.fail(f"column {name} is missing")
        if count is not None and len(column) != count:
            self.fail(f"column {name} has {len(column)} entries instead of {count}")
        return column

    def unsigned(self, name: str, count: int | None = None) -> Column:
        """As `whole`, of numbers without a sign."""
        column = self.whole(name, count)
        if column.dtype.kind != "u":
            self.fail(f"column {name} holds no counts")
        return column

    def texts(self, name: str) -> list[str]:
        """Take out a column of texts, one a line."""
        column = self.unsigned(name)
        if column.dtype.itemsize != 1:
            self.fail(f"column {name} holds no text")
        raw = column.tobytes()
        self.allowance.take(8 * len(raw) + (raw.count(b"\n") + 1) * _TEXT_BYTES)
        return [printable(text) for text in raw.decode("utf-8", "replace").split("\n")]

    def _unpack(self, name: str, column: PackedColumn) -> Column:
        size, wanted = column.end - column.start, column.count * column.dtype.itemsize
        if wanted > size * _MOST_ZLIB_SHRINKS + 64:
            self.fail(f"column {name} cannot have {column.count} entries")
        with self.allowance.lent():
            self.allowance.take(2 * wanted + 3 * size)
            data = self._unpacked(name, column, wanted)
        self.allowance.take(wanted + column.count * _MADE_BYTES)
        return np.frombuffer(data, dtype=column.dtype)

    def _unpacked(self, name: str, column: PackedColumn, wanted: int) -> bytes:
        text = self._data[column.start : column.end].replace(b"\n", b"").replace(b"%| ", b"")
        try:
            raw = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
            engine = zlib.decompressobj()
            data = engine.decompress(raw, wanted + 1)
        except (binascii.Error, zlib.error):
            self.fail(f"column {name} is damaged")
        if len(data) != wanted or not (engine.eof or wanted == 0):
            self.fail(f"column {name} does not have the {column.count} entries that it declares")
        return data
