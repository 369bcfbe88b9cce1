"""ELF files as they are mapped by a process, opened where the process sees them.

Model: a mapped file is read under /proc/PID/root, or through /proc/PID/map_files where it was
replaced or deleted meanwhile. A file that cannot be read or is damaged gives None: the checks then
say less, and never guess.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mem_parser.symbols.elf import BadElf, ElfImage
from mem_profiler import procfs
from mem_profiler.procfs import Mapping

DELETED = " (deleted)"


@dataclass
class Image:
    """One mapped ELF file. ``path`` is as the process names it, ``readable`` where we open it."""

    path: str
    readable: str
    start: int

    @cached_property
    def elf(self) -> ElfImage | None:
        """The open file; None where it cannot be read."""
        try:
            return ElfImage.open(self.readable)
        except (OSError, ValueError, BadElf):
            return None

    @cached_property
    def needed(self) -> list[str]:
        """Sonames of DT_NEEDED."""
        return [str(tag.needed) for tag in self._dynamic_tags() if tag.entry.d_tag == "DT_NEEDED"]

    def flag(self, name: str) -> bool:
        """Whether the dynamic section has the tag ``name`` ("DT_SYMBOLIC")."""
        return any(tag.entry.d_tag == name for tag in self._dynamic_tags())

    def _dynamic_tags(self) -> list[Any]:
        section: Any = self.elf.sections.get(".dynamic") if self.elf else None
        return list(section.iter_tags()) if hasattr(section, "iter_tags") else []

    @property
    def name(self) -> str:
        """File name without folders."""
        return os.path.basename(self.path.removesuffix(DELETED))


def _readable(pid: int, mapping: Mapping) -> str:
    path = f"/proc/{pid}/root{mapping.path}"
    try:
        if os.stat(path).st_ino == mapping.inode:
            return path
    except OSError:
        pass
    return f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"


def images_of(pid: int, mappings: Iterable[Mapping]) -> list[Image]:
    """The files of which a process maps code, each once, by rising address."""
    mappings = list(mappings)
    first: dict[tuple[tuple[int, int], int], Mapping] = {}
    code = set()
    for mapping in mappings:
        if not mapping.path.startswith("/") or mapping.inode == 0:
            continue
        key = (mapping.device, mapping.inode)
        first.setdefault(key, mapping)
        if "x" in mapping.permissions:
            code.add(key)
    return [
        Image(mapping.path, _readable(pid, mapping), mapping.start)
        for key, mapping in first.items()
        if key in code
    ]


def program_of(pid: int, images: list[Image]) -> Image | None:
    """The image of the program itself."""
    path = procfs.exe(pid)
    for image in images:
        if path is not None and image.path.removesuffix(DELETED) == path:
            return image
    return Image(path, f"/proc/{pid}/exe", 0) if path is not None else None
