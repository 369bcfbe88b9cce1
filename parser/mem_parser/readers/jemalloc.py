"""jemalloc's dump with threads: `heap_v2/T`, one stack line and its counts by thread.

    heap_v2/524288
      t*: 28106: 56637512 [0: 0]
      t3: 27754: 39860168 [0: 0] worker name
    @ 0x5f1554 0x5f1ab2
      t*: 13: 6688 [0: 0]
      t3: 12: 6496 [0: 0]

    MAPPED_LIBRARIES:
    ...

Traps, all from real files: since 5.3 jemalloc adjusts the counts so that un-sampling each stack's
mean gives the right sum, hence they are no sample counts and need not add up to the header; a bare
`@` is a stack that jemalloc could not unwind; `[0: 0]` everywhere means that jemalloc kept no
allocated counts, not that they are 0; a thread's name may contain anything printable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import NotAProfile
from mem_parser.maps import parse_maps
from mem_parser.model import Profile, Thread
from mem_parser.readers.build import ProfileBuilder

_COUNTS = re.compile(
    rb"\s*t(\*|\d{1,19}):\s*(\d{1,20}):\s*(\d{1,20})\s*\[\s*(\d{1,20}):\s*(\d{1,20})\s*\](.*)$"
)
_THREAD_BYTES = 320
_HEADER = re.compile(rb"heap_v2/(\d{1,20})\s*$")


def read_jemalloc(lines: Iterator[bytes], path: str, allowance: MemoryAllowance) -> Profile:
    """Read a profile from its lines (with their ends). Raises `InputFileError` naming the line."""
    return _JemallocReader(lines, path, allowance).read()


class _JemallocReader:
    """One pass over the lines of one file."""

    def __init__(self, lines: Iterator[bytes], path: str, allowance: MemoryAllowance) -> None:
        self.lines = enumerate(lines, start=1)
        self.path = path
        self.builder = ProfileBuilder(path, allowance)
        self.allowance = allowance
        self.threads: dict[int, Thread] = {}
        self.incomplete: str | None = None
        self.stack: int | None = None
        self.any_alloc = False

    def read(self) -> Profile:
        rate = self._read_header()
        modules = parse_maps(self._read_records(), self.allowance)
        return Profile(
            format="jemalloc heap_v2",
            rate_bytes=rate,
            stacks=self.builder.stacks(leaf_exact=False),
            sites=self.builder.sites(),
            modules=modules,
            threads=list(self.threads.values()),
            thread_blocks=self.builder.thread_blocks(),
            since_start=True,
            has_alloc=self.any_alloc,
            exact_samples=False,
            incomplete=self.incomplete,
            warnings=self._warnings(),
        )

    def _read_header(self) -> float:
        for number, raw in self.lines:
            line = raw.strip()
            if not line or line.startswith(b"%"):
                continue
            match = _HEADER.match(line)
            if match is None:
                raise NotAProfile(f"{self.path}, line {number}: heap_v2/ without a sampling rate")
            return float(match[1])
        raise NotAProfile(f"{self.path}: empty")

    def _read_records(self) -> Iterator[str]:
        """Read up to the end; yield the lines after the mark of the mappings."""
        for number, raw in self.lines:
            if raw.startswith(b"@"):
                self._begin_stack(raw, number)
                continue
            match = _COUNTS.match(raw)
            if match is not None:
                self._count(match, number)
                continue
            line = raw.strip()
            if line == b"MAPPED_LIBRARIES:":
                yield from self._read_maps()
                return
            if line and not line.startswith(b"%"):
                self._note_incomplete(number, raw)
        if self.incomplete is None:
            self.incomplete = "it ends before the list of mappings"

    def _note_incomplete(self, number: int, raw: bytes) -> None:
        if self.incomplete is None:
            cut = not raw.endswith(b"\n")
            self.incomplete = (
                f"it ends within line {number}" if cut else f"line {number} is not understood"
            )

    def _begin_stack(self, raw: bytes, number: int) -> None:
        if raw.endswith(b"\n"):
            self.stack = self.builder.intern(raw[1:].strip())
        else:
            self.stack = None
            self._note_incomplete(number, raw)

    def _count(self, match: re.Match[bytes], number: int) -> None:
        if not match.string.endswith(b"\n"):
            self._note_incomplete(number, match.string)
            return
        counts = (int(match[2]), int(match[3]), int(match[4]), int(match[5]))
        if self.stack is None:
            self._name_thread(match)
        elif match[1] == b"*":
            self.builder.add(self.stack, counts, number)
            self.any_alloc = self.any_alloc or counts[2] > 0
        else:
            self.builder.add_thread(self._thread(int(match[1])), counts[0], counts[1])

    def _name_thread(self, match: re.Match[bytes]) -> None:
        if match[1] != b"*":
            uid = int(match[1])
            name = match[6].strip().decode("utf-8", "replace")
            self.allowance.take(_THREAD_BYTES + 4 * len(name))
            self.threads[uid] = Thread(row=uid, tid=uid, name=name)

    def _thread(self, uid: int) -> int:
        if uid not in self.threads:
            self.allowance.take(_THREAD_BYTES)
            self.threads[uid] = Thread(row=uid, tid=uid, name="")
        return uid

    def _read_maps(self) -> Iterator[str]:
        last = b"\n"
        for _, raw in self.lines:
            last = raw
            yield raw.decode("utf-8", "surrogateescape")
        if not last.endswith(b"\n") and self.incomplete is None:
            self.incomplete = "it ends within a line of its mappings"

    def _warnings(self) -> list[str]:
        bad = self.builder.bad_addresses
        return [f"{bad} addresses cannot be read"] if bad else []
