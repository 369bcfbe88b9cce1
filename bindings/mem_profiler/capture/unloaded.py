"""Detect a program that ran without the sampler, also behind a wrapper script.

Model: a wrapper that execs leaves the segment of its own image. If the next image does not load the
sampler, that segment would be mistaken for the program's. While the program runs, /proc shows which
file it is and whether it maps the segment. Of one that ended between two looks only its name is
left, until it is waited for; the name counts only where the image before it did not end by itself,
and where a program of that name can be found: programs may name themselves.

Of child processes the same is asked at moments: short ones are not seen.
"""

from __future__ import annotations

import dataclasses
import operator
import os
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mem_parser import unseen
from mem_parser.escape import one_line
from mem_parser.model import SAMPLER_NAME
from mem_parser.sizes import short_size
from mem_profiler.capture.launched import listed
from mem_profiler.process import named, procfs, program
from mem_profiler.segment import layout, usable
from mem_profiler.segment.file import Control

if TYPE_CHECKING:
    from mem_profiler.capture.recording import Recording

_NAME_MAX_BYTES = 15  # of a process, TASK_COMM_LEN - 1
_LIBC = re.compile(rb"/libc(?:\.so\.6|-2\.\d+\.so)$", re.MULTILINE)
"""The loader maps it after everything that it preloads."""
_LOOKS_SHARE = 0.02  # of the time
_EXACT = 0.95
"""The kernel's numbers of resident memory differ by some pages a processor."""
_STRAYS_MAX, _SEEN_MAX, _NAMED_MAX = 1000, 10_000, 3
_NO_SAMPLE_RATES = 3.0
"""Of so many bytes in sampling rates one of 20 processes has no sample: exp(-3)."""


@dataclass(frozen=True)
class Unloaded:
    """A program that ran without the sampler.

    ``environment`` is its initial one, ``uids`` its users; both are empty if unknown.
    """

    path: str
    environment: Mapping[str, str] | None = None
    uids: frozenset[int] = frozenset()


Why = Callable[[Unloaded], str]
"""Why a program ran without the sampler, with the cure."""


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


@dataclass
class Stray:
    """A child process that runs, or ran, without the sampler. ``resident_bytes`` is the most that
    was seen.
    """

    pid: int
    program: Unloaded
    seen_ns: int = field(default_factory=time.monotonic_ns)
    resident_bytes: int = 0

    def look(self, image: tuple[int, ...]) -> None:
        """Look at what it has now, while it is this image."""
        held = procfs.kinds(self.pid)["peak_rss_bytes"] or 0
        if procfs.image(self.pid) == image:
            self.resident_bytes = max(self.resident_bytes, held)


@dataclass
class Strays:
    """Looks for the processes below one that have no sampler, for a bounded part of the time. The
    kernel tells ``bound_bytes`` of the processes that were waited for and their parents: none was
    ever larger; one was as large as ``tree_bytes``. ``sampled``: those with it, and their names.
    """

    pid: int
    bound_bytes: int = 0
    tree_bytes: int = 0
    why: Why = operator.attrgetter("path")
    notes: list[str] = field(default_factory=list)
    found: dict[tuple[int, int, str], Stray] = field(default_factory=dict)
    sampled: dict[tuple[int, int], str] = field(default_factory=dict)
    _judged: dict[tuple[int, ...], Stray | None] = field(default_factory=dict)
    _due_s: float = 0.0

    def look(self) -> None:
        """Look at those that live now, if it is time."""
        began_s = time.monotonic()
        if began_s < self._due_s:
            return
        before, self._judged = self._judged, {}
        for pid in procfs.family(self.pid)[1:]:
            image = procfs.image(pid)
            if image in before:
                self._judged[image] = before[image]
            elif image:
                self._judge(pid, image)
            if (stray := self._judged.get(image)) is not None:
                stray.look(image)
        ended_s = time.monotonic()
        self._due_s = ended_s + (ended_s - began_s) / _LOOKS_SHARE

    def _judge(self, pid: int, image: tuple[int, ...]) -> None:
        has_sampler = _has_sampler(pid)
        mine = procfs.pidns_inode(pid) == procfs.pidns_inode()
        if has_sampler and mine and len(self.sampled) < _SEEN_MAX:
            self.sampled[pid, image[1]] = procfs.comm(pid)
        stray = None
        if has_sampler is False:
            facts = procfs.status(pid)
            uids = frozenset(facts.uids) if facts else frozenset()
            given = None if procfs.is_strange(pid) else procfs.environment(pid)
            stray = Stray(pid, Unloaded(procfs.exe(pid) or "", given, uids))
        if has_sampler is None or procfs.image(pid) != image:
            return  # the next look tells
        if stray is not None:
            key = (pid, image[1], stray.program.path)
            if key in self.found or len(self.found) < _STRAYS_MAX:
                stray = self.found.setdefault(key, stray)
        self._judged[image] = stray

    def judge(self, main: Recording, every: Sequence[Recording]) -> None:
        """Say in the file of ``main`` what they may have had. Those of ``every`` have segments: one
        made after a look is of a program that its process was about to become.
        """
        made = [(one.pid, one.made_ns()) for one in every]
        for key, stray in list(self.found.items()):
            if any(pid == stray.pid and at_ns > stray.seen_ns for pid, at_ns in made):
                del self.found[key]
        target = main.target
        behind = {one: found for one in every if (found := behind_of(one.segment.control(), ()))}
        known = max((one.recorder.most_bytes() for one in every if one not in behind), default=0)
        known = max(known, target.memory.peak_rss_bytes or 0)
        if not self.found:
            times = 1 / _EXACT if behind else unseen.TIMES_OWN
            if self.tree_bytes >= max(unseen.LEAST_CHILD_BYTES, times * known):
                target.memory = dataclasses.replace(
                    target.memory, tree_peak_rss_bytes=self.tree_bytes
                )
                who = f"a child process that had {short_size(self.tree_bytes)} resident"
                self.notes = [f"{who} {unseen.WITHOUT_FILE}; --device mmap shows what it mapped"]
                if names := _names([one.path for one in behind.values()]):
                    self.notes[0] += f"; it may be {names}, which ended without a capture"
            return
        held = max(stray.resident_bytes for stray in self.found.values())
        is_explained = self.bound_bytes < unseen.TIMES_OWN * known  # by a file
        held = held if is_explained else max(held, self.tree_bytes)
        most = max(round(unseen.TIMES_OWN * held), unseen.LEAST_CHILD_BYTES)
        if self.bound_bytes >= _EXACT * held:  # else it was not waited for
            bound = max(self.bound_bytes, held)
            most = min(most, bound) if is_explained else bound
        self.notes = self._notes(is_large=held >= max(known, unseen.LEAST_CHILD_BYTES))
        target.memory = dataclasses.replace(target.memory, tree_peak_rss_bytes=most)

    def without_sample(self, pids: Collection[int], rate_bytes: int) -> list[str]:
        """Say how many with the sampler were seen that are not of the ``pids`` with a segment, for
        which one sample is enough.
        """
        names = Counter(name for (pid, _), name in self.sampled.items() if name and pid not in pids)
        if not names:
            return []
        took = "1 child process" if names.total() == 1 else f"{names.total():,} child processes"
        most = short_size(round(_NO_SAMPLE_RATES * rate_bytes))
        said = f"at least {took} took no sample, and so left no file: {listed(names)}"
        return [f"{said}; without a sample a process allocated less than {most} (95 %)"]

    def _notes(self, *, is_large: bool) -> list[str]:
        """A note on each program, the largest first."""
        programs: defaultdict[str, list[Stray]] = defaultdict(list)
        for stray in sorted(self.found.values(), key=lambda one: -one.resident_bytes):
            programs[stray.program.path].append(stray)
        said = [_note(strays, self.why) for strays in list(programs.values())[:_NAMED_MAX]]
        if len(programs) > _NAMED_MAX:
            said[-1] += f"; and so did {len(programs) - _NAMED_MAX:,} other programs"
        return [unseen.NOTE + said[0], *said[1:]] if is_large else said


def _names(programs: Sequence[str]) -> str:
    names = list(dict.fromkeys(one_line(os.path.basename(path)) for path in programs))
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" or {more:,} others" if more > 0 else "")


def _note(strays: Sequence[Stray], why: Why) -> str:
    name = one_line(os.path.basename(strays[0].program.path)) or "?"
    pids = ", ".join(f"{stray.pid}" for stray in strays[:_NAMED_MAX])
    more = len(strays) - _NAMED_MAX
    pids += f" and {more:,} more" if more > 0 else ""
    size = short_size(strays[0].resident_bytes)
    one, held = len(strays) == 1, f"{size} resident or more"
    what = "1 child process" if one else f"{len(strays):,} child processes"
    held = f"which had {held}" if one else f"of which one had {held}"
    reason = why(strays[0].program)
    return f"{what} {unseen.WITHOUT_SAMPLER}: {name} (pid {pids}), {held}: {reason}"


def _has_sampler(pid: int) -> bool | None:
    """Whether a process has the sampler; None: it is still being loaded, or nobody may know."""
    try:
        raw = procfs.raw_maps(pid)
    except PermissionError:
        return None
    if SAMPLER_NAME.encode() in raw:
        return True
    if _LIBC.search(raw) or program.unsupported(f"/proc/{pid}/exe"):
        return False
    return None
