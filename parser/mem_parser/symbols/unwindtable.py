"""Function starts from unwind tables, for code without symbols.

`.eh_frame_hdr` (Linux Standard Base, core specification, chapter 10) has the start of every
function with the place of its rules (FDE), in order; the FDE has its length. A stripped program
keeps both, because exceptions and our own unwinder need them. An address that no FDE covers belongs
to no function that is known. The file may be hostile: what does not fit is no function.
"""

from __future__ import annotations

import struct
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mem_parser.interning import distinct
from mem_parser.symbols.elf import BadElf

Addresses = npt.NDArray[np.uint64]
_TABLE_FORMAT = 0x3B  # signed 4 bytes, relative to the table's header
_COUNT_FORMAT = 0x03  # unsigned 4 bytes
_OMITTED = 0xFF
_SIZES = {0x02: 2, 0x03: 4, 0x04: 8, 0x0A: 2, 0x0B: 4, 0x0C: 8}
_MOST_CIE_BYTES = 256
_LONG = 0xFFFFFFFF


class UnwindSource(Protocol):
    """A source of unwind tables: a file (`ElfImage`), or an image in memory."""

    @property
    def bits(self) -> int:
        """Size of an address: 32 or 64."""

    @property
    def little_endian(self) -> bool:
        """Tell whether the lowest byte of a number comes first."""

    def unwind_header(self) -> tuple[int, bytes]:
        """Return the address and content of `.eh_frame_hdr`. Raises BadElf, OSError."""

    def bytes_at(self, address: int, most: int) -> bytes:
        """Return up to ``most`` bytes at an address. Raises OSError."""


class UnwindTable:
    """The functions that have unwind rules."""

    def __init__(self, image: UnwindSource) -> None:
        """Read the search table; without a usable one there are no functions. Raises OSError."""
        self._image = image
        self._order = "<" if image.little_endian else ">"
        self._pointer_size = image.bits // 8
        self._starts = np.zeros(0, dtype=np.uint64)
        self._rules = np.zeros(0, dtype=np.uint64)
        self._range_formats: dict[int, int | None] = {}
        try:
            self._read()
        except (BadElf, struct.error):
            return

    def __len__(self) -> int:
        return len(self._starts)

    def starts(self, addresses: Addresses) -> Addresses:
        """Return for each address the start of its function; the address itself if unknown. Raises
        OSError.
        """
        if not len(self._starts):
            return addresses
        at = np.searchsorted(self._starts, addresses, side="right").astype(np.int64) - 1
        result = addresses.copy()
        for row in distinct(at[at >= 0]).tolist():
            mine = np.flatnonzero(at == row)
            length = self._length(int(self._rules[row]))
            inside = mine[addresses[mine] - self._starts[row] < np.uint64(length)]
            result[inside] = self._starts[row]
        return result

    def function(self, address: int) -> tuple[int, int] | None:
        """Return the first byte and the end of the function that holds an address; None if unknown.
        Raises OSError.
        """
        row = int(np.searchsorted(self._starts, np.uint64(address), side="right")) - 1
        if row < 0:
            return None
        start = int(self._starts[row])
        end = start + self._length(int(self._rules[row]))
        return (start, end) if address < end else None

    def _read(self) -> None:
        place, data = self._image.unwind_header()
        if len(data) < 4 or data[0] != 1:
            return
        pointer, count_format, table_format = data[1:4]
        at = 4 + self._size_of(pointer)
        if pointer == _OMITTED or (count_format, table_format) != (_COUNT_FORMAT, _TABLE_FORMAT):
            return
        (count,) = struct.unpack_from(f"{self._order}I", data, at)
        rows = data[at + 4 : at + 4 + 8 * count]
        table = np.frombuffer(rows[: len(rows) - len(rows) % 8], f"{self._order}i4").reshape(-1, 2)
        absolute = (table.astype(np.int64) + place).astype(np.uint64)
        order = np.argsort(absolute[:, 0], kind="stable")
        self._starts, self._rules = absolute[order, 0], absolute[order, 1]

    def _size_of(self, form: int) -> int:
        return _SIZES.get(form & 0x0F, self._pointer_size)

    def _length(self, rules: int) -> int:
        """Return the bytes of the function of the FDE at ``rules``; 0 where it is damaged."""
        try:
            head = self._image.bytes_at(rules, 8)
            length, back = struct.unpack(f"{self._order}II", head)
            if length in (0, _LONG) or not back:
                return 0
            common = rules + 4 - back
            if common not in self._range_formats:
                self._range_formats[common] = self._range_format(common)
            form = self._range_formats[common]
            if form is None:
                return 0
            size = self._size_of(form)
            raw = self._image.bytes_at(rules + 8 + size, size)
            return int.from_bytes(raw, "little" if self._order == "<" else "big")
        except struct.error:
            return 0

    def _range_format(self, common: int) -> int | None:
        """Return how the FDEs of the CIE at ``common`` write addresses; None where it does not
        say.
        """
        data = self._image.bytes_at(common, _MOST_CIE_BYTES)
        length, zero = struct.unpack_from(f"{self._order}II", data)
        version = data[8] if len(data) > 8 else 0
        end = data.find(b"\0", 9)
        if zero or length == _LONG or version not in (1, 3) or end < 0:
            return None
        words, at = data[9:end], end + 1
        if not words.startswith(b"z"):
            return 0
        for _ in range(2 if version == 1 else 3):
            at = _after_number(data, at)
        at = _after_number(data, at + (version == 1))
        for word in words[1:]:
            if at >= len(data):
                return None
            if word == ord("R"):
                return data[at]
            if word == ord("P"):
                at += 1 + self._size_of(data[at])
            elif word == ord("L"):
                at += 1
        return 0


def _after_number(data: bytes, at: int) -> int:
    """Return the position after the LEB128 number at ``at``."""
    while at < len(data) and data[at] & 0x80:
        at += 1
    return at + 1
