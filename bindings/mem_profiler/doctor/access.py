"""Check that the process lives and that we may trace it."""

from __future__ import annotations

import os
from pathlib import Path

from mem_profiler.doctor.findings import Finding
from mem_profiler.process import procfs

_CAP_SYS_PTRACE = 19
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_AS_ROOT = "run as root, or as the process's user"


def may_trace_all() -> bool:
    """Whether this process has CAP_SYS_PTRACE."""
    effective = int(procfs.status_words("self").get("CapEff", "0"), 16)
    return bool(effective >> _CAP_SYS_PTRACE & 1)


def ptrace_scope() -> int:
    """Yama's restriction: 0 none, 1 descendants only, 2 CAP_SYS_PTRACE only, 3 never."""
    try:
        return int(_YAMA.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def life(pid: int) -> list[Finding]:
    """Whether there is a program to examine; a blocker ends the examination."""
    fields = procfs.stat_fields(pid)
    if not fields:
        return [Finding("process", "blocker", f"there is no process {pid}")]
    name = procfs.comm(pid)
    if fields[0] in ("Z", "X", "x"):
        return [
            Finding("process", "blocker", f"{name} has ended and waits for its parent (zombie)")
        ]
    if pid == os.getpid():
        return [Finding("process", "blocker", "this is mem_profiler itself")]
    if not int(procfs.status_words(pid).get("VmSize", "0").split()[0] or 0):
        return [Finding("process", "blocker", f"{name} is a thread of the kernel")]
    if fields[0] in ("T", "t"):
        return [_stopped(pid, name, fields[0])]
    return [Finding("process", "ok", f"{name}, {_threads(pid)}")]


def _threads(pid: int) -> str:
    count = int(procfs.status_words(pid).get("Threads", "1"))
    return "1 thread" if count == 1 else f"{count} threads"


def _stopped(pid: int, name: str, state: str) -> Finding:
    if state == "t":
        return Finding(
            "process", "warning", f"{name} is stopped by a debugger", "continue it in the debugger"
        )
    return Finding(
        "process", "warning", f"{name} is stopped", f"a capture stays empty until: kill -CONT {pid}"
    )


def permission(pid: int) -> list[Finding]:
    """Whether this user may trace the process, and if not, what prevents it."""
    words = procfs.status_words(pid)
    tracer = int(words.get("TracerPid", "0") or 0)
    findings = []
    if tracer:
        findings.append(
            Finding(
                "tracer",
                "blocker",
                f"pid {tracer} ({procfs.comm(tracer) or 'not visible here'}) traces it",
                "end that debugger or strace; a process can have only one tracer",
            )
        )
    findings.append(_user(words))
    if findings[-1].status == "ok":
        findings += _scope(pid)
    return findings


def _user(words: dict[str, str]) -> Finding:
    uids = [int(word) for word in words.get("Uid", "").split()]
    if may_trace_all():
        if uids and uids[0] == os.geteuid():
            return Finding("user", "ok", "same user")
        return Finding("user", "ok", f"a process of uid {uids[0] if uids else '?'}; you are root")
    if uids and all(uid == os.geteuid() for uid in uids[:3]):
        return Finding("user", "ok", "same user")
    return Finding("user", "blocker", f"a process of uid {uids[0] if uids else '?'}", _AS_ROOT)


def _scope(pid: int) -> list[Finding]:
    """Test the right itself: the kernel checks an open of `mem` as it checks a tracer."""
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
    except OSError as error:
        return [_refused(pid, error)]
    scope = ptrace_scope()
    if scope == 3:
        return [_forbidden(scope)]
    return [Finding("ptrace_scope", "ok", "this user may trace it")]


def _is_dumpable(pid: int) -> bool:
    """Whether the kernel gives the files of the process in /proc to its own user."""
    words = procfs.status_words(pid).get("Uid", "").split()
    try:
        owner = os.stat(f"/proc/{pid}/mem").st_uid
    except OSError:
        return True
    return len(words) < 2 or owner == int(words[1])


def _refused(pid: int, error: OSError) -> Finding:
    if not may_trace_all() and not _is_dumpable(pid):
        text = "not dumpable (prctl PR_SET_DUMPABLE, or set-uid): its own user may not trace it"
        return Finding("access", "blocker", text, "run as root")
    scope = ptrace_scope()
    if scope and not may_trace_all():
        return _forbidden(scope)
    text = f"the system refuses access ({error.strerror})"
    return Finding("access", "blocker", text, f"{_AS_ROOT}; in a container: --cap-add=SYS_PTRACE")


def _forbidden(scope: int) -> Finding:
    if scope == 3:
        cure = "only a reboot can change that; start the program with `mem_profiler run`"
    else:
        cure = "run as root, or: sysctl kernel.yama.ptrace_scope=0"
    return Finding("ptrace_scope", "blocker", f"ptrace_scope is {scope}", cure)
