"""The functions that a file defines, by name, read as arrays: programs have 10⁵ symbols.

Layout: ELF-64 (System V ABI, chapter 4). Input is hostile: what does not fit the file is absent.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import Section

from mem_parser.errors import TargetUnsupported

_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"),
     ("size", "<u8")]
)  # fmt: skip
_FUNCTION, _NO_TYPE, _IFUNC = 2, 0, 10
_LOCAL = 0
_LOADED, _EXECUTABLE = 1, 1


@dataclass(frozen=True)
class Function:
    """One function: its address in the file's own terms, its size, the sort of its symbol."""

    name: str
    address: int
    size: int
    is_ifunc: bool
    is_local: bool


class Program:
    """The symbols and the code of one ELF file. Use as a context manager."""

    def __init__(self, path: str | Path) -> None:
        """Open it. Raises OSError; TargetUnsupported for a file that is no ELF program."""
        self._file = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        try:
            self._data = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
            self._elf = ELFFile(self._file)
        except (ELFError, ValueError) as error:
            self._file.close()
            raise TargetUnsupported(f"{path} is no ELF program: {error}") from None
        self.machine: str = self._elf["e_machine"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._data.close()
        self._file.close()

    def _table(self, section: Section) -> tuple[np.ndarray, bytes]:
        names = self._elf.get_section(section["sh_link"])
        start, size = section["sh_offset"], section["sh_size"]
        rows = np.frombuffer(self._data[start : start + size // 24 * 24], _SYMBOL)
        text = self._data[names["sh_offset"] : names["sh_offset"] + names["sh_size"]]
        return rows, text

    def _tables(self) -> Iterable[tuple[np.ndarray, bytes]]:
        for name in (".symtab", ".dynsym"):
            section = self._elf.get_section_by_name(name)
            if section is not None and section["sh_type"] in ("SHT_SYMTAB", "SHT_DYNSYM"):
                yield self._table(section)

    def functions(self, pattern: str) -> list[Function]:
        """Defined functions whose whole names match a regular expression."""
        found: dict[tuple[str, int], Function] = {}
        expression = re.compile(rb"(?=(" + pattern.encode() + rb")\0)")
        for rows, text in self._tables():
            # A name may be the end of a longer one: every place where one could begin is tried.
            at = {match.start(): match[1].decode() for match in expression.finditer(text)}
            kinds = rows["info"] & 15
            wanted = (
                np.isin(rows["name"], np.fromiter(at, np.uint32, len(at)))
                & (rows["section"] != 0)
                & (rows["value"] != 0)
                & ((kinds == _FUNCTION) | (kinds == _IFUNC) | (kinds == _NO_TYPE))
            )
            for row in rows[wanted]:
                name, address = at[int(row["name"])], int(row["value"])
                kind, binding = int(row["info"]) & 15, int(row["info"]) >> 4
                function = Function(
                    name, address, int(row["size"]), kind == _IFUNC, binding == _LOCAL
                )
                found.setdefault((name, address), function)
        return sorted(found.values(), key=lambda function: (function.address, function.name))

    def code(self, address: int, size: int) -> bytes:
        """Bytes of code at an address of the file; shorter where the segment ends."""
        for segment in self._elf.iter_segments("PT_LOAD"):
            start = segment["p_vaddr"]
            if segment["p_flags"] & _EXECUTABLE and start <= address < start + segment["p_filesz"]:
                at = segment["p_offset"] + address - start
                return self._data[at : min(at + size, segment["p_offset"] + segment["p_filesz"])]
        return b""
