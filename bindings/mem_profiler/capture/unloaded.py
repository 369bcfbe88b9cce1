"""Detect a program that ran without the sampler, also behind a wrapper script.

Model: a wrapper that execs leaves the segment of its own image. If the next image does not load the
sampler, that segment would be mistaken for the program's. While the program runs, /proc shows which
file it is and whether it maps the segment. Of one that ended between two looks only its name is
left, until it is waited for; the name counts only where the image before it did not end by itself,
and where a program of that name can be found: programs may name themselves.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mem_parser.model import SAMPLER_NAME
from mem_profiler.process import named, procfs
from mem_profiler.segment import layout, usable
from mem_profiler.segment.file import Control

_NAME_MAX_BYTES = 15  # of a process, TASK_COMM_LEN - 1


@dataclass(frozen=True)
class Unloaded:
    """A program that ran without the sampler.

    ``environment`` is its initial one, ``uids`` its users; both are empty if unknown.
    """

    path: str
    environment: Mapping[str, str] | None = None
    uids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Behind:
    """A program whose own malloc was before the sampler, which therefore saw nothing.

    ``words`` are its command, the program's path first; only the path if the rest is unknown.
    """

    path: str
    words: tuple[str, ...]


def behind_of(control: Control, words: Sequence[str]) -> Behind | None:
    """The program, if its segment reports that."""
    if not usable.is_behind_program(control):
        return None
    path = control.text("exe")
    return Behind(path, (path, *words[1:]))


@dataclass
class Follower:
    """Follows which program a process is."""

    pid: int
    path: str
    arguments: Sequence[str]
    _seen: Unloaded | None = None
    _seen_ns: int = 0
    _name: str = field(default="")

    def look(self, control: Control | None) -> None:
        """Look at the living process, whose latest image has this segment."""
        exe = procfs.exe(self.pid)
        known = self._seen is not None and self._seen.path == exe
        if exe is None or known or _is_of(control, exe):
            return
        try:
            raw = procfs.raw_maps(self.pid)
        except PermissionError:
            raw = b""
        if SAMPLER_NAME.encode() in raw:  # with MEM_PROFILER_ONLY it may have no segment
            return
        facts = procfs.status(self.pid)
        uids = frozenset(facts.uids) if facts else frozenset()
        self._seen = Unloaded(exe, procfs.environment(self.pid), uids)
        self._seen_ns = time.monotonic_ns()

    def end(self) -> None:
        """Look at the process, which is a zombie now."""
        self._name = procfs.comm(self.pid)

    def unloaded(self, control: Control | None, created_ns: int) -> Unloaded | None:
        """The program without the sampler; None: the segment, created then, is the program's."""
        seen = self._seen
        # Of one program: the look came after the segment was made, and before it was found.
        if seen is not None and not _is_of(control, seen.path) and self._seen_ns > created_ns:
            return seen
        if control is None:
            return Unloaded(self.path)
        if control.number("state") != layout.STATE_READY or self._name == control.text("comm"):
            return None
        path = self._named_like(self._name)
        return None if path is None else Unloaded(path)

    def _named_like(self, name: str) -> str | None:
        """The program that gave a process its name; None if unknown."""
        if not name:
            return None
        for path in named.programs(self.path, self.arguments):
            if os.fsencode(os.path.basename(path))[:_NAME_MAX_BYTES] == os.fsencode(name):
                return path
        return shutil.which(name)


def _is_of(control: Control | None, exe: str) -> bool:
    whole = control.text("exe") if control is not None else ""
    return bool(whole) and exe.startswith(whole)
