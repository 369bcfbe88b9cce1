"""The sections of debug information in one file, unpacked where they are packed.

A section that is not packed is read piece by piece from the file; one that is takes memory, which
counts against the file's allowance. Sizes are the file's claims: reads beyond the file raise.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from typing import Any, Protocol

from mem_parser.allowance import AllowanceExceeded, MemoryAllowance
from mem_parser.plainfile import HeldBytes, Readable
from mem_parser.symbols.debug.bits import Damaged, number
from mem_parser.symbols.elf import ElfImage

_COMPRESSED = 0x800
_ZLIB, _ZSTD = 1, 2
_AT_A_TIME = 1 << 20
_MOST_TEXT_BYTES = 1 << 16
_TEXT_AT_A_TIME = 256
_OLD_MAGIC = b"ZLIB"
_LOWEST_CODE = 2
"""Linkers write 0 or 1 as the address of code that they threw away. No code of a program is there,
though its segment may begin there, with the header of the file.
"""


class Part:
    """A piece of one section, read by offset."""

    def __init__(self, source: Readable, start: int, size_bytes: int) -> None:
        self._source = source
        self._start = start
        self.size_bytes = size_bytes

    def read(self, at: int, size_bytes: int) -> bytes:
        """Return exactly these bytes. Raises `Damaged`, OSError."""
        if at < 0 or size_bytes < 0 or at + size_bytes > self.size_bytes:
            raise Damaged("points behind its end")
        data = self._source.read(self._start + at, size_bytes)
        if len(data) != size_bytes:
            raise Damaged("is cut short")
        return data

    def rest(self, at: int, most_bytes: int) -> bytes:
        """Return the bytes from ``at`` on, up to so many. Raises `Damaged`, OSError."""
        return self.read(at, max(min(most_bytes, self.size_bytes - at), 0))

    def text(self, at: int) -> str:
        """Return the text at ``at``. Raises `Damaged`, OSError."""
        most = _TEXT_AT_A_TIME
        while True:
            data = self.rest(at, most)
            end = data.find(0)
            if end >= 0:
                return data[:end].decode("utf-8", "surrogateescape")
            if len(data) < most or most >= _MOST_TEXT_BYTES:
                raise Damaged("has a text without end")
            most *= 8

    def part(self, at: int, size_bytes: int) -> Part:
        """Return a piece of this one; it ends no later than this one does."""
        at = min(at, self.size_bytes)
        return Part(self._source, self._start + at, min(size_bytes, self.size_bytes - at))


_EMPTY = Part(HeldBytes(b""), 0, 0)


class Sections:
    """The debug sections of ``image`` by their short names: "info", "line", "str"."""

    def __init__(self, image: ElfImage, *, split: bool = False) -> None:
        """``split``: those whose names end in `.dwo`."""
        self.image = image
        self.order = image.byte_order
        code = [s for s in image.segments if s.executable]
        self.code_bounds = (
            max(min((s.vaddr for s in code), default=0), _LOWEST_CODE),
            max((s.vaddr + s.mem_size for s in code), default=1 << 64),
        )
        """Between which addresses all code is."""
        self._ending = ".dwo" if split else ""
        self._allowance = MemoryAllowance(image.path, image.file.stored_bytes)
        self._known: dict[str, Part] = {}
        self._whole: dict[str, bytes] = {}

    def get(self, name: str, *, plain: bool = False) -> Part:
        """Return a section; an empty one where it is missing. Raises `Damaged`, OSError.

        ``plain``: its name has no special ending.
        """
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._open(name, "" if plain else self._ending)
        return found

    def whole(self, name: str) -> bytes:
        """Return a section's content, which stays in memory. Raises `Damaged`, OSError."""
        found = self._whole.get(name)
        if found is None:
            part = self.get(name)
            found = self._whole[name] = part.read(0, part.size_bytes)
        return found

    def _open(self, name: str, ending: str) -> Part:
        sections, file = self.image.sections, self.image.file
        section = sections.get(f".debug_{name}{ending}")
        if section is not None:
            part = Part(file, section.offset, section.held_bytes)
            return self._unpacked(part) if section.flags & _COMPRESSED else part
        section = sections.get(f".zdebug_{name}{ending}")
        if section is not None:
            return self._unpacked_old(Part(file, section.offset, section.held_bytes))
        return _EMPTY

    def _unpacked(self, part: Part) -> Part:
        word = 8 if self.image.is_64_bit else 4
        kind = number(part.read(0, 4), 0, 4, self.order)
        size = number(part.read(word, word), 0, word, self.order)
        body = part.part(3 * word, part.size_bytes)
        if kind == _ZLIB:
            return self._held(body, size, _Zlib())
        if kind == _ZSTD:
            return self._held(body, size, _Zstd())
        raise Damaged("is packed in an unknown way")

    def _unpacked_old(self, part: Part) -> Part:
        """Return a section of the way before the standard's own: a magic and the size."""
        if part.read(0, 4) != _OLD_MAGIC:
            raise Damaged("is packed in an unknown way")
        size = number(part.read(4, 8), 0, 8, "big")
        return self._held(part.part(12, part.size_bytes), size, _Zlib())

    def _held(self, body: Part, size: int, unpack: _Unpack) -> Part:
        """Return the unpacked section, of ``size`` bytes by its own word."""
        try:
            self._allowance.take(size)
        except AllowanceExceeded as error:
            raise Damaged("needs too much memory to read for a file of its size") from error
        data = bytearray(size)
        done = at = 0
        try:
            while done < size:
                packed = b""
                if unpack.needs_input:
                    packed = body.rest(at, _AT_A_TIME)
                    at += len(packed)
                part = unpack.decompress(packed, min(size - done, _AT_A_TIME))
                if not part and not packed:
                    raise Damaged("is packed wrongly")
                data[done : done + len(part)] = part
                done += len(part)
        except unpack.errors as error:
            raise Damaged("is packed wrongly") from error
        return Part(_Unpacked(data), 0, size)


class _Unpacked:
    """An unpacked section, as a `Readable`."""

    def __init__(self, data: bytearray) -> None:
        self._data = memoryview(data)
        self.size_bytes = self.stored_bytes = len(data)

    def read(self, offset: int, size_bytes: int) -> bytes:
        """As `Readable.read`."""
        return bytes(self._data[offset : offset + size_bytes])


class _Unpack(Protocol):
    """Unpacks bytes piece by piece."""

    errors: tuple[type[Exception], ...]

    @property
    def needs_input(self) -> bool:
        """Whether more can only come from more packed bytes."""
        ...

    def decompress(self, packed: bytes, most_bytes: int) -> bytes:
        """Take more packed bytes, and return the next unpacked ones, no more than so many."""
        ...


class _Zlib:
    errors: tuple[type[Exception], ...] = (zlib.error,)

    def __init__(self) -> None:
        self._made = zlib.decompressobj()

    @property
    def needs_input(self) -> bool:
        return not self._made.unconsumed_tail

    def decompress(self, packed: bytes, most_bytes: int) -> bytes:
        return self._made.decompress(packed or self._made.unconsumed_tail, most_bytes)


class _Zstd:
    def __init__(self) -> None:
        zstd = _zstd_module()
        self._made = zstd.ZstdDecompressor()
        self.errors: tuple[type[Exception], ...] = (zstd.ZstdError, ValueError, EOFError)

    @property
    def needs_input(self) -> bool:
        return bool(self._made.needs_input)

    def decompress(self, packed: bytes, most_bytes: int) -> bytes:
        return bytes(self._made.decompress(packed, most_bytes))


def _zstd_module() -> Any:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)
