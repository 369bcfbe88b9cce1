"""What screens call a program: by the name that the person started it by.

Of a program that is started by a link (`redis-server` is one to `redis-check-rdb`), by `exec -a`,
or as one of many in a file (`busybox`), the executable's own name is not what anybody looks for.
The first word of the command line is, but a program may write there what it likes, and a script's
interpreter is the first word of the script's. So the process's own name decides where the command
line has it too, as the name of a path.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mem_parser.escape import one_line

if TYPE_CHECKING:
    from mem_parser.model import Capture

_LONGEST, _ROLE = 80, 60
"""Characters of a name that are shown, and of what tells a process from others."""
_CUT_COMM_BYTES = 15
"""The kernel keeps this much of a process's name."""
_CUT_COMMAND_BYTES = 255
"""A recorded command line of so many bytes may go on."""


def program_name(comm: str, exe: str, command: str) -> str:
    """Return the name of a program, as it came but for its length; empty where nothing is known.

    ``comm`` is the process's name, ``exe`` the path of its executable, and ``command`` the
    beginning of its command line with blanks in between.
    """
    first = command.partition(" ")[0]
    is_cut = first == command and len(command.encode(errors="replace")) >= _CUT_COMMAND_BYTES
    called = "" if is_cut else _last(first).removeprefix("-").rstrip(":")
    name = _in_command(comm, command) or called or comm or file_name(exe)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def named_with_file(name: str, exe: str) -> str:
    """Return a name ready to show, with that of the executable where it is another."""
    shown, file = one_line(name) or "?", other_file(name, exe)
    return f"{shown} ({file})" if file else shown


def other_file(name: str, exe: str) -> str:
    """Return `file: ` and the name of the executable, ready to show; empty where it is ``name``."""
    file = file_name(exe)
    return "" if file in ("", name) else f"file: {one_line(file[:_LONGEST])}"


def names_of_siblings(programs: Sequence[tuple[str, str]]) -> list[str]:
    """Return what each of several processes is, ready to show: the name (the first of each pair),
    and the words of its command line (the second) that not every process of that name has.
    """
    words = [(name, command.split()[1:]) for name, command in programs]
    alike: dict[str, list[set[str]]] = defaultdict(list)
    for name, arguments in words:
        alike[name].append(set(arguments))
    common = {
        name: set.intersection(*every) if len(every) > 1 else set[str]()
        for name, every in alike.items()
    }
    shown = (
        " ".join((name or "?", *dict.fromkeys(w for w in arguments if w not in common[name])))
        for name, arguments in words
    )
    return [one_line(text if len(text) <= _ROLE else f"{text[: _ROLE - 1]}…") for text in shown]


def captured_name(capture: Capture) -> str:
    """Return `program_name` of the program of a capture."""
    return program_name(capture.comm, capture.exe, capture.command)


def profile_name(capture: Capture, binary: str | None, file: str) -> str:
    """Return what to call a profile: its program, by the file that the user gave for it or as it
    was called; else the profile's own ``file``.
    """
    return file_name(binary or "") or captured_name(capture) or file_name(file)


def file_name(exe: str) -> str:
    """Return the name of an executable, also of one that was deleted since."""
    return _last(exe.removesuffix(" (deleted)"))


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _in_command(comm: str, command: str) -> str:
    """Return the last part of a path of the command line that is ``comm``, or begins with it where
    the kernel cut that; empty if there is none. A title (`nginx: worker`) and a login shell
    (`-bash`) have it too.
    """
    if not comm:
        return ""
    more = "[^/ ]*?" if len(comm.encode(errors="replace")) >= _CUT_COMM_BYTES else ""
    found = re.search(rf"(?:^-?|/)({re.escape(comm)}{more}):?(?: |$)", command)
    return found[1] if found else ""
