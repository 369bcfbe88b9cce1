"""Check a program's file before the start: can the sampler enter it?

Model: LD_PRELOAD works in a dynamically linked ELF program of our own machine that is not set-uid.
For a script its interpreter decides, and for a file that we cannot read the kernel decides at exec.
Nothing of the program runs: we read its files, and only regular ones.
"""

from __future__ import annotations

import os
import shutil
import stat

from mem_parser.errors import TargetUnsupported, UsageProblem
from mem_parser.plainfile import open_plain, read_plain
from mem_profiler.process import elfhead

INTERPRETERS_MAX = 5  # of scripts that name scripts; the kernel's own limit
FIRST_LINE_BYTES = 256  # BINPRM_BUF_SIZE of the kernel

_STATIC = "is statically linked, so nothing can be preloaded"
CURES = {
    _STATIC: "link it dynamically for the build to profile, without -static; Go has net/http/pprof"
}
"""What helps, by reason."""


def unsupported(path: str) -> str | None:
    """Why LD_PRELOAD cannot work in an ELF file ("is static..."); None: it can."""
    try:
        fd = open_plain(path)
    except OSError:
        return None
    try:
        head = elfhead.read(fd)
    finally:
        os.close(fd)
    if head is None:
        return None
    if (head.bits, head.machine) != elfhead.own_machine():
        return "is built for another architecture"
    if head.interpreter is None:
        return _STATIC
    return None


def _interpreter(path: str) -> str | None:
    """The program that a script names in its first line."""
    try:
        first = read_plain(path, FIRST_LINE_BYTES).split(b"\n", 1)[0]
    except OSError:
        return None
    words = [os.fsdecode(word) for word in first[2:].split()] if first.startswith(b"#!") else []
    if len(words) > 1 and os.path.basename(words[0]) == "env":
        named = next((word for word in words[1:] if not word.startswith("-")), "")
        return shutil.which(named) or words[0]
    return words[0] if words else None


def judged_file(path: str) -> str:
    """The ELF file that runs when ``path`` starts: itself, or a script's interpreter."""
    for _ in range(INTERPRETERS_MAX):
        script = _interpreter(path)
        if script is None:
            break
        path = script
    return path


def check(name: str) -> str:
    """The path of the program `name`. Raises UsageProblem (not found), TargetUnsupported."""
    path = shutil.which(name)
    if path is None:
        what = "may not be executed" if os.path.exists(name) else "was not found"
        hint = f"mem_profiler {name} captures the running process" if name.isdecimal() else None
        raise UsageProblem(f"the program {name} {what}", hint=hint)
    judged = judged_file(path)
    try:
        status = os.stat(judged)
    except OSError:
        return path
    reason = _gained_rights(judged, status) or unsupported(judged)
    if reason is not None:
        raise TargetUnsupported(f"{judged} {reason}", hint=CURES.get(reason))
    return path


def _gained_rights(path: str, status: os.stat_result) -> str | None:
    """Which rights the kernel gives the program at its start; the loader then preloads nothing."""
    if status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid():
        return "is set-uid, where preloading is off"
    # Without the right of the group to execute, the bit means something else.
    set_gid = status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IXGRP
    if set_gid and status.st_gid != os.getegid():
        return "is set-gid, where preloading is off"
    if os.geteuid() != 0 and _has_capabilities(path):
        return "has file capabilities, where preloading is off"
    return None


def _has_capabilities(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False
