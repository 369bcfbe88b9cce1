"""Explain unnamed addresses, and their cure on this system.

There is a reason only where it is certain: the file is here, unchanged, and has no symbol table, or
no debug information.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mem_parser.escape import one_line
from mem_parser.plainfile import stored_bytes
from mem_parser.symbols.cache import SymbolCache, default_folder
from mem_parser.symbols.debugfiles import search_debug_file
from mem_parser.symbols.debugpackages import OsRelease, by_server, how_to_get, read_os_release
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.filefacts import FileFact
from mem_parser.symbols.isolation import Job, Json, in_child
from mem_parser.words import phrase

_PACKAGE_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 20.0
_MERGED = ("/usr/lib", "/usr/bin/", "/usr/sbin/")
_LACKS, _HAS = "lacks", "has"


def why_nameless(
    paths: Sequence[str],
    cache: SymbolCache | None = None,
    release: OsRelease | None = None,
    *,
    at_length: bool = True,
    program: tuple[str, str] = ("", ""),
) -> list[str]:
    """Return a line for each known reason why ``paths`` give no names, with the files and the
    remedy on the system ``release`` (this one); ``at_length`` with every other remedy.

    ``cache`` (the user's) keeps facts about unchanged files; ``program`` is as `Symbols.program`.
    """
    return _reasons(_NO_NAMES, paths, cache, release, at_length=at_length, program=program)


def how_to_name(path: str) -> list[str]:
    """Return how to get the names of the stripped file at ``path``, if this system knows how."""
    return how_to_get(_packages_of([path]).values(), read_os_release())


class DebugFile(NamedTuple):
    """The separate debug file of a program as reports find it: its path, empty where there is none,
    and whether it has lines; ``missed``: why one that should be there does not count.
    """

    path: str
    has_lines: bool
    missed: str


def debug_file_of(path: str) -> DebugFile:
    """Return the debug file of the program at ``path``, which a child reads."""
    job = Job(_debug_file, _understood_debug_file, stored_bytes, _READ_TIMEOUT_S)
    [found] = in_child([path], job)
    return found if isinstance(found, DebugFile) else DebugFile("", False, "")


def _debug_file(path: str) -> Json:
    try:
        image = ElfImage.open(path)
    except (BadElf, OSError, ValueError):
        return ["", False, ""]
    found = search_debug_file(image.build_id, image)
    if found.image is not None:
        return [found.image.path, found.image.has_dwarf, ""]
    link = f"{image.debuglink[0]} is not where reports look for it" if image.debuglink else ""
    return ["", False, *(found.refused or [link])[:1]]


def _understood_debug_file(answer: Json) -> DebugFile:
    path, has_lines, missed = answer
    return DebugFile(str(path), bool(has_lines), str(missed))


def stripped_own(paths: Sequence[str], cache: SymbolCache) -> list[str]:
    """Return those of ``paths`` that are stripped, and of no package known here."""
    return [path for path, package in _lacking(_NO_NAMES, paths, cache).items() if not package]


def why_without_lines(
    paths: Sequence[str], cache: SymbolCache | None = None, release: OsRelease | None = None
) -> list[str]:
    """Return a line for each reason that is known why functions of ``paths`` have no source lines;
    else as `why_nameless`.
    """
    return _reasons(_NO_LINES, paths, cache, release, at_length=True)


def _reasons(
    lack: _Lack,
    paths: Sequence[str],
    cache: SymbolCache | None,
    release: OsRelease | None,
    *,
    at_length: bool,
    program: tuple[str, str] = ("", ""),
) -> list[str]:
    packages = _lacking(lack, paths, cache or SymbolCache(default_folder()))
    if not packages:
        return []
    release = release or read_os_release()
    # A package that this system's advice does not cover is like none.
    owned = [p for p in packages if packages[p] and how_to_get([packages[p]], release)]
    other = [p for p in packages if p not in owned]
    lines: list[str] = []
    if owned:
        ways = how_to_get([packages[p] for p in owned], release, at_length=at_length)
        if at_length:
            lines.append(f"{lack.text}: {_names(owned)}; {'; '.join([by_server(), *ways])}")
        else:
            lines.append(phrase("symbols: {way}", way="; ".join(ways)))
    main, name = program
    if main in other and not at_length:
        other.remove(main)
        lines.append(
            phrase(
                "symbols of {name}: -p UNSTRIPPED, the same build with symbols",
                name=one_line(name),
            )
        )
    if not at_length and len(other) == len(paths) > 1:
        lines.append(
            phrase(
                "No symbols in any of these, and no known debug package;"
                " --debug-dir DIR: a folder with the same builds unstripped"
            )
        )
    elif other and not at_length:
        lines.append(
            phrase(
                "No symbols, and no known debug package: {names};"
                " --debug-dir DIR: a folder with the same builds unstripped",
                names=_names(other),
            )
        )
    elif other:
        ways = [
            lack.build, "-p UNSTRIPPED is the same build with symbols" if main in other else "",
            "--debug-dir DIR: a folder with debug files or the same builds unstripped",
            by_server(),
        ]  # fmt: skip
        text = "; ".join(way for way in ways if way)
        lines.append(f"{lack.text}, of no package known here: {_names(other)}; {text}")
    return lines


def _names(paths: Sequence[str]) -> str:
    return ", ".join(one_line(path.rsplit("/", 1)[-1]) for path in paths)


def _lacking(lack: _Lack, paths: Sequence[str], cache: SymbolCache) -> dict[str, str]:
    """Return the files of ``paths`` that lack it, each with its package; empty if none is known."""
    found: dict[str, str] = {}
    unknown: dict[str, FileFact] = {}
    for path in paths:
        fact = FileFact(cache, path, lack.fact)
        kept = fact.get()
        if kept is None:
            unknown[path] = fact
        else:
            found[path] = kept
    for path, answer in _facts_of(lack, list(unknown)).items():
        unknown[path].put(answer)
        found[path] = answer
    told = {path: found[path].split(" ") for path in paths if path in found}
    return {path: words[-1] for path, words in told.items() if words[0] == _LACKS}


def _facts_of(lack: _Lack, paths: Sequence[str]) -> dict[str, str]:
    """Return for each readable path of ``paths``: `lacks PACKAGE`, `lacks `, or `has`."""
    job: Job[str, bool | None] = Job(lack.judge, _understood, stored_bytes, _READ_TIMEOUT_S)
    answers = in_child(paths, job)
    lacks = {p: a for p, a in zip(paths, answers, strict=True) if isinstance(a, bool)}
    asked = [p for p in lacks if lacks[p]]
    packages = _packages_of(asked) if asked else {}
    return {p: f"{_LACKS} {packages.get(p, '')}" if lacks[p] else _HAS for p in lacks}


def _is_stripped(path: str) -> bool | None:
    """Tell whether the file itself has no names; None if it cannot be read."""
    try:
        image = ElfImage.open(path)
    except (BadElf, OSError, ValueError):
        return None
    return ".symtab" not in image.sections and not image.has_dwarf


def _has_no_lines(path: str) -> bool | None:
    """Tell whether the file has no debug information; None if it cannot be read."""
    try:
        return not ElfImage.open(path).has_dwarf
    except (BadElf, OSError, ValueError):
        return None


class _Lack(NamedTuple):
    """Something that files lack: its text in a report, the name of the cached fact, the function
    that judges a file, and the remedy for programmers.
    """

    text: str
    fact: str
    judge: Callable[[str], bool | None]
    build: str = ""


_NO_NAMES = _Lack("stripped", "nonames", _is_stripped)
_NO_LINES = _Lack("without debug information", "nolines", _has_no_lines, "build with -g")


def _understood(answer: Json) -> bool | None:
    return answer if isinstance(answer, bool) else None


def _packages_of(paths: Sequence[str]) -> dict[str, str]:
    """Return the package of each file, where the system knows it: Debian's or Fedora's."""
    return _of_dpkg(paths) or _of_rpm(paths)


def _of_dpkg(paths: Sequence[str]) -> dict[str, str]:
    spelled = {name: p for p in paths for name in _spellings(p)}
    found: dict[str, str] = {}
    for line in _told(["dpkg-query", "-S", *spelled]):
        package, _, name = line.partition(": ")
        if name in spelled and "," not in package:
            found[spelled[name]] = package.partition(":")[0]
    return found


def _of_rpm(paths: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        for line in _told(["rpm", "-qf", "--qf", "package %{NAME}\\n", path]):
            word, _, package = line.partition(" ")
            if word == "package" and package and " " not in package:
                found[path] = package
                break
    return found


def _told(command: Sequence[str]) -> list[str]:
    """Return the output of a system program; empty if it is missing or too slow."""
    import subprocess  # here: kept facts do not need it

    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_PACKAGE_TIMEOUT_S,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()


def _spellings(path: str) -> list[str]:
    """Return how the package system may write ``path``: it knows files by older places too."""
    names = [path, os.path.realpath(path)]
    names += [n.removeprefix("/usr") for n in names if n.startswith(_MERGED)]
    # The package system treats these characters as patterns.
    return [n for n in dict.fromkeys(names) if n.startswith("/") and not set(n) & set("*?[\\")]
