"""Pass the command's settings to the processes that it starts, in their environment.

No file, so nothing stays behind where the command is killed. A process that outlives the command is
followed by nobody: it takes itself for one that no command has started.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, Optional

from mem_parser.errors import MemError
from mem_parser.memscope.settings import Settings, of_dict

VARIABLE = "MEM_PROFILER_MEMSCOPE"
_NAMESPACES = ("pid", "time")


class Told(NamedTuple):
    """The command's orders to a process: settings, and the time in the names of files."""

    settings: Settings
    stamp: str


def variables(settings: Settings, stamp: str) -> dict[str, str]:
    """Return the environment that passes them on to child processes."""
    told = {
        "settings": settings.as_dict() | {"output": os.path.abspath(settings.output)},
        "stamp": stamp, "command": os.getpid(), "began": _began(os.getpid()),
        "namespaces": _namespaces(),
    }  # fmt: skip
    return {VARIABLE: json.dumps(told)}


def told() -> Optional[Told]:  # noqa: UP045 - Python 3.9 evaluates it
    """Return the orders to this process; None if no command follows it."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        found = json.loads(text)
        if not _lives(found):
            return None
        return Told(of_dict(found["settings"]), str(found["stamp"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemError):
        return None


def _lives(found: dict[str, Any]) -> bool:
    """Whether the command runs. Where this process cannot see it, it does."""
    pid = int(found["command"])
    if found["namespaces"] != _namespaces() or not 0 < pid < 1 << 31:
        return True
    began = _began(pid)
    if began:
        return bool(began == found["began"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # of another user, and hidden
    return True


def _began(pid: int) -> int:
    """Return when a process began, in ticks since the boot; 0: unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _namespaces() -> list[str]:
    """Return what says whether two processes see the same pids and times."""
    found = []
    for name in _NAMESPACES:
        try:
            found.append(os.readlink(f"/proc/self/ns/{name}"))
        except OSError:
            found.append("")
    return found
