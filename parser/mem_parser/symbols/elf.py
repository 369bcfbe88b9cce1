"""One ELF file: what it is (build-id, segments) and its symbol tables as numpy arrays.

pyelftools reads headers, notes and sections; the symbol tables themselves are decoded whole by
numpy, because walking them symbol by symbol takes seconds per library. The file may be hostile:
every failure is `BadElf`.
"""

from __future__ import annotations

import io
import lzma
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mem_parser.symbols.symtab import RawSymbols, SymbolTable

_PF_X = 1
_SHF_EXECINSTR = 4
_MAX_SECTIONS = 100_000
_MAX_DEBUGDATA = 256 << 20
_DEBUG_SECTIONS = (".debug_info", ".zdebug_info", ".debug_line", ".zdebug_line")

_SYMBOL64 = [("name", "u4"), ("info", "u1"), ("other", "u1"), ("shndx", "u2")]
_SYMBOL64 += [("value", "u8"), ("size", "u8")]
_SYMBOL32 = [("name", "u4"), ("value", "u4"), ("size", "u4"), ("info", "u1")]
_SYMBOL32 += [("other", "u1"), ("shndx", "u2")]


class BadElf(Exception):
    """The file is no ELF file that can be read; the text says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD program header."""

    vaddr: int
    offset: int
    file_size: int
    mem_size: int
    executable: bool


class ElfImage:
    """An open ELF file. Symbols are read when first asked for."""

    def __init__(self, path: str, data: bytes | mmap.mmap, elf: Any) -> None:
        self.path = path
        self._data = data
        self._elf = elf
        self.segments = _segments(elf)
        self._all_sections: list[Any] = list(elf.iter_sections())
        self.sections: dict[str, Any] = {}
        for section in self._all_sections:
            self.sections.setdefault(section.name, section)
        self.build_id = _build_id(elf, self.sections)

    @classmethod
    def open(cls, path: str) -> ElfImage:
        """Open the file at ``path``. Raises `BadElf` or OSError."""
        with Path(path).open("rb") as file:
            if file.read(4) != b"\x7fELF":
                raise BadElf("not an ELF file")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls.from_data(path, data)

    @classmethod
    def from_data(cls, path: str, data: bytes | mmap.mmap) -> ElfImage:
        """Make an image of bytes already read; ``path`` names it. Raises `BadElf`."""
        stream: Any = data if isinstance(data, mmap.mmap) else io.BytesIO(data)
        try:
            return cls(path, data, _open_elf(stream))
        except BadElf:
            raise
        except Exception as error:  # pyelftools fails on bad headers in many ways
            raise BadElf("a damaged ELF file") from error

    @property
    def header(self) -> Any:
        """The file header by pyelftools' field names."""
        return self._elf.header

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return len(self._data)

    @property
    def has_interpreter(self) -> bool:
        """Tell whether a loader is named: the program is linked dynamically."""
        return any(True for _ in self._elf.iter_segments(type="PT_INTERP"))

    def addresses_of(self, section: str, names: Iterable[str]) -> dict[str, int]:
        """Return the functions of ``names`` that a symbol section defines, with their values."""
        raw, found = self.read_symbols(section), {}
        for name in names:
            text, at = name.encode() + b"\0", -1
            while (at := raw.strings.find(text, at + 1)) >= 0:
                here = np.flatnonzero(raw.names == at)
                if len(here):
                    found[name] = int(raw.values[here[0]])
                    break
        return found

    @property
    def load_base(self) -> int:
        """Lowest virtual address of the file; debug readers count from here."""
        return min((s.vaddr for s in self.segments), default=0)

    @property
    def has_dwarf(self) -> bool:
        """Tell whether line tables or debug entries are in this very file."""
        return any(_size(self.sections.get(name)) for name in _DEBUG_SECTIONS)

    @property
    def debuglink(self) -> tuple[str, int] | None:
        """Name and CRC-32 of the separate debug file, if the file names one."""
        raw = self._section_bytes(self.sections.get(".gnu_debuglink"))
        name, end, _ = raw.partition(b"\0")
        at = (len(name) + 4) & ~3
        if not name or not end or len(raw) < at + 4:
            return None
        order = "little" if self._elf.little_endian else "big"
        text = name.decode("utf-8", "surrogateescape")
        return text, int.from_bytes(raw[at : at + 4], order)  # type: ignore[arg-type]

    def bias_of(self, start: int, file_offset: int, length: int) -> int | None:
        """Return what was added to this file's addresses where a mapping puts ``file_offset`` at
        ``start``.

        None if no executable segment of the file can have made the mapping: then it is another
        file.
        """
        for segment in self.segments:
            first = segment.offset & ~0xFFF
            last = (segment.offset + segment.mem_size + 0xFFFF) & ~0xFFF
            if segment.executable and first <= file_offset and file_offset + length <= last:
                return start - (segment.vaddr + file_offset - segment.offset)
        return None

    def bytes_at(self, address: int, most: int) -> bytes:
        """Return up to ``most`` bytes that the file puts at a virtual address; none if it puts none
        there.
        """
        for segment in self.segments:
            at = address - segment.vaddr
            if 0 <= at < segment.file_size:
                start = segment.offset + at
                end = min(segment.offset + segment.file_size, start + most, len(self._data))
                return bytes(self._data[start:end])
        return b""

    def symbols(self) -> SymbolTable:
        """Return the function symbols of .symtab, .dynsym and .gnu_debugdata together."""
        tables = [self.read_symbols(name) for name in (".symtab", ".dynsym")]
        if not len(tables[0].values):
            tables.append(self._debugdata_symbols())
        return SymbolTable.merge([t for t in tables if len(t.values)])

    def _debugdata_symbols(self) -> RawSymbols:
        packed = self._section_bytes(self.sections.get(".gnu_debugdata"))
        if not packed:
            return RawSymbols.empty()
        try:
            data = lzma.LZMADecompressor(memlimit=_MAX_DEBUGDATA).decompress(packed, _MAX_DEBUGDATA)
            return ElfImage.from_data(f"{self.path} (.gnu_debugdata)", data).read_symbols(".symtab")
        except (lzma.LZMAError, EOFError, BadElf):
            return RawSymbols.empty()

    def read_symbols(self, name: str) -> RawSymbols:
        """Return the function symbols of one section, none if it is missing."""
        section = self.sections.get(name)
        if section is None:
            return RawSymbols.empty()
        try:
            strings = self._section_bytes(self._all_sections[section["sh_link"]])
        except IndexError:
            return RawSymbols.empty()
        code = self._executable_sections()
        return _function_symbols(self._symbol_array(section), strings, code)

    def _symbol_array(self, section: Any) -> npt.NDArray[Any]:
        layout = _SYMBOL64 if self._elf.elfclass == 64 else _SYMBOL32
        order = "<" if self._elf.little_endian else ">"
        dtype = np.dtype([(field, order + kind) for field, kind in layout])
        raw = self._section_bytes(section)
        return np.frombuffer(raw[: len(raw) - len(raw) % dtype.itemsize], dtype=dtype)

    def _executable_sections(self) -> npt.NDArray[np.bool_]:
        code = np.zeros(1 << 16, dtype=np.bool_)
        for index, section in enumerate(self._all_sections):
            if index < len(code) and section["sh_flags"] & _SHF_EXECINSTR:
                code[index] = True
        return code

    def _section_bytes(self, section: Any) -> bytes:
        if section is None or section["sh_type"] == "SHT_NOBITS":
            return b""
        start, size = section["sh_offset"], section["sh_size"]
        return bytes(self._data[start : min(start + size, len(self._data))])


def _open_elf(stream: BinaryIO) -> Any:
    from elftools.elf.elffile import ELFFile  # slow to load; a warm run opens no file

    elf = ELFFile(stream)
    if elf.num_sections() > _MAX_SECTIONS or elf.num_segments() > _MAX_SECTIONS:
        raise BadElf("a damaged ELF file")
    return elf


def _size(section: Any) -> int:
    if section is None or section["sh_type"] == "SHT_NOBITS":
        return 0
    return int(section["sh_size"])


def _segments(elf: Any) -> list[Segment]:
    headers = (elf.get_segment(k).header for k in range(elf.num_segments()))
    return [
        Segment(
            vaddr=header["p_vaddr"],
            offset=header["p_offset"],
            file_size=header["p_filesz"],
            mem_size=header["p_memsz"],
            executable=bool(header["p_flags"] & _PF_X),
        )
        for header in headers
        if header["p_type"] == "PT_LOAD"
    ]


def _build_id(elf: Any, sections: dict[str, Any]) -> str:
    named = sections.get(".note.gnu.build-id")
    for holder in [named] if named is not None else elf.iter_segments(type="PT_NOTE"):
        for note in holder.iter_notes() if hasattr(holder, "iter_notes") else ():
            if note["n_type"] == "NT_GNU_BUILD_ID":
                return str(note["n_desc"]).lower()
    return ""


def _function_symbols(
    symbols: npt.NDArray[Any], strings: bytes, code: npt.NDArray[np.bool_]
) -> RawSymbols:
    """Keep defined functions, and untyped symbols that stand in code."""
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
    """Return how much a symbol is preferred to others at its address; less is better."""
    binding_rank = np.full(16, 3, dtype=np.uint8)
    binding_rank[[1, 2, 0]] = (0, 1, 2)  # global, weak, local
    untyped = ((info & 0xF) == 0).astype(np.uint8) * 4
    return np.asarray(binding_rank[info >> 4] + untyped, dtype=np.uint8)
