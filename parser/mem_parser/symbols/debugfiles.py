"""Find the file that holds a module's debug information when it is not in the module itself.

By build-id under the debug folders and among the files in them, then by the name in
`.gnu_debuglink` beside the module, in its `.debug` folder, and under the debug folders. A found
file counts only if its build-id, or failing that its CRC, is right; one that does not count is part
of the answer, so that a report can say it.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mem_parser.plainfile import Readable
from mem_parser.symbols.elf import BadElf, ElfImage

DEFAULT_DEBUG_DIRS = ("/usr/lib/debug",)
_CRC_LIMIT = 4 << 30
_AT_A_TIME = 1 << 20
_MOST_IN_FOLDER = 1000
_READ_FOLDER_S = 2.0


@dataclass(frozen=True, slots=True)
class DebugSearch:
    """What a search found: the debug file, or why files at its places are not that of the module.

    A reason is a path and what differs: `/usr/lib/debug/x: its CRC differs`.
    """

    image: ElfImage | None
    refused: tuple[str, ...] = ()


def search_debug_file(
    build_id: str, image: ElfImage | None, debug_dirs: Sequence[str] = DEFAULT_DEBUG_DIRS
) -> DebugSearch:
    """Look for the separate debug file of the module with ``build_id``.

    ``image`` is the module's own file where there is one: the search follows its debuglink.
    """
    refused: list[str] = []
    for path in build_id_paths(build_id, debug_dirs):
        found = _open_quietly(path)
        if found is not None and found.build_id == build_id:
            return DebugSearch(found)
        if found is not None:
            refused.append(f"{path}: its build-id differs")
    if image is None or image.debuglink is None:
        return DebugSearch(None, tuple(refused))
    name, crc = image.debuglink
    for path in _debuglink_paths(image.path, name, debug_dirs):
        found = _open_quietly(path)
        if found is None or os.path.realpath(path) == os.path.realpath(image.path):
            continue
        wrong = _what_differs(found, image, crc)
        if not wrong:
            return DebugSearch(found)
        refused.append(f"{path}: its {wrong} differs")
    return DebugSearch(None, tuple(refused))


def build_id_paths(build_id: str, debug_dirs: Sequence[str]) -> Iterator[str]:
    """Yield where the debug file of a build-id may be."""
    if len(build_id) > 2:
        for folder in debug_dirs:
            yield f"{folder}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        for folder in debug_dirs:
            yield from _contents(folder).of_build_id.get(build_id, ())


def is_read_whole(folder: str) -> bool:
    """Tell whether every file directly in a debug folder was looked at."""
    return _contents(folder).is_whole


@dataclass(frozen=True, slots=True)
class _Contents:
    """The files directly in a folder that have names, by build-id: first those with lines."""

    of_build_id: Mapping[str, Sequence[str]]
    is_whole: bool = True


def _contents(folder: str) -> _Contents:
    try:
        status = os.stat(folder)
    except (OSError, ValueError):
        return _Contents({})
    return _read_contents(folder, (status.st_dev, status.st_ino, status.st_mtime_ns))


@functools.lru_cache(16)
def _read_contents(folder: str, _state: tuple[int, int, int]) -> _Contents:
    deadline = time.monotonic() + _READ_FOLDER_S
    found: dict[str, list[tuple[bool, str]]] = defaultdict(list)
    try:
        with os.scandir(folder) as entries:
            names = [entry.path for entry in itertools.islice(entries, _MOST_IN_FOLDER + 1)]
    except OSError:
        return _Contents({})
    read = 0
    for path in sorted(names)[:_MOST_IN_FOLDER]:
        if time.monotonic() > deadline:
            break
        read += 1
        image = _open_quietly(path)
        if image is not None and (image.has_dwarf or ".symtab" in image.sections):
            found[image.build_id].append((not image.has_dwarf, path))
    return _Contents({i: [p for _, p in sorted(x)] for i, x in found.items()}, read == len(names))


def _debuglink_paths(module: str, name: str, debug_dirs: Sequence[str]) -> Iterator[str]:
    if "/" in name or name in (".", ".."):
        return  # a debuglink is a bare name; anything else could point outside these folders
    folder = os.path.dirname(os.path.realpath(module))
    yield os.path.join(folder, name)
    yield os.path.join(folder, ".debug", name)
    for debug_dir in debug_dirs:
        yield f"{debug_dir}{folder}/{name}"


def _open_quietly(path: str) -> ElfImage | None:
    try:
        return ElfImage.open(path)
    except (BadElf, OSError, ValueError):
        return None


def _what_differs(found: ElfImage, image: ElfImage, crc: int) -> str:
    """Say by what ``found`` is not the debug file of ``image``; empty if it is."""
    if found.build_id and image.build_id:
        return "" if found.build_id == image.build_id else "build-id"
    return "" if _crc_of(found.file) == crc else "CRC"


def _crc_of(file: Readable) -> int | None:
    crc = at = 0
    if file.size_bytes > _CRC_LIMIT:
        return None
    try:
        while chunk := file.read(at, _AT_A_TIME):
            crc = zlib.crc32(chunk, crc)
            at += len(chunk)
    except OSError:
        return None
    return crc
