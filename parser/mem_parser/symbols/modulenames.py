"""Names of the addresses of one module: from the cache, else from the best file available.

The cache keeps names by build-id (see `keptnames`); while the files are unchanged, nothing opens
them again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.model import Module
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.demangle import full_name, printable, short_name
from mem_parser.symbols.dwarf import LinesFailed, SourceFrame, read_lines
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.embedded import EmbeddedFrame, Frames
from mem_parser.symbols.files import ModuleFiles, ModuleFinder, may_have_file
from mem_parser.symbols.keptnames import KeptNames, dump_names, load_names
from mem_parser.symbols.symtab import SymbolTable
from mem_parser.symbols.table import SymbolProblem

Addresses = npt.NDArray[np.uint64]
_CLONE = re.compile(r"(?:\.(?:cold|part|isra|constprop|lto_priv|llvm)(?:\.\d+)*)+$")
_MAX_CACHED = 200_000


class ModuleNames:
    """Look-ups in one module; they set ``problem`` where the file is unusable."""

    def __init__(self, module: Module, finder: ModuleFinder, cache: SymbolCache) -> None:
        self._module = module
        self._finder = finder
        self._cache = cache
        self.problem: SymbolProblem | None = None

    def remembered(
        self, addresses: Addresses, foreign_leaf: npt.NDArray[np.bool_]
    ) -> tuple[Addresses, list[Frames]] | None:
        """Return what `find` would, if that needs no open file; else None."""
        module = self._module
        virtual = file_addresses(module, module.bias, addresses)
        if not may_have_file(module):
            return virtual, [()] * len(virtual)
        if foreign_leaf.any() or module.bias is None or not module.build_id:
            return None
        self.problem = self._finder.refused(module)
        if self.problem is not None:
            return virtual, [()] * len(virtual)
        found = self._kept().frames_at(virtual)
        return None if found is None else (virtual, found)

    def find(
        self, addresses: Addresses, foreign_leaf: npt.NDArray[np.bool_]
    ) -> tuple[Addresses, list[Frames]]:
        """Return the file's own addresses, and the frames at each: innermost first, none if
        unknown.

        ``foreign_leaf`` marks addresses to look up one byte later if a function begins there.
        """
        if foreign_leaf.any() or self._module.bias is None or not self._module.build_id:
            files = self._finder.files_of(self._module)
            reader = _NameReader(files, self._finder.debug_dirs)
            virtual = file_addresses(self._module, files.bias, addresses)
            if foreign_leaf.any():
                virtual = virtual + (foreign_leaf & reader.starts(virtual + np.uint64(1)))
            found = reader.find(virtual)
            self.problem = reader.problem
            return virtual, found
        virtual = file_addresses(self._module, self._module.bias, addresses)
        return virtual, self._find_cached(virtual)

    @property
    def _key(self) -> str:
        return f"{self._module.build_id}-names"

    def _kept(self) -> KeptNames:
        path = self._finder.path_of(self._module)
        return load_names(self._cache.get(self._key), path, self._module.build_id, self._finder)

    def _find_cached(self, virtual: Addresses) -> list[Frames]:
        known = self._kept()
        missing = known.missing(virtual)
        if len(missing):
            files = self._finder.files_of(self._module)
            reader = _NameReader(files, self._finder.debug_dirs)
            known.add(missing, reader.find(missing))
            self.problem = reader.problem
            if files.image is not None and not reader.problem and len(known) <= _MAX_CACHED:
                self._cache.put(self._key, dump_names(known, files))
        found = known.frames_at(virtual)
        return [()] * len(virtual) if found is None else found


class _NameReader:
    """Names from files: source lines first, symbols for the rest. Sets ``problem`` where something
    is not read.
    """

    def __init__(self, files: ModuleFiles, debug_dirs: Sequence[str]) -> None:
        usable = files.bias is not None
        self._images = [i for i in (files.debug, files.image) if i is not None and usable]
        self._debug_dirs = debug_dirs
        self._symbols: list[SymbolTable] = []
        self.problem = files.problem
        for image in self._images:
            try:
                table = image.symbols()
            except (BadElf, OSError) as error:
                self._note(image, f"its symbols are not read: {_why(error)}")
                continue
            if len(table):
                self._symbols.append(table)

    def _note(self, image: ElfImage, text: str) -> None:
        if self.problem is None:
            self.problem = SymbolProblem(image.path, f"{image.path}: {text}")

    def starts(self, virtual: Addresses) -> npt.NDArray[np.bool_]:
        """Tell for each address whether a function begins there."""
        found = np.zeros(len(virtual), dtype=np.bool_)
        for table in self._symbols:
            found |= table.starts(virtual)
        return found

    def find(self, virtual: Addresses) -> list[Frames]:
        """Return the frames at each address, innermost first; empty where unknown."""
        lines = self._lines_at(virtual.tolist())
        return [
            _spelled(_join(lines.get(address, []), symbol))
            for address, symbol in zip(virtual.tolist(), self._find_symbols(virtual), strict=True)
        ]

    def _lines_at(self, addresses: list[int]) -> dict[int, list[SourceFrame]]:
        """Return the frames of debug information, of the first file that has any."""
        paths = [image.path for image in self._images]
        for image in self._images:
            try:
                lines = read_lines(image, addresses, paths, self._debug_dirs)
            except LinesFailed as failure:
                self._note(image, f"its debug information {failure}; names are from symbol tables")
                continue
            if lines is not None:
                problem = lines.problem(len(addresses))
                if problem:
                    self._note(image, problem)
                return lines.frames
        return {}

    def _find_symbols(self, virtual: Addresses) -> list[str | None]:
        result: list[str | None] = [None] * len(virtual)
        for table in self._symbols:
            missing = [k for k, name in enumerate(result) if name is None]
            if not missing:
                break
            for k, name in zip(missing, table.find(virtual[missing]), strict=True):
                result[k] = name
        return result


def file_addresses(module: Module, bias: int | None, addresses: Addresses) -> Addresses:
    """Return ``addresses`` of the module as virtual addresses of its file; where the bias is
    unknown, offsets into the file.
    """
    if bias is None:
        first = module.ranges[0] if module.ranges else None
        bias = first.start - first.file_offset if first is not None else 0
    return addresses - np.uint64(bias % (1 << 64))


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _join(frames: list[SourceFrame], symbol: str | None) -> list[SourceFrame]:
    """Return the frames of debug information, the real function with its symbol's name.

    Compilers split and clone functions (`f.cold`, `f.part.0`); with line tables all parts are one
    function.
    """
    if not frames:
        return [] if symbol is None else [SourceFrame(symbol, "", 0)]
    outermost = frames[-1]
    if symbol is None:
        return frames if outermost.symbol else frames[:-1]
    name = _CLONE.sub("", symbol) or symbol
    return [*frames[:-1], SourceFrame(name, outermost.file, outermost.line)]


def _spelled(frames: list[SourceFrame]) -> Frames:
    """Return the frames with their symbols as people write them."""
    return tuple(
        EmbeddedFrame(short_name(f.symbol), full_name(f.symbol), printable(f.file), f.line)
        for f in frames
    )
