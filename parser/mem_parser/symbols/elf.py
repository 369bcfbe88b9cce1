"""One ELF file: its identity (build-id, segments) and its symbol tables as numpy arrays.

Headers, notes and sections are those of `elftables`; numpy decodes symbol tables whole, because a
loop over the symbols takes seconds per library. The file may be hostile: every failure is `BadElf`,
and the file's stored bytes bound memory.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import AllowanceExceeded, MemoryAllowance
from mem_parser.plainfile import HeldBytes, PlainFile, Readable
from mem_parser.symbols import elftables
from mem_parser.symbols.elftables import BadElf, ElfTables, Section, Segment
from mem_parser.symbols.symtab import RawSymbols, SymbolTable

__all__ = ["BadElf", "ElfImage", "Segment"]

_SHF_EXECINSTR = 4
_MAX_DEBUGDATA = 256 << 20
_MOST_LINK_BYTES = 4096 + 8
_DEBUG_SECTIONS = (".debug_info", ".zdebug_info", ".debug_line", ".zdebug_line")
_TIMES_SYMBOLS = 3
"""What arrays and look-ups take of memory for each byte of a symbol table."""

_SYMBOL64 = [("name", "u4"), ("info", "u1"), ("other", "u1"), ("shndx", "u2")]
_SYMBOL64 += [("value", "u8"), ("size", "u8")]
_SYMBOL32 = [("name", "u4"), ("value", "u4"), ("size", "u4"), ("info", "u1")]
_SYMBOL32 += [("other", "u1"), ("shndx", "u2")]


class ElfImage:
    """An open ELF file. The first use of symbols reads them."""

    def __init__(self, path: str, file: Readable) -> None:
        """``path`` is its name in errors. Raises `BadElf`, OSError."""
        self.path = path
        self.file = file
        self._allowance = MemoryAllowance(path, file.stored_bytes)
        try:
            self._tables = ElfTables(file, self._allowance)
            self.build_id = self._tables.build_id()
        except (AllowanceExceeded, ValueError, IndexError, OverflowError) as error:
            raise _bad(error) from error
        self.segments = self._tables.segments
        self._all_sections = self._tables.sections
        self.sections: dict[str, Section] = {}
        for section in self._all_sections:
            self.sections.setdefault(section.name, section)

    @classmethod
    def open(cls, path: str, *, dir_fd: int | None = None) -> ElfImage:
        """Open the regular file at ``path``. Raises `BadElf` or OSError."""
        return cls(path, PlainFile(path, dir_fd=dir_fd))

    @classmethod
    def of_descriptor(cls, path: str, fd: int) -> ElfImage:
        """Make an image of the open file ``fd``; ``path`` names it. Raises `BadElf` or OSError."""
        return cls(path, PlainFile.of_descriptor(fd))

    @classmethod
    def from_data(cls, path: str, data: bytes) -> ElfImage:
        """Make an image of bytes in memory; ``path`` names it. Raises `BadElf`."""
        return cls(path, HeldBytes(data))

    @staticmethod
    def prepare() -> None:
        """Import modules needed to open a file, before a process drops its rights."""
        elftables.prepare()

    def close(self) -> None:
        """Close the file; further reads fail."""
        if isinstance(self.file, PlainFile):
            self.file.close()

    @property
    def machine(self) -> int:
        """The number of the processor that it is for."""
        return self._tables.header.machine

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.file.size_bytes

    @property
    def identity(self) -> list[Any] | None:
        """Values that distinguish this file from others, and from itself after a change."""
        if not isinstance(self.file, PlainFile):
            return None
        status = self.file.status
        return [self.path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]

    @property
    def interpreter(self) -> str | None:
        """The loader that the program names; None where it names none."""
        return self._tables.interpreter

    def addresses_of(self, section: str, names: Iterable[str]) -> dict[str, int]:
        """Return the functions of ``names`` that a symbol section defines, with their values."""
        try:
            raw = self.read_symbols(section)
        except BadElf:
            return {}
        rows = {name: raw.row_named(name) for name in names}
        return {name: int(raw.values[row]) for name, row in rows.items() if row is not None}

    @property
    def has_dwarf(self) -> bool:
        """Tell whether line tables or debug entries are in this very file."""
        return any(self.held_bytes(name) for name in _DEBUG_SECTIONS)

    def held_bytes(self, section: str) -> int:
        """Return the size of a section in the file, by its header; 0 where it is missing."""
        found = self.sections.get(section)
        return 0 if found is None else found.held_bytes

    @property
    def debuglink(self) -> tuple[str, int] | None:
        """Name and CRC-32 of the separate debug file, if the file names one."""
        section = self.sections.get(".gnu_debuglink")
        if section is None or section.held_bytes > _MOST_LINK_BYTES:
            return None
        raw = self._section_bytes(section)
        name, end, _ = raw.partition(b"\0")
        at = (len(name) + 4) & ~3
        if not name or not end or len(raw) < at + 4:
            return None
        text = name.decode("utf-8", "surrogateescape")
        return text, int.from_bytes(raw[at : at + 4], self.byte_order)

    @property
    def libraries(self) -> list[str]:
        """The libraries that the file needs, and its own name as one."""
        raw = self._section_bytes(self.sections.get(".dynstr"))
        found = [text for text in raw.split(b"\0") if b".so" in text]
        return [text.decode("utf-8", "replace") for text in found]

    @property
    def is_64_bit(self) -> bool:
        """Tell whether its addresses have 64 bits."""
        return self._tables.bits == 64

    @property
    def byte_order(self) -> Literal["little", "big"]:
        """The order of the bytes in its numbers."""
        return "little" if self._tables.order == "<" else "big"

    def bias_of(self, start: int, file_offset: int, length: int) -> int | None:
        """Return the bias of this file's addresses where a mapping puts ``file_offset`` at
        ``start``.

        None if the mapping is of no executable segment of the file: then it is another file.
        Neighbouring segments may share a page of the file, so a mapping may fit several; it is of
        the one whose pages it fills best.
        """
        fits: list[tuple[int, int, int]] = []
        for segment in self.segments:
            for page in (0x1000, 0x10000):
                first = segment.offset & ~0xFFF
                last = (segment.offset + segment.mem_size + page - 1) & -page
                bias = start - (segment.vaddr + file_offset - segment.offset)
                if segment.executable and first <= file_offset and file_offset + length <= last:
                    fits.append((page, last - first, bias))
        return min(fits)[2] if fits else None

    def unwind_header(self) -> tuple[int, bytes]:
        """Return the address and content of `.eh_frame_hdr`; nothing without one. Raises `BadElf`,
        OSError.
        """
        try:
            return self._tables.unwind_header()
        except AllowanceExceeded as error:
            raise _bad(error) from error

    @property
    def bits(self) -> int:
        """Size of an address: 32 or 64."""
        return self._tables.bits

    @property
    def little_endian(self) -> bool:
        """Tell whether the lowest byte of a number comes first."""
        return self.byte_order == "little"

    def bytes_at(self, address: int, most: int, *, executable: bool = False) -> bytes:
        """Return up to ``most`` bytes that the file puts at a virtual address; none if it puts none
        there. With ``executable`` only code counts.
        """
        for segment in self.segments:
            at = address - segment.vaddr
            if 0 <= at < segment.file_size and (segment.executable or not executable):
                return self.file.read(segment.offset + at, min(most, segment.file_size - at))
        return b""

    def symbols(self) -> SymbolTable:
        """Return the function symbols of .symtab, .dynsym and .gnu_debugdata together. Raises
        `BadElf`, OSError.
        """
        tables = [self.read_symbols(name) for name in (".symtab", ".dynsym")]
        if not len(tables[0].values):
            tables.append(self._debugdata_symbols())
        return SymbolTable.merge([t for t in tables if len(t.values)])

    def _debugdata_symbols(self) -> RawSymbols:
        packed = self._section_bytes(self.sections.get(".gnu_debugdata"))
        if not packed:
            return RawSymbols.empty()
        most = min(_MAX_DEBUGDATA, self._allowance.left_bytes // 2)
        try:
            data = lzma.LZMADecompressor(memlimit=_MAX_DEBUGDATA).decompress(packed, most)
            return ElfImage.from_data(f"{self.path} (.gnu_debugdata)", data).read_symbols(".symtab")
        except (lzma.LZMAError, EOFError, BadElf):
            return RawSymbols.empty()

    def read_symbols(self, name: str) -> RawSymbols:
        """Return the function symbols of one section, none if it is missing. Raises `BadElf`,
        OSError.
        """
        rows, strings = self.symbol_rows(name)
        return _function_symbols(rows, strings, self._executable_sections())

    def symbol_rows(self, name: str) -> tuple[npt.NDArray[Any], bytes]:
        """Return all symbols of one section as the file has them, and their texts.
        Raises `BadElf`, OSError.
        """
        layout = _SYMBOL64 if self._tables.bits == 64 else _SYMBOL32
        dtype = np.dtype([(field, self._tables.order + kind) for field, kind in layout])
        section = self.sections.get(name)
        if section is None or section.link >= len(self._all_sections):
            return np.zeros(0, dtype), b""
        strings = self._section_bytes(self._all_sections[section.link], _TIMES_SYMBOLS)
        raw = self._section_bytes(section, _TIMES_SYMBOLS)
        return np.frombuffer(raw[: len(raw) - len(raw) % dtype.itemsize], dtype), strings

    def _executable_sections(self) -> npt.NDArray[np.bool_]:
        code = np.zeros(1 << 16, dtype=np.bool_)
        for index, section in enumerate(self._all_sections[: len(code)]):
            code[index] = section.flags & _SHF_EXECINSTR
        return code

    def _section_bytes(self, section: Section | None, times: int = 1) -> bytes:
        """Return the content of a section; charges ``times`` its size."""
        size = 0 if section is None else min(section.held_bytes, self.size_bytes)
        if section is None or not size:
            return b""
        try:
            self._allowance.take((times - 1) * size)
            return self._tables.read(section.offset, size)
        except AllowanceExceeded as error:
            raise _bad(error) from error


def _bad(error: Exception) -> BadElf:
    if isinstance(error, AllowanceExceeded):
        return BadElf("needs too much memory to read for a file of its size")
    return BadElf("a damaged ELF file")


def _function_symbols(
    symbols: npt.NDArray[Any], strings: bytes, code: npt.NDArray[np.bool_]
) -> RawSymbols:
    """Keep defined functions, and untyped symbols in code."""
    kind = symbols["info"] & 0xF
    in_code = code[symbols["shndx"]]
    is_function = (kind == 2) | (kind == 10) | ((kind == 0) & in_code)
    keep = is_function & (symbols["shndx"] != 0) & (symbols["value"] != 0)
    keep &= (symbols["name"] > 0) & (symbols["name"] < len(strings))
    kept = symbols[keep]
    return RawSymbols(
        values=kept["value"].astype(np.uint64),
        sizes=kept["size"].astype(np.uint64),
        names=kept["name"].astype(np.int64),
        rank=_rank(kept["info"]),
        strings=strings,
    )


def _rank(info: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the rank of a symbol among others at its address; less is better."""
    binding_rank = np.full(16, 3, dtype=np.uint8)
    binding_rank[[1, 2, 0]] = (0, 1, 2)  # global, weak, local
    untyped = ((info & 0xF) == 0).astype(np.uint8) * 4
    return np.asarray(binding_rank[info >> 4] + untyped, dtype=np.uint8)
