"""The debug file that several programs share (made by `dwz`).

A program's debug information names it, with its build-id, in `.gnu_debugaltlink`.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Sequence

from mem_parser.symbols.debug.sections import Sections
from mem_parser.symbols.debug.units import DebugFile
from mem_parser.symbols.elf import BadElf, ElfImage

_LINK = ".gnu_debugaltlink"
_MOST_LINK_BYTES = 4096 + 64
NOT_NAMED = "it does not name the file that it shares with others"


def find_alternate(image: ElfImage, debug_dirs: Sequence[str]) -> tuple[DebugFile | None, str]:
    """Return the file that ``image`` names, and what is wrong if there is none of that build-id."""
    link = image.sections.get(_LINK)
    if link is None:
        return None, NOT_NAMED
    if link.held_bytes > _MOST_LINK_BYTES:
        return None, f"{_LINK} is damaged"
    raw = image.file.read(link.offset, link.held_bytes)
    name, _, rest = raw.partition(b"\0")
    path, build_id = os.fsdecode(name), rest.hex()
    problem = f"{path} is missing"
    for place in _places(image.path, path, build_id, debug_dirs):
        try:
            found = ElfImage.open(place)
        except (BadElf, OSError, ValueError):
            continue
        if found.build_id == build_id and build_id:
            return DebugFile(Sections(found)), ""
        problem = f"{place} is another file (its build-id differs)"
    return None, problem


def _places(program: str, path: str, build_id: str, debug_dirs: Sequence[str]) -> Iterator[str]:
    yield os.path.join(os.path.dirname(os.path.realpath(program)), path)
    for folder in debug_dirs:
        if len(build_id) > 2:
            yield f"{folder}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        yield f"{folder}/.dwz/{os.path.basename(path)}"
