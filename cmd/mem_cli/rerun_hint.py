"""Build ready-to-paste follow-up commands.

sudo looks for commands in folders of its own, so it does not find those of a virtual environment by
name; nor does a path of sudo say what the user's finds. Full paths work for both.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator

from mem_parser import sudo
from mem_parser.escape import shell_join, shell_lines, shell_path
from mem_parser.words import phrase, shown


def full_path(name: str) -> str:
    """Return the path of a command of ours: beside the running one, or beside its Python."""
    import sysconfig

    beside = os.path.dirname(os.path.abspath(sys.argv[0]))
    for folder in (beside, sysconfig.get_path("scripts")):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return name


def again_as_root() -> str:
    """Return the running `mem_profiler` command, as sudo finds it."""
    return f"sudo {shell_join((full_path('mem_profiler'), *sys.argv[1:]))}"


def next_command(name: str, *, reads: str | None = None) -> str:
    """Return how the user calls a command of ours next.

    ``reads``: a file that it reads; without one, the command needs the rights that this one has.
    """
    user = sudo.caller()
    if user is None:
        return name
    import shutil

    path, found = full_path(name), shutil.which(name)
    known = found is not None and os.path.realpath(found) == os.path.realpath(path)
    called = name if known else shell_path(path)
    return called if reads is not None and _may_read(user, reads) else f"sudo {called}"


def next_lines(commands: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of the next steps. A command consists of parts of shell text that are not
    broken, which `mem_parser.escape` quoted.
    """
    yield shown(phrase("next:"))
    for parts in commands:
        yield from shell_lines(parts)


def _may_read(user: sudo.Caller, path: str) -> bool:
    """Tell whether the user behind sudo may read a file that we wrote."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return status.st_uid == user.uid or bool(status.st_mode & stat.S_IROTH)
