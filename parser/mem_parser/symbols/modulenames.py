"""Names of the addresses of one module: from the cache, else from the best file available.

The cache keeps names by build-id (see `keptnames`); while the files are unchanged, nothing opens
them again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.errors import reason_of
from mem_parser.model import Module
from mem_parser.symbols import foreign
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.demangle import (
    full_name,
    is_go_file,
    is_mangled,
    printable,
    short_name,
    without_tail,
)
from mem_parser.symbols.dwarf import LinesFailed, SourceFrame, read_lines
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.embedded import EmbeddedFrame, Frames
from mem_parser.symbols.files import ModuleFiles, ModuleFinder, may_have_file
from mem_parser.symbols.keptnames import KeptNames, dump_names, load_names
from mem_parser.symbols.symtab import SymbolTable
from mem_parser.symbols.table import SymbolProblem
from mem_parser.symbols.unwindtable import UnwindTable

Addresses = npt.NDArray[np.uint64]
_GO_SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
_MAX_CACHED = 200_000


class ModuleNames:
    """Look-ups in one module; they set ``problem`` where the file is unusable. ``read`` has the
    names that were read so far, for copies of one file.
    """

    def __init__(
        self,
        module: Module,
        finder: ModuleFinder,
        cache: SymbolCache,
        read: dict[str, KeptNames] | None = None,
    ) -> None:
        self._module = module
        self._finder = finder
        self._cache = cache
        self._read = {} if read is None else read
        self.problem: SymbolProblem | None = None

    def remembered(
        self, addresses: Addresses, foreign_leaf: npt.NDArray[np.bool_]
    ) -> tuple[Addresses, list[Frames], Addresses] | None:
        """Return what `find` would, if that needs no open file; else None."""
        module = self._module
        virtual = file_addresses(module, module.bias, addresses)
        if not may_have_file(module):
            return virtual, [()] * len(virtual), virtual
        if foreign_leaf.any() or module.bias is None or not module.build_id:
            return None
        self.problem = self._finder.refused(module)
        if self.problem is not None:
            return virtual, [()] * len(virtual), virtual
        known = self._kept()
        found = known.frames_at(virtual)
        return None if found is None else (virtual, found, known.starts_of(virtual))

    def find(
        self, addresses: Addresses, foreign_leaf: npt.NDArray[np.bool_]
    ) -> tuple[Addresses, list[Frames], Addresses]:
        """Return the file's own addresses, the frames at each: innermost first, none if unknown,
        and then the start of the function if the file has it.

        ``foreign_leaf`` marks addresses to look up one byte later if a function begins there.
        """
        if foreign_leaf.any() or self._module.bias is None or not self._module.build_id:
            files = self._finder.files_of(self._module)
            reader = _NameReader(files, self._finder.debug_dirs)
            virtual = file_addresses(self._module, files.bias, addresses)
            if foreign_leaf.any():
                virtual = virtual + (foreign_leaf & reader.starts(virtual + np.uint64(1)))
            frames = reader.find(virtual)
            self.problem = reader.problem
            return virtual, frames, reader.begins(virtual, frames)
        virtual = file_addresses(self._module, self._module.bias, addresses)
        return virtual, *self._find_cached(virtual)

    @property
    def _key(self) -> str:
        # What a file that the user names says, is not what is known without it.
        given = "given-" if self._finder.is_given(self._module) else ""
        return f"{self._module.build_id}-{given}names"

    def _kept(self) -> KeptNames:
        path = self._finder.path_of(self._module)
        return load_names(self._cache.get(self._key), path, self._module.build_id, self._finder)

    def _find_cached(self, virtual: Addresses) -> tuple[list[Frames], Addresses]:
        known = self._read[self._key] = self._read.get(self._key) or self._kept()
        missing = known.missing(virtual)
        if len(missing):
            files = self._finder.files_of(self._module)
            reader = _NameReader(files, self._finder.debug_dirs)
            frames = reader.find(missing)
            known.add(missing, frames, reader.begins(missing, frames))
            known.problem = reader.problem
            if files.image is not None and not reader.problem and len(known) <= _MAX_CACHED:
                self._cache.put(self._key, dump_names(known, files))
        self.problem = known.problem
        found = known.frames_at(virtual)
        return ([()] * len(virtual) if found is None else found), known.starts_of(virtual)


class _NameReader:
    """Names from files: source lines first, symbols for the rest. Sets ``problem`` where something
    is not read.
    """

    def __init__(self, files: ModuleFiles, debug_dirs: Sequence[str]) -> None:
        usable = files.bias is not None
        self._images = [i for i in (files.debug, files.image) if i is not None and usable]
        # Files with debug information alone have no unwind tables.
        self._image = files.image if usable else None
        self._debug_dirs = debug_dirs
        self._symbols: list[SymbolTable] = []
        self._is_go = any(n in image.sections for image in self._images for n in _GO_SECTIONS)
        self.problem = files.problem
        for image in self._images:
            try:
                table = image.symbols()
            except (BadElf, OSError) as error:
                self._note(image, f"its symbols are not read: {reason_of(error)}")
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
        """Return the frames at each address, innermost first; empty where unknown. At the first
        byte of a function, a hook's, that alone: what is inlined there has not begun.
        """
        lines = self._lines_at(virtual.tolist())
        columns = (virtual.tolist(), self.starts(virtual).tolist(), self._find_symbols(virtual))
        found = [
            self._join(lines.get(address, [])[-1 if begins else 0 :], symbol)
            for address, begins, symbol in zip(*columns, strict=True)
        ]
        foreign.prepare(without_tail(f.symbol) for frames in found for f in frames)
        return [tuple([self._spelled(f) for f in frames]) for frames in found]

    def _join(self, frames: list[SourceFrame], symbol: str | None) -> list[SourceFrame]:
        """Return the frames of debug information, the real function with its symbol's name.

        Compilers split and clone functions (`f.cold`, `f.part.0`); with line tables all parts are
        one function.
        """
        if not frames:
            return [] if symbol is None else [SourceFrame(symbol, "", 0)]
        outermost = frames[-1]
        if symbol is None:
            return frames if outermost.symbol else frames[:-1]
        name = symbol if is_go_file(outermost.file) else without_tail(symbol)
        return [*frames[:-1], SourceFrame(name, outermost.file, outermost.line)]

    def _spelled(self, frame: SourceFrame) -> EmbeddedFrame:
        """Return a frame with its symbol as people write it."""
        symbol, file = frame.symbol, printable(frame.file)
        if is_go_file(frame.file) or (self._is_go and not frame.file and not is_mangled(symbol)):
            name = printable(symbol)
            return EmbeddedFrame(name, name, file, frame.line)
        return EmbeddedFrame(short_name(symbol), full_name(symbol), file, frame.line)

    def begins(self, virtual: Addresses, frames: list[Frames]) -> Addresses:
        """Return for each address without ``frames`` the start of its function, if the unwind
        tables have it; else the address.
        """
        result = virtual.copy()
        nameless = np.array([not found for found in frames], dtype=np.bool_)
        if self._image is not None and nameless.any():
            with contextlib.suppress(OSError):
                result[nameless] = UnwindTable(self._image).starts(virtual[nameless])
        return result

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
