"""The ELF files that a process maps, opened by identity and never by name alone.

Model: the names in /proc/PID/maps belong to the process's mount namespace, where they may mean
anything by now. So we open a mapped file through /proc/PID/map_files, which refers to that very
file; where that is not allowed, under /proc/PID/root, and accept it only if it is the mapped file.
We open only regular files, and read them without mapping: another process may cut them meanwhile.

Opening needs our rights, reading needs none: `hold` opens a file, and everything else works on open
files, in a child without rights. A file that cannot be read or is damaged gives None: the checks
then say less, and never guess.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from mem_parser.plainfile import open_plain
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_profiler.process import elfhead, procfs
from mem_profiler.process.elfhead import Head
from mem_profiler.process.procfs import Mapping

DELETED = " (deleted)"
IMAGES_MAX = 1000

Identity = tuple[tuple[int, int], int]  # device (major, minor) and inode


@dataclass(frozen=True)
class Facts:
    """The facts of a file after one reading."""

    head: Head
    build_id: str
    has_dwarf: bool
    has_symbols: bool
    is_go: bool
    size_bytes: int


@dataclass(eq=False)
class Image:
    """One mapped ELF file. ``path`` is as the process names it, ``places`` where we may open it,
    best first; ``mapped`` says which file it must be.
    """

    path: str
    places: tuple[str, ...]
    mapped: Identity | None = None

    _held: int = -1

    def hold(self) -> None:
        """Open the file and keep it open; where that fails, it counts as unreadable."""
        if self._held < 0:
            with contextlib.suppress(OSError):
                self._held = self._open()

    def descriptor(self) -> int:
        """The open file, which stays open. Raises OSError."""
        if self._held < 0:
            raise FileNotFoundError(errno.ENOENT, "it could not be opened", self.path)
        return self._held

    def _open(self) -> int:
        failure = OSError("there is no such file")
        for place in self.places:
            try:
                fd = open_plain(place)
            except (OSError, ValueError) as error:
                failure = error if isinstance(error, OSError) else failure
                continue
            if self.mapped is None or is_same(os.fstat(fd), self.mapped):
                return fd
            os.close(fd)
        raise failure

    @cached_property
    def facts(self) -> Facts | None:
        """The facts of the file; None where it cannot be read."""
        try:
            fd = self.descriptor()
            head = elfhead.read(fd)
            if head is None:
                return None
            elf = ElfImage.of_descriptor(self.path, fd)
            return Facts(
                head=head,
                build_id=elf.build_id,
                has_dwarf=elf.has_dwarf,
                has_symbols=".symtab" in elf.sections or ".gnu_debugdata" in elf.sections,
                is_go=".go.buildinfo" in elf.sections,
                size_bytes=elf.size_bytes,
            )
        except (OSError, ValueError, MemoryError, BadElf):
            return None

    def defines(self, section: str, names: Collection[str]) -> set[str]:
        """The functions of ``names`` that a symbol section of the file defines."""
        try:
            elf = ElfImage.of_descriptor(self.path, self.descriptor())
            return set(elf.addresses_of(section, names))
        except (OSError, ValueError, MemoryError, BadElf):
            return set()

    @cached_property
    def exports_malloc(self) -> bool:
        """Whether other files may take their malloc from it."""
        return "malloc" in self.defines(".dynsym", ["malloc"])

    @property
    def needed(self) -> tuple[str, ...]:
        """Sonames of DT_NEEDED."""
        return self.facts.head.needed if self.facts else ()

    @property
    def symbolic(self) -> bool:
        """Whether the loader binds the library's own calls inside it."""
        return bool(self.facts and self.facts.head.symbolic)

    @property
    def soname(self) -> str:
        """The name by which programs need it, where it says one, else that of its file."""
        return (self.facts.head.soname if self.facts else None) or self.name

    @property
    def name(self) -> str:
        """File name without folders."""
        return os.path.basename(self.path.removesuffix(DELETED))


def is_same(status: os.stat_result, mapped: Identity) -> bool:
    """Whether a file is the one of a mapping.

    Some file systems (btrfs, overlayfs) show one device in maps and another to stat. At least one
    of the two is then no hardware: its major number is 0.
    """
    device, inode = mapped
    shown = (os.major(status.st_dev), os.minor(status.st_dev))
    return status.st_ino == inode and (shown == device or 0 in (shown[0], device[0]))


def on_disk(path: str) -> Image:
    """The image of a file that no process has mapped yet."""
    return Image(path, (path,))


def _places(pid: int, mapping: Mapping) -> tuple[str, ...]:
    mapped = f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    return (mapped, f"/proc/{pid}/root{mapping.path}")


def images_of(pid: int, mappings: Iterable[Mapping]) -> list[Image]:
    """The files of which a process maps code, each once, by rising address: IMAGES_MAX at most."""
    first: dict[Identity, Mapping] = {}
    code: dict[Identity, None] = {}
    for mapping in mappings:
        if not mapping.path.startswith("/") or mapping.inode == 0:
            continue
        key = (mapping.device, mapping.inode)
        first.setdefault(key, mapping)
        if "x" in mapping.permissions:
            code[key] = None
    chosen = [key for key in first if key in code][:IMAGES_MAX]
    return [Image(first[key].path, _places(pid, first[key]), key) for key in chosen]


def program_of(pid: int, images: list[Image]) -> Image | None:
    """The image of the program itself; None where it is hidden."""
    path, place = procfs.exe(pid), f"/proc/{pid}/exe"
    if path is None:
        return None
    program = Image(path, (place,))
    program.hold()
    with contextlib.suppress(OSError):
        status = os.fstat(program.descriptor())
        for image in images:
            if image.mapped is not None and is_same(status, image.mapped):
                image.places = (place,)
                image.mapped = None  # /proc/PID/exe is the running program
                return image
    return program
