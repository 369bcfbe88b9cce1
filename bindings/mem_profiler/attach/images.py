"""The ELF images of a process as they lie in its memory: symbols, build-ids, gaps.

Model: everything is read from the memory of the target, not from files: a library that was deleted
by an upgrade, or lies in another mount namespace, is there all the same. Only what the loader
itself uses is needed: program headers, the dynamic section, its hash table of symbols. All of it is
untrusted: what makes no sense gives no symbols.

Formats: System V ABI, "Program Loading and Dynamic Linking"; the GNU hash table as written by
binutils (nbuckets, symoffset, bloom size and shift; bloom words; buckets; chains).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from mem_profiler.attach.memory import Memory
from mem_profiler.procfs import Mapping

PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
DT_PLTRELSZ, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_STRSZ = 2, 4, 5, 6, 7, 10
DT_PLTREL, DT_JMPREL, DT_GNU_HASH = 20, 23, 0x6FFFFEF5
ADDRESSES = (DT_HASH, DT_STRTAB, DT_SYMTAB, DT_JMPREL, DT_GNU_HASH)
PF_X = 1
NT_GNU_BUILD_ID = 3
SYMBOL_BYTES = 24
HEADER_BYTES = 4096
CHAIN_MAX = 100_000
RELOCATION_BYTES = 24
TABLE_MAX_BYTES = 1 << 26
NOTES_MAX_BYTES = 1 << 16
VDSO = "[vdso]"


@dataclass(frozen=True)
class Symbol:
    """A defined symbol: where it lies in the target, and its size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD header; addresses in the target."""

    start: int
    file_bytes: int
    executable: bool

    @property
    def file_end(self) -> int:
        """One past the last byte that comes from the file."""
        return self.start + self.file_bytes


@dataclass
class Image:
    """One loaded ELF image. `mappings` are its lines of /proc/PID/maps in rising order."""

    path: str
    mappings: list[Mapping]
    memory: Memory
    segments: list[Segment] = field(default_factory=list)
    build_id: bytes = b""
    bias: int = 0
    dynamic: dict[int, int] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """The first mapped byte: the ELF header."""
        return self.mappings[0].start

    @property
    def end(self) -> int:
        """One past the last mapped byte."""
        return self.mappings[-1].end

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
        found = []
        for index in indices:
            symbol = self._symbol(index, wanted)
            if symbol is not None and symbol not in found:
                found.append(symbol)
        return found

    def address_of(self, name: str) -> int:
        """The address of a symbol; 0 where it is not defined here."""
        found = self.find(name)
        return found[0].address if found else 0

    def slot_of(self, names: Collection[str]) -> int:
        """The address of a slot through which this image calls one of the functions; 0: none.

        Only slots of calls are looked at (DT_JMPREL), which is where nearly all images have theirs.
        """
        table, size = self.dynamic.get(DT_JMPREL, 0), self.dynamic.get(DT_PLTRELSZ, 0)
        if not table or self.dynamic.get(DT_PLTREL) != DT_RELA or size > TABLE_MAX_BYTES:
            return 0
        rows = self.memory.try_read(table, size // RELOCATION_BYTES * RELOCATION_BYTES) or b""
        entries = [(int(at), int(info) >> 32) for at, info, _ in struct.iter_unpack("=QQq", rows)]
        if not entries:
            return 0
        last = max(index for _, index in entries)
        strings_bytes = self.dynamic.get(DT_STRSZ, 0)
        if max(strings_bytes, last * SYMBOL_BYTES) > TABLE_MAX_BYTES:
            return 0
        symbols = self.memory.try_read(self.dynamic[DT_SYMTAB], (last + 1) * SYMBOL_BYTES)
        strings = self.memory.try_read(self.dynamic[DT_STRTAB], strings_bytes)
        if symbols is None or strings is None:
            return 0
        for at, index in entries:
            name = int(struct.unpack_from("=I", symbols, index * SYMBOL_BYTES)[0])
            end = strings.find(b"\0", name)
            if strings[name:end].decode("ascii", "replace") in names:
                return self.bias + at
        return 0

    def _symbol(self, index: int, wanted: bytes) -> Symbol | None:
        strings, size = self.dynamic[DT_STRTAB], self.dynamic.get(DT_STRSZ, 0)
        raw = self.memory.try_read(self.dynamic[DT_SYMTAB] + index * SYMBOL_BYTES, SYMBOL_BYTES)
        if raw is None:
            return None
        name, _info, _other, section, value, length = struct.unpack("=IBBHQQ", raw)
        if section == 0 or name + len(wanted) >= size:
            return None
        if self.memory.try_read(strings + name, len(wanted) + 1) != wanted + b"\0":
            return None
        return Symbol(wanted.decode(), self.bias + value, length)

    def _words(self, address: int, count: int) -> tuple[int, ...]:
        raw = self.memory.try_read(address, 4 * count)
        return struct.unpack(f"={count}I", raw) if raw is not None else (0,) * count

    def _gnu_chain(self, name: bytes) -> Iterator[int]:
        table = self.dynamic[DT_GNU_HASH]
        buckets, first, blooms, _shift = self._words(table, 4)
        if buckets == 0:
            return
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & 0xFFFFFFFF
        start = table + 16 + 8 * blooms
        [index] = self._words(start + 4 * (value % buckets), 1)
        chains = start + 4 * buckets
        for _ in range(CHAIN_MAX):
            if index < first:
                return
            [word] = self._words(chains + 4 * (index - first), 1)
            if word | 1 == value | 1:
                yield index
            if word & 1 or word == 0:
                return
            index += 1

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
        for _ in range(min(chains, CHAIN_MAX)):
            if index == 0:
                return
            yield index
            [index] = self._words(table + 8 + 4 * buckets + 4 * index, 1)


def _groups(mappings: Iterable[Mapping]) -> Iterator[list[Mapping]]:
    """Mappings of one file each, from its first byte on."""
    group: list[Mapping] = []
    for mapping in mappings:
        named = mapping.path.startswith("/") or mapping.path == VDSO
        same = group and (mapping.path, mapping.inode) == (group[0].path, group[0].inode)
        if same and mapping.offset > 0:
            group.append(mapping)
            continue
        if not named:
            continue
        if group:
            yield group
        group = [mapping] if mapping.offset == 0 else []
    if group:
        yield group


def _load(image: Image) -> bool:
    head = image.memory.try_read(image.start, HEADER_BYTES)
    if head is None or head[:6] != b"\x7fELF\x02\x01":
        return False
    at, size, count = (
        struct.unpack_from("=Q", head, 32)[0],
        *struct.unpack_from("=HH", head, 54),
    )
    if size != 56 or at + size * count > len(head):
        return False
    headers = [struct.unpack_from("=IIQQQQQQ", head, at + size * i) for i in range(count)]
    loads = [h for h in headers if h[0] == PT_LOAD]
    if not loads:
        return False
    image.bias = image.start - (loads[0][3] - loads[0][2])
    image.segments = [Segment(image.bias + h[3], h[5], bool(h[1] & PF_X)) for h in loads]
    for kind, _flags, _offset, address, _physical, file_bytes, _memory_bytes, _align in headers:
        if kind == PT_DYNAMIC:
            _read_dynamic(image, image.bias + address, file_bytes)
        if kind == PT_NOTE and not image.build_id:
            image.build_id = _build_id(image, image.bias + address, file_bytes)
    return True


def _read_dynamic(image: Image, address: int, size: int) -> None:
    raw = image.memory.try_read(address, min(size, HEADER_BYTES) // 16 * 16)
    for tag, value in struct.iter_unpack("=QQ", raw or b""):
        if tag == 0:
            break
        if tag in ADDRESSES:
            # glibc adds the load bias to these in place; the vdso is left as it is.
            value = value if value >= image.start else image.bias + value  # noqa: PLW2901
        image.dynamic.setdefault(tag, value)
    if not {DT_STRTAB, DT_SYMTAB} <= image.dynamic.keys():
        image.dynamic.clear()


def _build_id(image: Image, address: int, size: int) -> bytes:
    raw = image.memory.try_read(address, min(size, NOTES_MAX_BYTES)) or b""
    at = 0
    while at + 12 <= len(raw):
        name_bytes, bytes_, kind = struct.unpack_from("=III", raw, at)
        name = at + 12
        data = name + (name_bytes + 3) // 4 * 4
        if kind == NT_GNU_BUILD_ID and raw[name : name + 4] == b"GNU\0":
            return raw[data : data + bytes_]
        at = data + (bytes_ + 3) // 4 * 4
    return b""


def images_of(mappings: Iterable[Mapping], memory: Memory) -> list[Image]:
    """All ELF images with code, in the order of their addresses."""
    found = []
    for group in _groups(mappings):
        if not any("x" in mapping.permissions for mapping in group):
            continue
        image = Image(group[0].path, group, memory)
        if _load(image):
            found.append(image)
    return found


def program_of(pid: int, images: Iterable[Image]) -> Image | None:
    """The image of the program itself; None where it cannot be told."""
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
