"""Resolve a program's libraries as the loader would, by reading files alone.

Model: glibc's search, step by step (ld.so(8), elf/dl-load.c): breadth first over DT_NEEDED; each
name in DT_RPATH of the object that needs it and of those that loaded that object, in
LD_LIBRARY_PATH, in the object's DT_RUNPATH, in /etc/ld.so.cache, in the default folders. The search
skips a file of another class or machine. It executes nothing, not even the loader that the program
names, which is a file like any other.

Files and paths are hostile: the search opens only regular files, and a bounded number of them.
"""

from __future__ import annotations

import itertools
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mem_parser import elfrows
from mem_parser.plainfile import open_plain, read_plain
from mem_profiler.doctor import loadercache
from mem_profiler.process import elfhead
from mem_profiler.process.elfhead import Head

LIBRARIES_MAX = 1000
OPENS_MAX = 20_000
FOLDERS_MAX = 1000  # of one list of folders
PRELOADS = Path("/etc/ld.so.preload")
_PRELOADS_MAX_BYTES = 1 << 16
_OS_ABIS = (0, 3)  # System V, Linux

_MULTIARCH = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
_TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")
# AT_PLATFORM, and what glibc before 2.37 used in its place.
_PLATFORMS = {"x86_64": ("haswell", "xeon_phi", "x86_64"), "aarch64": ("aarch64",)}


@dataclass(eq=False)
class Library:
    """A loaded file: its path, and the library that needs it."""

    path: str
    head: Head
    asked_by: Library | None

    @property
    def origin(self) -> str:
        """The meaning of $ORIGIN in it."""
        return os.path.dirname(os.path.abspath(self.path))


@dataclass(frozen=True)
class Resolved:
    """The libraries of a program in the loader's order, and the names without a file."""

    paths: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    complete: bool = True  # False: too many to examine


def of_program(path: str, environment: Mapping[str, str] | None = None) -> Resolved:
    """The libraries of a program or of a library; none for a file of another machine."""
    search = _Search(os.environ if environment is None else environment)
    opened = search.open(os.path.realpath(path))
    if opened is None:
        return Resolved()
    head, identity = opened
    return search.walk(Library(os.path.realpath(path), head, None), identity)


def default_folders() -> tuple[str, ...]:
    """The folders that the loader searches last: Debian's and those of other distributions."""
    multiarch = _MULTIARCH.get(platform.machine())
    first = (f"/lib/{multiarch}", f"/usr/lib/{multiarch}") if multiarch else ()
    return (*first, "/lib64", "/usr/lib64", "/lib", "/usr/lib")


def _library_folders() -> tuple[str, ...]:
    """What $LIB may mean: each loader has its own value built in."""
    multiarch = _MULTIARCH.get(platform.machine())
    return (*((f"lib/{multiarch}",) if multiarch else ()), "lib64", "lib")


class _Search:
    """One walk over a program's libraries."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._own = elfhead.own_machine()
        self._library_path = environment.get("LD_LIBRARY_PATH", "")
        self._cache: dict[str, str] | None = None
        self._levels = tuple(f"glibc-hwcaps/{name}" for name in loadercache.processor_levels())
        self._folders: dict[str, bool] = {}
        self._opens = 0
        self.complete = True

    def open(self, path: str) -> tuple[Head, tuple[int, int]] | None:
        """A file that the loader can load: its head, device and inode."""
        if self._opens >= OPENS_MAX:
            self.complete = False
            return None
        self._opens += 1
        try:
            fd = open_plain(path)
        except (OSError, ValueError):
            return None
        try:
            status = os.fstat(fd)
            head = elfhead.read(fd)
        finally:
            os.close(fd)
        if head is None or (head.bits, head.machine) != self._own:
            return None
        if head.os_abi not in _OS_ABIS or head.kind not in (elfrows.ET_DYN, elfrows.ET_EXEC):
            return None
        return head, (status.st_dev, status.st_ino)

    def walk(self, program: Library, identity: tuple[int, int]) -> Resolved:
        """Find all libraries, breadth first from the program on."""
        by_identity = {identity: program}
        by_name: dict[str, Library] = {}
        self._interpreter(program, by_identity, by_name)
        order = {program: None}  # a set that keeps its order
        missing: list[str] = []
        wanted = [(name, program) for name in _preloads()]
        wanted += [(name, program) for name in program.head.needed]
        # The list grows during the loop: this makes the search breadth first.
        for name, asker in wanted:
            library = self._load(name, asker, by_identity, by_name)
            if library is None:
                missing += [name] if name not in missing else []
            elif library not in order:
                if len(order) > LIBRARIES_MAX:
                    self.complete = False
                    break
                order[library] = None
                wanted += [(needed, library) for needed in library.head.needed]
        loaders = [known for known in by_identity.values() if known not in order]
        paths = tuple(library.path for library in [*list(order)[1:], *loaders])
        return Resolved(paths, tuple(missing), self.complete)

    def _interpreter(
        self,
        program: Library,
        by_identity: dict[tuple[int, int], Library],
        by_name: dict[str, Library],
    ) -> None:
        """Add the loader itself, which is loaded before everything else."""
        path = program.head.interpreter
        opened = self.open(path) if path else None
        if path and opened is not None:
            head, identity = opened
            loader = by_identity.setdefault(identity, Library(path, head, None))
            by_name[path] = loader
            by_name[os.path.basename(path)] = loader
            if head.soname:
                by_name[head.soname] = loader

    def _load(
        self,
        name: str,
        asker: Library,
        by_identity: dict[tuple[int, int], Library],
        by_name: dict[str, Library],
    ) -> Library | None:
        """The library of a name, loaded already or found now; None if there is none."""
        if name in by_name:
            return by_name[name]
        for path in self._places(name, asker):
            opened = self.open(path)
            if opened is None:
                continue
            head, identity = opened
            library = by_identity.setdefault(identity, Library(path, head, asker))
            by_name[name] = library
            if head.soname:
                by_name.setdefault(head.soname, library)
            return library
        return None

    def _places(self, name: str, asker: Library) -> Iterator[str]:
        """Paths where a library may be, in the order of the loader's search."""
        if "/" in name or "$" in name:
            yield from (path for path in _expanded(name, asker) if "/" in path)
            return
        lists: list[tuple[str, Library]] = []
        if asker.head.runpath is None:
            lists += [(one.head.rpath or "", one) for one in _askers(asker)]
        for text, owner in lists:
            yield from self._in_list(text, ":", owner, name)
        yield from self._in_list(self._library_path, "[:;]", asker, name)
        yield from self._in_list(asker.head.runpath or "", ":", asker, name)
        defaults = default_folders()
        if self._cache is None:
            self._cache = loadercache.load()
        cached = self._cache.get(name)
        allowed = not asker.head.no_default_folders
        if cached is not None and (allowed or os.path.dirname(cached) not in defaults):
            yield cached
        if allowed:
            yield from self._in_folders(defaults, name)

    def _in_list(self, text: str, separator: str, owner: Library, name: str) -> Iterator[str]:
        if not text:
            return
        parts = re.split(separator, text)[:FOLDERS_MAX]
        folders = (folder or "." for part in parts for folder in _expanded(part, owner))
        yield from self._in_folders(folders, name)

    def _in_folders(self, folders: Iterable[str], name: str) -> Iterator[str]:
        for folder in folders:
            for level in (*self._levels, ""):
                whole = os.path.join(folder, level) if level else folder
                if whole not in self._folders:
                    self._folders[whole] = os.path.isdir(whole)
                if self._folders[whole]:
                    yield os.path.join(whole, name)


def _askers(library: Library) -> Iterator[Library]:
    """A library, the one that needs it, and so on up to the program; none with a DT_RUNPATH."""
    one: Library | None = library
    while one is not None:
        if one.head.runpath is None:
            yield one
        one = one.asked_by


def _expanded(text: str, owner: Library) -> Iterator[str]:
    """A path with each possible value of its tokens, likeliest first."""
    folders = _library_folders() if "LIB" in text else ("",)
    platforms = _PLATFORMS.get(platform.machine(), ("",)) if "PLATFORM" in text else ("",)
    for folder, machine in itertools.product(folders, platforms):
        meaning = {"ORIGIN": owner.origin, "LIB": folder, "PLATFORM": machine}
        yield _TOKEN.sub(lambda found, m=meaning: m[found[1] or found[2]], text)  # type: ignore[misc]


def _preloads() -> list[str]:
    """The libraries that the system preloads into every program."""
    try:
        text = os.fsdecode(read_plain(PRELOADS, _PRELOADS_MAX_BYTES))
    except OSError:
        return []
    lines = (line.split("#", 1)[0] for line in text.splitlines())
    return [name for line in lines for name in re.split(r"[\s:]+", line) if name]
