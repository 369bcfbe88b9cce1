"""The text of source files that a profile names: the one place that opens them.

A profile may come from anywhere, and even in our own the program's author controls the file names.
So a file is opened unasked only for our own profile, and shown only if it has the suffix of a
programming language and is, without links, below one of the folders that count
(`mem_parser.reports.sourcefolders`). Only plain text files of a bounded size are read, and what a
terminal would act on is made visible.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mem_parser.escape import one_line
from mem_parser.model import Module, Profile
from mem_parser.plainfile import open_plain
from mem_parser.reports import sourcefolders
from mem_parser.reports.sourcefolders import Folder
from mem_parser.symbols.table import Function

_LANGUAGES = (
    "c cc cpp cxx c++ cp h hh hpp hxx h++ inc inl ipp tcc tpp txx def m mm cu cuh cl s asm "
    "rs go py pyx pxd pxi d di swift zig nim f f77 f90 f95 f03 f08 for adb ads pas pp vala v "
    "java kt scala cs fs js mjs ts jsx tsx php rb pl pm lua jl hs ml mli erl ex l lex y yy rl"
)
_SUFFIXES = frozenset(f".{suffix}" for suffix in _LANGUAGES.split())
_PYTHON_SUFFIXES = frozenset((".py", ".pyw"))
_LARGEST_SOURCE = 16 << 20
_TAB = 4

Text = tuple[list[str] | None, str]
"""The lines of a file, or None and the reason."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to search sources: below ``folders``, and at the profile's paths unless ``distrusted``
    has a reason not to. ``trusted``: the user allows any file that the profile names. ``binary``:
    the program's file, if the user gave it.
    """

    folders: Sequence[str] = ()
    distrusted: str = ""
    trusted: bool = False
    binary: str | None = None


class _OutsideError(Exception):
    """The file is in none of the folders that count."""


def distrust(profile: Profile) -> str:
    """Return why files that a profile names are not shown unasked; empty for our own profile.

    Our own profile is a file of ours with a capture of our own process on this host.
    """
    capture, me = profile.capture, os.geteuid()
    if not capture.host or capture.uid is None:
        return "the profile does not name its host and user"
    if capture.host != os.uname().nodename:
        return "the profile came from another host"
    if capture.uid != me:
        return "the profile is of another user's process"
    if profile.file_uid != me:
        return "its file belongs to another user, or others can write it"
    stored = profile.embedded is not None and profile.embedded.name_files
    return "names stored in the profile say where it is" if stored else ""


class SourceFiles:
    """The source files of one profile."""

    def __init__(self, sources: Sources, modules: Sequence[Module] = ()) -> None:
        """``modules``: of the profile."""
        self._sources = sources
        self._modules = modules
        self._given = [sourcefolders.given(path) for path in sources.folders]
        self._user = sourcefolders.of_user(sources.binary)
        self._public = sourcefolders.public_folders()
        self._own: dict[str | None, list[Folder]] = {}

    def read(self, function: Function, file: str) -> Text:
        """Return the text of ``file``, which has lines of ``function``."""
        suffixes = _PYTHON_SUFFIXES if function.python else _SUFFIXES
        if os.path.splitext(file)[1].lower() not in suffixes:
            known = " or ".join(sorted(suffixes)) if function.python else ""
            why = f"does not end in {known}" if known else "has no suffix of a programming language"
            return None, f"source not shown: {one_line(file)} {why}"
        folders = [*self._given, *self._user, *self._own_folders(function)]
        allowed = None if self._sources.trusted else [*folders, *self._public]
        is_outside = False
        for path in self._candidates(file, folders):
            try:
                with contextlib.suppress(OSError, ValueError):
                    return _read(path, suffixes, allowed), ""
            except _OutsideError:
                is_outside = True
        return None, self._reason(file, is_outside=is_outside)

    def _own_folders(self, function: Function) -> list[Folder]:
        """Return the folders that count for a function, besides those for all functions."""
        key = None if function.python else function.module
        if key not in self._own:
            self._own[key] = (
                sourcefolders.of_python(self._modules)
                if key is None
                else sourcefolders.of_module(key)
            )
        return self._own[key]

    def _candidates(self, file: str, folders: Sequence[Folder]) -> Iterator[str]:
        if not self._sources.distrusted and file.startswith("/"):
            yield file
        parts = [p for p in file.split("/") if p not in ("", ".", "..")]
        for folder in self._given:
            for k in range(len(parts)):
                yield os.path.join(folder.path, *parts[k:])
        if not self._sources.distrusted and not file.startswith("/"):
            for folder in folders:
                yield os.path.join(folder.path, file)

    def _reason(self, file: str, *, is_outside: bool) -> str:
        name, distrusted = one_line(file), self._sources.distrusted
        if is_outside:
            return (
                f"source not shown: {name} is outside the folders of its module and of this "
                "project; --source-dir DIR shows files below DIR"
            )
        if file.startswith("/") and distrusted:
            return f"source not shown: {distrusted}; --trust-sources shows it"
        return f"source not found: {name}; --source-dir DIR adds a folder to search"


def _read(path: str, suffixes: frozenset[str], allowed: Sequence[Folder] | None) -> list[str]:
    """Return the lines of a file. Raises OSError, ValueError: it is no source; _OutsideError."""
    with os.fdopen(open_plain(path), "rb") as source:
        # Check the open file and not its name, which may be replaced at any moment.
        real = os.readlink(f"/proc/self/fd/{source.fileno()}")
        if os.path.splitext(real)[1].lower() not in suffixes:
            raise ValueError
        status = os.fstat(source.fileno())
        if allowed is not None and not any(folder.holds(real, status) for folder in allowed):
            raise _OutsideError
        data = source.read(_LARGEST_SOURCE + 1)
    if len(data) > _LARGEST_SOURCE or b"\0" in data:
        raise ValueError
    text = data.decode("utf-8", "replace")
    return [one_line(line.rstrip().expandtabs(_TAB)) for line in text.split("\n")]
