"""Signals ignored when this process started, and children started with them.

A shell's `trap '' HUP`, nohup and supervisors start programs with ignored signals, and a program
that we start must inherit them. Python and our commands change some: Python ignores SIGPIPE and
SIGXFSZ from its start, commands handle those that terminate them, and if SIGCHLD is ignored the
kernel discards the exit status of children.
"""

from __future__ import annotations

import contextlib
import os
import signal

_kept: frozenset[int] | None = None
_BY_PYTHON = frozenset((signal.SIGPIPE, signal.SIGXFSZ))


def keep() -> None:
    """Record the ignored signals, and keep exit statuses of children from now on. Commands call it
    first.
    """
    global _kept  # noqa: PLW0603 - of the process
    if _kept is not None:
        return
    own, parents = _ignored_by("self") - _BY_PYTHON, _ignored_by(str(os.getppid())) & _BY_PYTHON
    # Only the parent shows whether Python's two were ignored before; a parent that ignores both is
    # Python itself, which gives its children the default.
    _kept = own if parents == _BY_PYTHON else own | parents
    if signal.SIGCHLD in _kept:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _ignored_by(pid: str) -> frozenset[int]:
    """Return the signals that a process ignores; empty if unreadable."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            line = next(line for line in file if line.startswith("SigIgn:"))
        mask = int(line.split()[1], 16)
        return frozenset(n for n in range(1, 65) if mask >> (n - 1) & 1)
    return frozenset()


def ignored() -> frozenset[int]:
    """Return the signals that were ignored as this process began. `keep` must have been called."""
    return _kept or frozenset()


def restore_ignored() -> None:
    """In a child before exec: ignore the signals that were ignored when this process started."""
    for number in ignored():
        with contextlib.suppress(OSError, ValueError):  # two reserved by glibc
            signal.signal(number, signal.SIG_IGN)


def wait_for(pid: int, options: int = 0) -> tuple[int, int]:
    """Wait for a child as `os.waitpid` does; the status is 0 if SIGCHLD is ignored in the program
    that contains us, so that it is lost.
    """
    try:
        return os.waitpid(pid, options)
    except ChildProcessError:
        return pid, 0
