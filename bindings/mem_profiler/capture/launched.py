"""Programs that only start others: the files of a run are of what they started.

Model: shells, wrappers such as timeout, build tools and pre-forking servers are known by name. A
run of one follows its children as `--children` does, and at the end writes no file of launchers,
and none of helpers that held little beside the largest program.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mem_parser import unseen
from mem_profiler.process import program
from mem_profiler.segment import usable

if TYPE_CHECKING:
    from mem_profiler.segment.file import Control

FILES_MAX = 8
SMALL_SHARE = 20  # a program that held less than this part of the largest one is a helper
_NAMED_MAX = 5
_WRAPPERS = frozenset((
    "chroot", "chrt", "dumb-init", "env", "flock", "gosu", "ionice", "nice", "nohup", "numactl",
    "runuser", "script", "setarch", "setpriv", "setsid", "stdbuf", "su", "sudo", "taskset", "time",
    "timeout", "tini", "unbuffer", "unshare",
))  # fmt: skip
"""Each starts one program, which has a file even if it takes no sample."""
_STARTERS = frozenset((
    "ash", "bash", "busybox", "cargo", "ctest", "dash", "entr", "fish", "gmake", "ksh", "make",
    "mksh", "ninja", "npm", "npx", "parallel", "pnpm", "poetry", "sh", "uv", "watch", "xargs",
    "xvfb-run", "yarn", "zsh",
))  # fmt: skip
_LAUNCHERS = _WRAPPERS | _STARTERS
_COMPILER = re.compile(
    r"(?:.*-)?(?:as|cc|cc1|cc1plus|clang|clang\+\+|collect2|g\+\+|gcc|ld|ld\.\w+|lld|lto1|rustc)"
    r"(?:-[\d.]+)?"
)
"""What build tools start besides programs and tests: these have a file where nothing else has."""
_SERVERS = frozenset(("celery", "gunicorn", "hypercorn", "uvicorn", "uwsgi"))
"""Their children are forks of themselves, which have the file of the run too."""


@dataclass
class Launched:
    """What a launcher started. ``name``, ``pid`` and ``exe`` are the launcher's. A server's own
    process is one of those that it started. ``is_wrapper``: it starts one program.
    """

    name: str
    exe: str
    is_server: bool
    is_wrapper: bool = False
    pid: int = 0
    nothing: bool = False
    chosen: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def choose(self, controls: Sequence[Control]) -> list[int]:
        """Return which of the run's processes get a file, the largest first, by their places.

        Of a process that became another program it is its own alone, and so if nothing was started.
        """
        self.chosen, self.left_out = Counter(), Counter()
        own = [i for i, control in enumerate(controls) if control.number("pid") == self.pid][:1]
        if own and not self.is_server and not self._is_launcher(controls[own[0]]):
            return own
        sizes = {
            i: _most_held(control)
            for i, control in enumerate(controls)
            if not self._is_launcher(control)
        }
        compilers = {i for i in sizes if _is_compiler(controls[i])}
        if len(compilers) < len(sizes):
            self.left_out.update(controls[i].program_name for i in compilers)
            sizes = {i: size for i, size in sizes.items() if i not in compilers}
        started = sorted(sizes, key=lambda i: sizes[i], reverse=True)
        most = max(sizes.values(), default=0)
        chosen = [
            i
            for i in started
            if self.is_server
            or sizes[i] * SMALL_SHARE >= most
            or usable.is_behind_program(controls[i])
        ][:FILES_MAX]
        for i in started:
            names = self.chosen if i in chosen else self.left_out
            names[controls[i].program_name or "?"] += 1
        self.nothing = not chosen
        return chosen or own

    def _is_launcher(self, control: Control) -> bool:
        path = control.text("exe")
        if os.path.basename(path) in _LAUNCHERS:
            return True
        return path == self.exe and control.number("pid") == self.pid and not self.is_server

    def note(self) -> str:
        """The note for the file of the launcher itself, where it started nothing; else empty."""
        if not self.nothing:
            return ""
        return (
            f"{unseen.NOTE}{self.name} {unseen.NOT_SAMPLED};"
            " mem_profiler doctor -- PROG says whether one can be captured"
        )

    def lines(self) -> list[str]:
        """Say which programs the files are of, and which have none."""
        said = []
        if self.is_server and self.chosen.total() > 1:
            said.append(f"the profiles are of {self.name} and its worker processes")
        elif self.chosen and not self.is_server:
            files = "profile is" if self.chosen.total() == 1 else "profiles are"
            said.append(f"the {files} of {listed(self.chosen)}, which {self.name} started")
        if self.left_out:
            said.append(
                f"{self.name} also started {listed(self.left_out)}, without a file here;"
                " --children writes one of each process"
            )
        return said


def of_command(path: str, arguments: Sequence[str]) -> Launched | None:
    """Return the launcher that a command is; None: the command is the program itself."""
    exe = os.path.realpath(program.judged_file(path))
    called = os.path.basename(path)
    module = arguments[2] if len(arguments) > 2 and arguments[1] == "-m" else ""
    if called in _SERVERS or module in _SERVERS:
        return Launched(module or called, exe, is_server=True)
    if called in _LAUNCHERS or os.path.basename(exe) in _LAUNCHERS:
        return Launched(called, exe, is_server=False, is_wrapper=called in _WRAPPERS)
    return None


def _is_compiler(control: Control) -> bool:
    return _COMPILER.fullmatch(os.path.basename(control.text("exe"))) is not None


def _most_held(control: Control) -> int:
    """The peak of a capture, in parts of a size that all processes of a run share."""
    number = control.number("capture_number")
    return int(control["peak"][number & 1]["high_parts"])


def listed(names: Counter[str]) -> str:
    """The most frequent names, with their numbers, and how many more there are."""
    shown = [
        name if count == 1 else f"{name} ({count} processes)"
        for name, count in names.most_common(_NAMED_MAX)
    ]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
