"""Can the sampler enter a program? What its file says before it is started.

Model: LD_PRELOAD works in a dynamically linked ELF program of our own machine that is not set-uid.
A script is judged by its interpreter, and what cannot be read is left for the kernel to judge.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct

from mem_parser.errors import TargetUnsupported, UsageProblem

PT_INTERP = 3
INTERPRETERS_MAX = 5  # of scripts that name scripts; the kernel's own limit


def _own_machine() -> tuple[int, int]:
    with open("/proc/self/exe", "rb") as file:
        head = file.read(20)
    return head[4], struct.unpack_from("=H", head, 18)[0]


def _has_interpreter(data: bytes, file_class: int) -> bool:
    if file_class == 2:
        offset = struct.unpack_from("<Q", data, 32)[0]
        size, count = struct.unpack_from("<HH", data, 54)
    else:
        offset = struct.unpack_from("<I", data, 28)[0]
        size, count = struct.unpack_from("<HH", data, 42)
    for i in range(count):
        at = offset + i * size
        if at + 4 > len(data):
            return True  # header table further back than we read: not for us to say
        if struct.unpack_from("<I", data, at)[0] == PT_INTERP:
            return True
    return False


def unsupported(path: str) -> str | None:
    """Why the sampler cannot be preloaded into an ELF file ("is static..."); None: it can."""
    try:
        with open(path, "rb") as file:
            data = file.read(65536)
    except OSError:
        return None
    if len(data) < 64 or data[:4] != b"\x7fELF" or data[5] != 1:
        return None
    if (data[4], struct.unpack_from("<H", data, 18)[0]) != _own_machine():
        return "is built for another architecture"
    if not _has_interpreter(data, data[4]):
        return "is statically linked, so nothing can be preloaded"
    return None


def _interpreter(path: str) -> str | None:
    """The program that a script names in its first line."""
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        return None
    words = [os.fsdecode(word) for word in first[2:].split()] if first.startswith(b"#!") else []
    if len(words) > 1 and os.path.basename(words[0]) == "env":
        named = next((word for word in words[1:] if not word.startswith("-")), "")
        return shutil.which(named) or words[0]
    return words[0] if words else None


def judged_file(path: str) -> str:
    """The ELF file that runs when ``path`` is started: itself, or a script's interpreter."""
    for _ in range(INTERPRETERS_MAX):
        script = _interpreter(path)
        if script is None:
            break
        path = script
    return path


def check(name: str) -> str:
    """The path of the program `name`. Raises UsageProblem (not to be found), TargetUnsupported."""
    path = shutil.which(name)
    if path is None:
        what = "may not be executed" if os.path.exists(name) else "was not found"
        raise UsageProblem(f"the program {name} {what}")
    judged = judged_file(path)
    mode = os.stat(judged).st_mode if os.path.exists(judged) else 0
    if mode & stat.S_ISUID and os.stat(judged).st_uid != os.geteuid():
        raise TargetUnsupported(f"{judged} is set-uid, where preloading is off")
    reason = unsupported(judged)
    if reason is not None:
        raise TargetUnsupported(f"{judged} {reason}")
    return path
