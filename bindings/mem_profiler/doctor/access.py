"""Check that the process lives and that we may trace it."""

from __future__ import annotations

import os

from mem_parser.programname import named_with_file
from mem_profiler.doctor.findings import Finding
from mem_profiler.process import procfs, tracing
from mem_profiler.segment import leftovers


def life(pid: int) -> list[Finding]:
    """Whether there is a program to examine; a blocker ends the examination."""
    fields = procfs.stat_fields(pid)
    if not fields:
        error = leftovers.gone(pid)
        return [Finding("process", "blocker", str(error), error.hint or "")]
    name = procfs.program_name(pid)
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
    return [
        Finding("process", "ok", f"{named_with_file(name, procfs.exe(pid) or '')}, {_threads(pid)}")
    ]


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
                f"pid {tracer} ({procfs.program_name(tracer) or 'not visible here'}) traces it",
                "end that debugger or strace; a process can have only one tracer",
            )
        )
    findings += _right(pid, words)
    return findings


def _right(pid: int, words: dict[str, str]) -> list[Finding]:
    """Test the right itself: the kernel checks an open of `mem` as it checks a tracer."""
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))
        refused = tracing.is_filtered(pid)
    except PermissionError:
        refused = True
    except OSError as error:
        return [Finding("process", "blocker", f"pid {pid} cannot be read: {error.strerror}")]
    if refused:
        found = tracing.refusal(pid)
        return [Finding(found.check, "blocker", found.text, found.cure)]
    uid = int((words.get("Uid", "").split() or ["-1"])[0])
    same = uid == os.geteuid()
    text = "same user" if same else f"a process of {tracing.user_name(uid)}, which you may trace"
    return [
        Finding("user", "ok", text),
        Finding("ptrace_scope", "ok", "the kernel lets this user trace it"),
    ]
