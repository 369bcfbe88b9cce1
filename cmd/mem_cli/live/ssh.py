"""`mem_profiler live --ssh HOST`: the same command on another machine, in a terminal of ssh's.

Nothing is copied there: `mem_profiler` is installed on that machine too. This process becomes ssh,
so that keys, sizes of the window and signals are ssh's business.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import NoReturn

from mem_parser.errors import MemError, UsageProblem
from mem_parser.escape import shell_join

OPTION = "--ssh"


def without_option(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without `--ssh HOST` and `--ssh=HOST`; what stands after
    `--` is no option.
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*kept, word, *rest]
        if word == OPTION:
            next(rest, None)
        elif not word.startswith(f"{OPTION}="):
            kept.append(word)
    return kept


def command(host: str, words: Sequence[str]) -> list[str]:
    """Return the command that runs `mem_profiler` with ``words`` on a machine. Raises UsageProblem
    for a host that ssh would take for an option.
    """
    if not host or host.startswith("-"):
        raise UsageProblem(f"{OPTION} {host}: not the name of a machine")
    # ssh hands a shell of that machine one text: quoted, the words stay words.
    return ["ssh", "-t", "--", host, shell_join(["mem_profiler", *words])]


def become(host: str, words: Sequence[str]) -> NoReturn:
    """Run `mem_profiler` with the words of a command line, `--ssh` taken out, on a machine, in
    place of this process. Raises MemError.
    """
    line = command(host, without_option(words))
    path = shutil.which("ssh")
    if path is None:
        raise MemError("ssh is not installed", hint="apt-get install openssh-client")
    try:
        os.execv(path, line)  # noqa: S606 - no shell here
    except OSError as error:
        raise MemError(f"{path}: {error.strerror}") from None
