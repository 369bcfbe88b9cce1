"""The ELF images in the memory of a process: symbols, build-ids, gaps.

Model: we read everything from the memory of the target, not from files: this works for a library
that an upgrade deleted, or that is in another mount namespace. We need only what the loader itself
uses: program headers, the dynamic section, its hash table of symbols. All of it is untrusted: a
table that makes no sense, or is not in the image, gives no symbols. A hash table does not say its
size, so the space for symbols bounds its chains; all reads of one process together have a budget.

An image is its file's mappings where its program headers put the segments. Other images, and memory
of no file, may be between them: the kernel leaves holes between a program's segments. A page of the
file may be mapped several times, for neighbouring segments. One mapping must have the ELF header.

Formats: `elfrows`; the GNU hash table as written by
binutils (nbuckets, symoffset, bloom size and shift; bloom words; buckets; chains).
"""

from __future__ import annotations

import bisect
import mmap
import os
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mem_parser import elfrows
from mem_parser.errors import TargetBusy, TargetError, TargetUnsupported
from mem_profiler.attach.memory import Memory
from mem_profiler.process.procfs import Mapping

DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_STRSZ = 2, 4, 5, 6, 7, 10
DT_PLTREL, DT_JMPREL, DT_GNU_HASH = 20, 23, 0x6FFFFEF5
ADDRESSES = (DT_HASH, DT_STRTAB, DT_SYMTAB, DT_JMPREL, DT_GNU_HASH)
SYMBOL_BYTES = 24
HEADER_BYTES = 4096
CHAIN_MAX = 4096  # of one name; linkers make chains of some tens at most
CHAIN_PART = 32  # words of one read
VERSIONS_MAX = 64  # of one symbol
RELOCATION_BYTES = 24
RELOCATIONS_MAX_BYTES = 1 << 24
TABLE_MAX_BYTES = 1 << 26
NOTES_MAX_BYTES = 1 << 14
BUILD_ID_MAX_BYTES = 64
IMAGES_MAX = 4096
READS_MAX = 1_000_000  # 100 names in each of 1000 images need a fifth of it
BYTES_MAX = 1 << 30
SPAN_MAX_S = 10.0
VDSO = "[vdso]"
LAYOUT = elfrows.Layout(64, "<")


class Budget:
    """The bound on all reads of a process's images. `what` begins the message ("pid 5")."""

    def __init__(
        self,
        what: str,
        reads: int = READS_MAX,
        size_bytes: int = BYTES_MAX,
        span_s: float = SPAN_MAX_S,
    ) -> None:
        self.what = what
        self._reads = reads
        self._bytes = size_bytes
        self._span_s = span_s
        self._give_up = time.monotonic() + span_s

    def spend(self, size: int) -> None:
        """Account for a read in advance. Raises TargetUnsupported, TargetBusy."""
        self._reads -= 1
        self._bytes -= size
        self._check()

    def count(self) -> None:
        """Account for a step without a read. Raises as `spend` does."""
        self._reads -= 1
        self._check()

    def _check(self) -> None:
        if self._reads < 0 or self._bytes < 0:
            raise TargetUnsupported(
                f"{self.what}: the ELF tables in its memory are larger than a linker makes them"
            )
        if time.monotonic() > self._give_up:
            raise TargetBusy(
                f"{self.what}: reading its programs and libraries took longer than"
                f" {self._span_s:.0f} s"
            )


@dataclass(frozen=True)
class Symbol:
    """A defined symbol: its address in the target, and its size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD header; addresses in the target."""

    start: int
    offset: int
    file_bytes: int
    executable: bool

    @property
    def file_end(self) -> int:
        """One past the last byte from the file."""
        return self.start + self.file_bytes


@dataclass
class Image:
    """One loaded ELF image. `mappings` are its lines of /proc/PID/maps in rising order; `header` is
    the address of its ELF header, `unwind_header` address and size of `.eh_frame_hdr`.
    """

    path: str
    mappings: list[Mapping]
    memory: Memory
    budget: Budget
    header: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    build_id: bytes = b""
    bias: int = 0
    unwind_header: tuple[int, int] = (0, 0)
    dynamic: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """`runs`: the ranges [start, end) of its mappings, those that touch as one."""
        self.take(self.mappings)

    def take(self, mappings: list[Mapping]) -> None:
        """Replace its mappings."""
        self.mappings, self.runs = mappings, []
        for mapping in mappings:
            if self.runs and self.runs[-1][1] == mapping.start:
                self.runs[-1] = (self.runs[-1][0], mapping.end)
            else:
                self.runs.append((mapping.start, mapping.end))

    @property
    def start(self) -> int:
        """The first mapped byte."""
        return self.mappings[0].start

    @property
    def end(self) -> int:
        """One past the last mapped byte."""
        return self.mappings[-1].end

    def run_at(self, address: int) -> tuple[int, int]:
        """The run that holds an address; an empty one where none does."""
        return next((run for run in self.runs if run[0] <= address < run[1]), (0, 0))

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return os.path.basename(self.path.removesuffix(" (deleted)"))

    def find(self, name: str) -> list[Symbol]:
        """All versions of a symbol that this image defines, functions and objects alike."""
        wanted = name.encode()
        if DT_GNU_HASH in self.dynamic:
            indices: Iterable[int] = self._gnu_chain(wanted)
        else:
            indices = self._old_chain(wanted)
        found: list[Symbol] = []
        for index in indices:
            symbol = self._symbol(index, wanted)
            if symbol is not None and symbol not in found:
                found.append(symbol)
            if len(found) >= VERSIONS_MAX:
                break
        return found

    def address_of(self, name: str) -> int:
        """The address of a symbol; 0 where it is not defined here."""
        found = self.find(name)
        return found[0].address if found else 0

    def slot_of(self, names: Collection[str]) -> int:
        """The address of a slot through which this image calls one of the functions; 0: none.

        Searches only slots of calls (DT_JMPREL), where nearly all images have theirs.
        """
        try:
            return self._slot_of(names)
        except TargetError:
            return 0  # too much to search; an unknown slot does no harm

    def _slot_of(self, names: Collection[str]) -> int:
        size = self.dynamic.get(DT_PLTRELSZ, 0)
        if self.dynamic.get(DT_PLTREL) != DT_RELA or size > RELOCATIONS_MAX_BYTES:
            return 0
        size = size // RELOCATION_BYTES * RELOCATION_BYTES
        table = self._table(DT_JMPREL, size)
        if not table:
            return 0
        relocations = np.frombuffer(table, "<u8").reshape(-1, 3)
        index = relocations[:, 1] >> 32
        known = index < self._symbols_max()
        relocations, index = relocations[known], index[known]
        if not len(index):
            return 0
        symbols = self._table(DT_SYMTAB, (int(index.max()) + 1) * SYMBOL_BYTES)
        strings = self._table(DT_STRTAB, self.dynamic.get(DT_STRSZ, 0))
        if not symbols or not strings:
            return 0
        at = np.frombuffer(symbols, "<u4")[:: SYMBOL_BYTES // 4][index].astype(np.int64)
        rows = _rows_named(np.frombuffer(strings, np.uint8), at, names)
        return self.bias + int(relocations[rows[0], 0]) if len(rows) else 0

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes of the image itself; None where it has none. Raises TargetError, see Budget."""
        if size <= 0 or address + size > self.run_at(address)[1]:
            return None
        self.budget.spend(size)
        return self.memory.try_read(address, size)

    def _table(self, tag: int, size: int) -> bytes:
        """A table that the dynamic section names; empty where it is too large."""
        address = self.dynamic.get(tag)
        if address is None or size > TABLE_MAX_BYTES:
            return b""
        return self.read(address, size) or b""

    def _symbols_max(self) -> int:
        """The most symbols that fit: no field says their number; the strings, or the end of the
        memory that is mapped, follow them.
        """
        table, strings = self.dynamic.get(DT_SYMTAB), self.dynamic.get(DT_STRTAB)
        if table is None or strings is None:
            return 0
        end = self.run_at(table)[1]
        end = min(strings, end) if strings > table else end
        return max(0, (end - table) // SYMBOL_BYTES)

    def _symbol(self, index: int, wanted: bytes) -> Symbol | None:
        strings, size = self.dynamic[DT_STRTAB], self.dynamic.get(DT_STRSZ, 0)
        raw = self.read(self.dynamic[DT_SYMTAB] + index * SYMBOL_BYTES, SYMBOL_BYTES)
        if raw is None:
            return None
        name, _info, _other, section, value, length = struct.unpack("=IBBHQQ", raw)
        if section == 0 or name + len(wanted) >= size:
            return None
        if self.read(strings + name, len(wanted) + 1) != wanted + b"\0":
            return None
        return Symbol(wanted.decode(), self.bias + value, length)

    def _words(self, address: int, count: int) -> tuple[int, ...]:
        raw = self.read(address, 4 * count)
        return struct.unpack(f"={count}I", raw) if raw is not None else (0,) * count

    @cached_property
    def _gnu_head(self) -> tuple[int, ...]:
        return self._words(self.dynamic[DT_GNU_HASH], 4)

    def _gnu_chain(self, name: bytes) -> Iterator[int]:
        buckets, first, blooms, _shift = self._gnu_head
        if buckets == 0:
            return
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & 0xFFFFFFFF
        start = self.dynamic[DT_GNU_HASH] + 16 + 8 * blooms
        [index] = self._words(start + 4 * (value % buckets), 1)
        if index < first:
            return
        chains = start + 4 * buckets
        last = min(self._symbols_max(), index + CHAIN_MAX)
        while index < last:
            for word in self._chain_part(chains + 4 * (index - first), last - index):
                if word | 1 == value | 1:
                    yield index
                if word & 1 or word == 0:
                    return
                index += 1

    def _chain_part(self, address: int, most: int) -> tuple[int, ...]:
        """Some words from an address on; at least one."""
        count = min(most, CHAIN_PART)
        raw = self.read(address, 4 * count) if count > 1 else None
        return struct.unpack(f"={count}I", raw) if raw is not None else self._words(address, 1)

    def _old_chain(self, name: bytes) -> Iterator[int]:
        table = self.dynamic.get(DT_HASH, 0)
        buckets, chains = self._words(table, 2) if table else (0, 0)
        if buckets == 0:
            return
        value = 0
        for byte in name:
            value = (value << 4) + byte
            high = value & 0xF0000000
            value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
        [index] = self._words(table + 8 + 4 * (value % buckets), 1)
        for _ in range(min(chains, self._symbols_max(), CHAIN_MAX)):
            if index == 0 or index >= chains:
                return
            yield index
            [index] = self._words(table + 8 + 4 * buckets + 4 * index, 1)


def _rows_named(
    strings: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], names: Collection[str]
) -> npt.NDArray[np.intp]:
    """The rows whose string (by offset) is one of the names."""
    found = np.zeros(len(at), np.bool_)
    for name in names:
        text = name.encode() + b"\0"
        rows = np.flatnonzero(at + len(text) <= len(strings))
        for offset, byte in enumerate(text):
            rows = rows[strings[at[rows] + offset] == byte]
        found[rows] = True
    return np.flatnonzero(found)


def _files(mappings: Iterable[Mapping]) -> list[list[Mapping]]:
    """The mappings of each file of which some are code."""
    files: dict[tuple[str, tuple[int, int], int], list[Mapping]] = {}
    for mapping in mappings:
        if mapping.path.startswith("/") or mapping.path == VDSO:
            files.setdefault((mapping.path, mapping.device, mapping.inode), []).append(mapping)
    return [group for group in files.values() if any("x" in m.permissions for m in group)]


def _images_in(group: list[Mapping], memory: Memory, budget: Budget) -> Iterator[Image]:
    """The images that the mappings of one file are; the file may be loaded several times."""
    starts = [mapping.start for mapping in group]
    taken: set[int] = set()
    for index, mapping in enumerate(group):
        if mapping.offset or index in taken:
            continue
        image = Image(mapping.path, [mapping], memory, budget, mapping.start)
        headers = _headers(image)
        if not headers or not _find_segments(image, headers):
            continue
        own = _of_segments(image, group, starts) - taken
        if not any("x" in group[k].permissions for k in own):
            continue  # a copy made for reading, or other data
        taken |= own
        image.take([group[k] for k in sorted(own)])
        _read_tables(image, headers)
        yield image


def _headers(image: Image) -> list[elfrows.Segment]:
    """The program headers; empty without a valid ELF header."""
    _, end = image.run_at(image.header)
    raw = image.read(image.header, min(HEADER_BYTES, end - image.header)) or b""
    header = elfrows.header(raw)
    if header is None or header.layout != LAYOUT:
        return []
    at, size = header.segments_at, header.segment_bytes
    whole = at + size * header.segment_count
    if size != elfrows.segment_bytes(LAYOUT) or whole > len(raw):
        return []
    return elfrows.segments(LAYOUT, raw[at:whole])


def _find_segments(image: Image, headers: Sequence[elfrows.Segment]) -> bool:
    loads = [h for h in headers if h.kind == elfrows.PT_LOAD]
    first = next((h for h in loads if h.offset < mmap.PAGESIZE), None)  # it has the ELF header
    if first is None:
        return False
    image.bias = image.header - (first.address - first.offset)
    image.segments = [
        Segment(image.bias + h.address, h.offset, h.file_bytes, bool(h.flags & elfrows.PF_X))
        for h in loads
    ]
    return True


def _of_segments(image: Image, group: list[Mapping], starts: list[int]) -> set[int]:
    """Which mappings of a file are where the image's segments must be."""
    own: set[int] = set()
    for segment in image.segments:
        shift = segment.start - segment.offset
        first = segment.start // mmap.PAGESIZE * mmap.PAGESIZE
        at = max(bisect.bisect_right(starts, first) - 1, 0)
        for k in range(at, len(group)):
            if group[k].start >= max(segment.file_end, first + 1):
                break
            image.budget.count()
            if group[k].end > first and group[k].start - group[k].offset == shift:
                own.add(k)
    return own


def _read_tables(image: Image, headers: Sequence[elfrows.Segment]) -> None:
    for header in headers:
        address = image.bias + header.address
        if header.kind == elfrows.PT_DYNAMIC:
            _read_dynamic(image, address, header.file_bytes)
        if header.kind == elfrows.PT_NOTE and not image.build_id:
            image.build_id = _build_id(image, address, header.file_bytes)
        if header.kind == elfrows.PT_GNU_EH_FRAME:
            image.unwind_header = (address, min(header.file_bytes, TABLE_MAX_BYTES))


def _read_dynamic(image: Image, address: int, size: int) -> None:
    raw = image.read(address, min(size, HEADER_BYTES)) or b""
    for tag, value in elfrows.dynamic_entries(LAYOUT, raw):
        if tag in ADDRESSES:
            # glibc adds the load bias to these in place, except in the vdso.
            value = value if value >= image.start else image.bias + value  # noqa: PLW2901
        image.dynamic.setdefault(tag, value)
    if not {DT_STRTAB, DT_SYMTAB} <= image.dynamic.keys():
        image.dynamic.clear()


def _build_id(image: Image, address: int, size: int) -> bytes:
    raw = image.read(address, min(size, NOTES_MAX_BYTES)) or b""
    return next(elfrows.build_ids(LAYOUT, raw), b"")[:BUILD_ID_MAX_BYTES]


def images_of(
    mappings: Iterable[Mapping], memory: Memory, budget: Budget | None = None
) -> list[Image]:
    """All ELF images with code, in the order of their addresses.

    Raises TargetUnsupported, TargetBusy where the process needs more reads than any honest one; so
    do later calls of the images.
    """
    budget = budget or Budget(f"pid {memory.pid}")
    found: list[Image] = []
    images = (image for group in _files(mappings) for image in _images_in(group, memory, budget))
    for image in images:
        found.append(image)
        if len(found) > IMAGES_MAX:
            raise TargetUnsupported(
                f"{budget.what} maps code of more than {IMAGES_MAX} programs and libraries"
            )
    return sorted(found, key=lambda image: image.start)


def program_of(pid: int, images: Iterable[Image]) -> Image | None:
    """The image of the program itself; None where it is unknown."""
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    path = os.readlink(f"/proc/{pid}/exe")
    for image in images:
        first = image.mappings[0]
        if first.inode == status.st_ino and (first.device == device or first.path == path):
            return image
    return None
