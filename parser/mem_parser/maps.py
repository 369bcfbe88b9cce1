r"""Modules from the lines of /proc/PID/maps at the end of every text profile.

Paths are whole (they may contain spaces). The parser removes one trailing " (deleted)" and keeps it
as a fact, and decodes octal escapes (`\012`). A line `build=/folder` defines `$build` in later
paths, and the base of relative ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from mem_parser.allowance import MemoryAllowance
from mem_parser.model import ExecRange, Module

_LINE = re.compile(
    r"\s*(?:0x)?([0-9a-fA-F]{1,16})-(?:0x)?([0-9a-fA-F]{1,16})\s+([-rwxsp]{4})\s+"
    r"(?:0x)?([0-9a-fA-F]{1,16})\s+([0-9a-fA-F]+:[0-9a-fA-F]+)\s+(\d+)(?:[ \t]+(.*))?$"
)
_BRIEF = re.compile(r"\s*([0-9a-fA-F]{1,16})-([0-9a-fA-F]{1,16}):\s+(\S.*)$")
_BUILD = re.compile(r"\s*build=(/\S.{0,4095})$")
_BUILD_USED = re.compile(r"\$build\b")
_OCTAL = re.compile(r"\\([0-3][0-7]{2})")
_DELETED = " (deleted)"
_MAX_MODULES = 200_000
_RANGE_BYTES = 900


def parse_maps(lines: Iterable[str], allowance: MemoryAllowance | None = None) -> list[Module]:
    """Return one module per mapped file with executable ranges, in the order of first appearance.

    Anonymous executable memory (JIT code) is not a module. Two mappings of one path far
    apart, with the same file offset, are two modules: the file was loaded twice.
    """
    modules: list[Module] = []
    last_of_path: dict[tuple[str, str], tuple[Module, set[int]]] = {}
    folder: str | None = None
    for line in lines:
        if (said := _BUILD.match(line.rstrip("\r\n"))) is not None:
            folder = said[1].rstrip()
            continue
        parsed = _parse_line(line) if len(modules) < _MAX_MODULES else None
        if parsed is None:
            continue
        path, exec_range, identity, deleted = parsed
        if folder is not None:
            path = _placed(path, folder)
        if allowance is not None:
            allowance.take(_RANGE_BYTES + 4 * len(path))
        module, offsets = last_of_path.get((path, identity), (None, set()))
        if module is not None and exec_range.file_offset not in offsets:  # of the same loading
            module.ranges.append(exec_range)
            offsets.add(exec_range.file_offset)
            continue
        module = Module(path=path, ranges=[exec_range], deleted=deleted)
        last_of_path[path, identity] = module, {exec_range.file_offset}
        modules.append(module)
    return modules


def _parse_line(line: str) -> tuple[str, ExecRange, str, bool] | None:
    match = _LINE.match(line.rstrip("\r\n"))
    if match is None:
        return _parse_brief(line)
    start, end, perms, offset, device, inode, path = match.groups()
    if "x" not in perms or not path or path.startswith("//anon"):
        return None
    path, deleted = clean_path(path)
    wanted = ExecRange(int(start, 16), int(end, 16), int(offset, 16))
    if wanted.end <= wanted.start:
        return None
    return path, wanted, f"{device}:{inode}", deleted


def _parse_brief(line: str) -> tuple[str, ExecRange, str, bool] | None:
    """A line `start-end: path`, as jemalloc writes it without /proc."""
    match = _BRIEF.match(line.rstrip("\r\n"))
    if match is None:
        return None
    wanted = ExecRange(int(match[1], 16), int(match[2], 16), 0)
    if wanted.end <= wanted.start:
        return None
    path, deleted = clean_path(match[3])
    return path, wanted, "", deleted


def _placed(path: str, folder: str) -> str:
    """Return ``path`` resolved against the profile's build folder."""
    path = _BUILD_USED.sub(lambda _: folder, path, count=1)
    relative = path.startswith(("./", "../")) or ("/" in path and path[0] not in "/[")
    return os.path.normpath(os.path.join(folder, path)) if relative else path


def clean_path(text: str) -> tuple[str, bool]:
    """Return the path in a maps line, and whether the file was deleted."""
    path, deleted = undeleted(text.strip(" \t"))
    return _OCTAL.sub(lambda m: chr(int(m[1], 8)), path), deleted


def undeleted(path: str) -> tuple[str, bool]:
    """Return a path without the kernel's " (deleted)", and whether it had that mark."""
    return path.removesuffix(_DELETED), path.endswith(_DELETED)
