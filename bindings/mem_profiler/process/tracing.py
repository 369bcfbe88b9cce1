"""The right to trace a process, and which part of it is missing after a refusal.

Model: the kernel gives the memory of a process to who has its user and groups, if the process is
dumpable and has no capabilities that the reader lacks. CAP_SYS_PTRACE in the process's user
namespace stands for all of these. Yama's ptrace_scope and security modules may still refuse.
"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mem_parser import sudo
from mem_parser.errors import MemError, PermissionDenied, ProcessGone, TargetError
from mem_profiler.process import procfs
from mem_sandbox import child, syscalls

CAP_SYS_PTRACE = 19
_NAMES = {
    0: "CHOWN", 1: "DAC_OVERRIDE", 2: "DAC_READ_SEARCH", 5: "KILL", 6: "SETGID", 7: "SETUID",
    10: "NET_BIND_SERVICE", 12: "NET_ADMIN", 13: "NET_RAW", 14: "IPC_LOCK", 18: "SYS_CHROOT",
    19: "SYS_PTRACE", 21: "SYS_ADMIN", 23: "SYS_NICE", 24: "SYS_RESOURCE", 38: "PERFMON", 39: "BPF",
}  # fmt: skip
_NAMED_MAX = 3
_PTRACE_PEEKDATA = 2
_LIMIT_S = 5.0
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_WHOLE_MAP = ["0", "0", "4294967295"]  # of the first user namespace
_AS_ROOT = "run mem_profiler as root"
_GRANT = (
    "docker run --cap-add SYS_PTRACE; Kubernetes: securityContext.capabilities.add: [SYS_PTRACE]"
)
_FILTER = "docker run --security-opt seccomp=unconfined, or --cap-add SYS_PTRACE"


@dataclass(frozen=True)
class Refusal:
    """Why this process may not trace another. ``check`` is a stable word for machines."""

    check: str
    text: str
    cure: str


def user_name(uid: int) -> str:
    """The name of a user, or the number if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def owner(pid: int) -> str:
    """The user of a process by name, or "uid 12345"; "?" when it is gone."""
    uids = _numbers(procfs.status_words(pid), "Uid")
    name = user_name(uids[0]) if uids else "?"
    return f"uid {name}" if name.isdigit() else name


def may_trace_all() -> bool:
    """Whether this process has CAP_SYS_PTRACE."""
    return bool(_capabilities("self", "CapEff") >> CAP_SYS_PTRACE & 1)


def ptrace_scope() -> int:
    """Yama's restriction: 0 none, 1 descendants only, 2 CAP_SYS_PTRACE only, 3 never."""
    try:
        return int(_YAMA.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def is_filtered(pid: int) -> bool:
    """Whether a seccomp filter of this process refuses ptrace, which such filters often do.

    A child asks, since a filter may kill; the request is void for who does not trace the process.
    """
    if procfs.status_words("self").get("Seccomp") != "2":
        return False

    def ask(_asked: child.Asked) -> bool:
        try:
            syscalls.call(syscalls.number_of("ptrace"), _PTRACE_PEEKDATA, pid)
        except OSError as error:
            return error.errno != errno.ESRCH
        return False

    try:
        return bool(child.call(ask, "the system call ptrace", _LIMIT_S))
    except MemError:
        return True


def refusal(pid: int) -> Refusal:
    """Which right is missing for a process that the kernel does not give to this one."""
    scope = ptrace_scope()
    if scope == 3:
        cure = "only a reboot can change that; start the program with `mem_profiler run`"
        return Refusal("ptrace_scope", "ptrace_scope is 3", cure)
    if may_trace_all():
        return _beyond_the_capability()
    words = procfs.status_words(pid)
    check, reason = next(_reasons(pid, words), ("", ""))
    if not reason and scope:
        cure = f"{_AS_ROOT}, or: sysctl kernel.yama.ptrace_scope=0"
        check, reason = "ptrace_scope", f"ptrace_scope is {scope}"
    elif reason:
        others = check == "user" and owner(pid) != user_name(0)
        cure = f"{_AS_ROOT} or as {owner(pid)}" if others else _AS_ROOT
    else:
        return _beyond_the_capability()
    if os.geteuid() == 0:
        return Refusal(check, f"{reason}, and root here lacks CAP_SYS_PTRACE", _grant())
    if sudo.is_refused_here():
        cure += ", in another shell: this one has no_new_privs, so that sudo cannot help"
    return Refusal(check, reason, cure)


def denied(pid: int) -> TargetError:
    """The error for a process that the kernel does not give to this one, whatever was tried."""
    if procfs.is_gone(pid):
        return ProcessGone(f"pid {pid} has ended")
    found = refusal(pid)
    return PermissionDenied(
        f"No permission to trace pid {pid} ({procfs.program_name(pid)}): {found.text}",
        hint=found.cure,
    )


def _reasons(pid: int, words: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What makes the capability necessary, in the kernel's order."""
    uids, gids = _numbers(words, "Uid"), _numbers(words, "Gid")
    if any(uid != os.geteuid() for uid in uids[:3]):
        yield "user", f"its owner is {owner(pid)}"
    if any(gid != os.getegid() for gid in gids[:3]):
        yield "access", f"it runs with another group, {gids[0]}"
    if not _is_dumpable(pid, words):
        yield "access", "it is not dumpable (prctl PR_SET_DUMPABLE, or set-uid)"
    more = _capabilities(pid, "CapPrm") & ~_capabilities("self", "CapEff")
    if more:
        bits = [bit for bit in range(more.bit_length()) if more >> bit & 1]
        named = ", ".join(f"CAP_{_NAMES.get(bit, bit)}" for bit in bits[:_NAMED_MAX])
        rest = f" and {len(bits) - _NAMED_MAX} more" if len(bits) > _NAMED_MAX else ""
        yield "access", f"it has more capabilities ({named}{rest})"


def _beyond_the_capability() -> Refusal:
    """What refuses even who has the same user or CAP_SYS_PTRACE."""
    if _text("/proc/self/uid_map").split() != _WHOLE_MAP:
        text = "it is outside of this user namespace, where CAP_SYS_PTRACE does not count"
        return Refusal("access", text, "run mem_profiler on the host, or where the process runs")
    if procfs.status_words("self").get("Seccomp") == "2":
        return Refusal("access", "a seccomp filter of this process refuses it", _FILTER)
    label = _text("/proc/self/attr/current").strip("\0\n ")
    named = label or "such as AppArmor, SELinux, Landlock"
    cure = "see the kernel's log (dmesg)"
    if "docker" in label:
        cure += ", or: docker run --security-opt apparmor=unconfined"
    return Refusal("access", f"a security module of the kernel refuses it ({named})", cure)


def _grant() -> str:
    """Who can give root the capability: whoever started the container, or a wrapper in it."""
    if _capabilities("self", "CapBnd") >> CAP_SYS_PTRACE & 1:
        return "start mem_profiler with CAP_SYS_PTRACE in its effective capabilities"
    return _GRANT


def _is_dumpable(pid: int, words: dict[str, str]) -> bool:
    """Whether the kernel gives the files of the process in /proc to its own user."""
    uids = _numbers(words, "Uid")
    try:
        return len(uids) < 2 or os.stat(f"/proc/{pid}/mem").st_uid == uids[1]
    except OSError:
        return True


def _numbers(words: dict[str, str], name: str) -> list[int]:
    return [int(word) for word in words.get(name, "").split()]


def _capabilities(pid: int | str, name: str) -> int:
    return int(procfs.status_words(pid).get(name) or "0", 16)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
