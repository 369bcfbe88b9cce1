"""The functions that a file defines, by name, read as arrays: programs have 10⁵ symbols.

Input is hostile: anything that does not fit the file is absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from mem_parser.errors import TargetUnsupported
from mem_parser.symbols.elf import BadElf, ElfImage

_FUNCTION, _NO_TYPE, _IFUNC = 2, 0, 10
_LOCAL = 0


@dataclass(frozen=True)
class Function:
    """One function: its address as in the file, its size, the type of its symbol."""

    name: str
    address: int
    size: int
    is_ifunc: bool
    is_local: bool


class Program:
    """The symbols and the code of one ELF file. Use as a context manager."""

    def __init__(self, path: str | Path, fd: int | None = None) -> None:
        """Open the file, or use `fd`, which is open and stays the caller's.

        Raises OSError; TargetUnsupported for a file that is no ELF program.
        """
        self._path = path
        try:
            if fd is None:
                self._image = ElfImage.open(str(path))
            else:
                self._image = ElfImage.of_descriptor(str(path), fd)
        except (BadElf, ValueError) as error:
            raise TargetUnsupported(f"{path} is no ELF program: {error}") from None
        self.machine = str(self._image.header["e_machine"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._image.close()

    def _tables(self) -> Iterable[tuple[np.ndarray, bytes]]:
        for name in (".symtab", ".dynsym"):
            try:
                yield self._image.symbol_rows(name)
            except BadElf as error:
                raise TargetUnsupported(f"{self._path}: {error}") from None

    def functions(self, pattern: str) -> list[Function]:
        """Defined functions whose whole names match a regular expression."""
        found: dict[tuple[str, int], Function] = {}
        expression = re.compile(rb"(?=(" + pattern.encode() + rb")\0)")
        for rows, text in self._tables():
            # A name may be the end of a longer one: try every place where one could begin.
            at = {match.start(): match[1].decode() for match in expression.finditer(text)}
            kinds = rows["info"] & 15
            wanted = (
                np.isin(rows["name"], np.fromiter(at, np.uint32, len(at)))
                & (rows["shndx"] != 0)
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
        return self._image.bytes_at(address, size, executable=True)
