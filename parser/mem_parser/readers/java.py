"""The text heap profile of Java services (`--- heapz 1 ---`), as Go's pprof reads it.

    --- heapz 1 ---
    format = java
    resolution = bytes
      1048576     2 @ 0x00000003 0x00000004
      ...
      0x00000003 com.example.Cache.load (Cache.java:103)
      0x00000004 com.example.Main.main (Main.java:12)

A record has bytes before blocks. They are sampled ones, at a rate that the file does not state: it
is 512 KiB always. Addresses are numbers of lines at the end, and mean nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError, NotAProfile
from mem_parser.model import Profile
from mem_parser.readers.build import ProfileBuilder
from mem_parser.symbols.demangle import printable
from mem_parser.symbols.embedded import (
    FIRST_INVENTED,
    NO_MODULE,
    EmbeddedFrame,
    EmbeddedNames,
    Frames,
)

HEADER = b"--- heapz 1 ---"
_RATE_BYTES = 512.0 * 1024
_RECORD = re.compile(rb"(\d{1,20})\s+(\d{1,20})\s+@((?:\s+(?:0x)?[0-9a-fA-F]{1,16})*)$")
_PLACE = re.compile(rb"0x([0-9a-fA-F]{1,16})\s+(.+)$")
_LINE = re.compile(r"-?\d{1,9}")
_PLACE_BYTES = 900


def read_java(lines: Iterator[bytes], path: str, allowance: MemoryAllowance) -> Profile:
    """Read a profile from its lines (with their ends). Raises `InputFileError` naming the line."""
    return _JavaReader(lines, path, allowance).read()


class _JavaReader:
    """One pass over the lines of one file."""

    def __init__(self, lines: Iterator[bytes], path: str, allowance: MemoryAllowance) -> None:
        self.lines = enumerate(lines, start=1)
        self.path = path
        self.allowance = allowance
        self.builder = ProfileBuilder(path, allowance)
        self.names: dict[int, EmbeddedFrame] = {}
        self.addresses: dict[int, int] = {}
        self.incomplete: str | None = None

    def read(self) -> Profile:
        for number, raw in self.lines:
            line = raw.strip()
            if line and line != HEADER:
                self._read_line(number, line)
            if not raw.endswith(b"\n") and self.incomplete is None:
                self.incomplete = f"it ends within line {number}"
        if self.incomplete is None and any(a not in self.names for a in self.addresses):
            self.incomplete = "it ends before the names of its places"
        return Profile(
            format="java heapz",
            rate_bytes=_RATE_BYTES,
            stacks=self.builder.stacks(leaf_exact=True),
            sites=self.builder.sites(),
            since_start=True,
            has_alloc=False,
            sampling="estimated by Java's sampler at 512 KiB",
            incomplete=self.incomplete,
            embedded=self._embedded(),
        )

    def _read_line(self, number: int, line: bytes) -> None:
        name, equals, value = line.partition(b"=")
        if (match := _RECORD.match(line)) is not None:
            self._add(match, number)
        elif (match := _PLACE.match(line)) is not None:
            self.allowance.take(_PLACE_BYTES + len(line))
            text = match[2].decode("utf-8", "replace")
            self.names.setdefault(int(match[1], 16), _frame(text))
        elif equals:
            self._check_attribute(name.strip(), value.strip(), number)
        elif self.incomplete is None:
            self.incomplete = f"line {number} is not understood"

    def _check_attribute(self, name: bytes, value: bytes, number: int) -> None:
        wanted = {b"format": b"java", b"resolution": b"bytes"}.get(name)
        if wanted is not None and value != wanted:
            shown = value.decode("utf-8", "replace")
            raise NotAProfile(
                f"{self.path}, line {number}: unknown {name.decode()} {shown!r} of a profile"
            )

    def _add(self, match: re.Match[bytes], number: int) -> None:
        size, blocks = int(match[1]), int(match[2])
        if not blocks and size:
            raise InputFileError(f"{self.path}, line {number}: bytes but no blocks")
        places = [self._address(int(token, 16)) for token in match[3].split()]
        frames = b" ".join(b"%x" % (a + (k > 0)) for k, a in enumerate(places))
        self.builder.add(self.builder.intern(frames), (blocks, size, blocks, size), number)

    def _address(self, place: int) -> int:
        """Return the made-up address of a place."""
        return self.addresses.setdefault(place, FIRST_INVENTED + 2 * len(self.addresses))

    def _embedded(self) -> EmbeddedNames:
        frames: dict[tuple[int, int], Frames] = {}
        for place, address in self.addresses.items():
            frame = self.names.get(place)
            if frame is None:
                frame = EmbeddedFrame(f"0x{place:x}", f"0x{place:x}")
            frames[NO_MODULE, address] = (frame,)
        return EmbeddedNames(frames)


def _frame(text: str) -> EmbeddedFrame:
    """Return function, file and line of `function (file:line)`, `function (library)`, or a name."""
    function, _, place = text.removesuffix(")").rpartition(" (")
    if function and text.endswith(")"):
        file, _, line = place.rpartition(":")
        name = printable(function.rstrip())
        if file and _LINE.fullmatch(line):
            return EmbeddedFrame(name, name, printable(file), max(int(line), 0))
        return EmbeddedFrame(name, name, printable(place.rsplit("/", 1)[-1]))
    name = "STUB" if "generated stub/JIT" in text else printable(text)
    return EmbeddedFrame(name, name)
