"""Which right is missing to trace a process: real processes, and real losses of rights."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from forked import forked
from mem_cli.errors import asks_for_root
from mem_parser.errors import ProcessGone, TargetError
from mem_profiler.doctor import access
from mem_profiler.process import tracing
from mem_sandbox import child, syscalls

USER, GROUP = 12_345, 12_346
CAPABILITIES_V3, CAP_NET_RAW = 0x20080522, 13
PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 8, 24
CONTAINER = "docker run --cap-add SYS_PTRACE"
CURE_OF_SCOPE = "CAP_SYS_PTRACE" if os.geteuid() == 0 else "sysctl kernel.yama.ptrace_scope=0"


def nothing() -> None:
    """Stay as before."""


def as_user(gid: int = USER) -> None:
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(USER, USER, USER)


def as_group() -> None:
    as_user(GROUP)


def hide() -> None:
    as_user()
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def set_capabilities(allowed: int) -> None:
    low, high = allowed & 0xFFFFFFFF, allowed >> 32
    words = struct.pack("=6I", low, low, 0, high, high, 0)
    header = struct.pack("=Ii", CAPABILITIES_V3, 0)
    assert ctypes.CDLL(None).capset(header, words) == 0


def keep_raw() -> None:
    syscalls.prctl(PR_SET_KEEPCAPS, 1)
    as_user()
    set_capabilities(1 << CAP_NET_RAW)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)


def drop() -> None:
    set_capabilities(tracing._capabilities("self", "CapEff") & ~(1 << tracing.CAP_SYS_PTRACE))


def drop_for_good() -> None:
    syscalls.prctl(PR_CAPBSET_DROP, tracing.CAP_SYS_PTRACE)
    drop()


def own_namespace() -> None:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0


def filter_ptrace() -> None:
    """Refuse ptrace with EPERM: load the number, compare it, two returns."""
    number = syscalls.number_of("ptrace")
    rows = ((0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000))
    code = syscalls.Buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
    program = syscalls.Buffer(struct.pack("@HP", len(rows), code.address))
    syscalls.call(syscalls.number_of("seccomp"), 1, 0, program.address)


def without_sudo() -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    as_user()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")
@pytest.mark.parametrize(
    ("theirs", "ours", "text", "cure"),
    [
        (nothing, as_user, "its owner is root", "run mem_profiler as root"),
        (as_user, drop_for_good, f"its owner is uid {USER}, and root here lacks", CONTAINER),
        (as_user, drop, f"its owner is uid {USER}, and root", "start mem_profiler with CAP_SYS_P"),
        (nothing, drop_for_good, "it has more capabilities (CAP_SYS_PTRACE)", CONTAINER),
        (keep_raw, as_user, "it has more capabilities (CAP_NET_RAW)", "run mem_profiler as root"),
        (as_user, as_group, f"it runs with another group, {USER}", "run mem_profiler as root"),
        (hide, as_user, "it is not dumpable", "run mem_profiler as root"),
        (as_user, own_namespace, "it is outside of this user namespace", "run mem_profiler on"),
        (nothing, filter_ptrace, "a seccomp filter of this process refuses it", "docker run --sec"),
        (nothing, without_sudo, "its owner is root", "run mem_profiler as root, in another shell"),
    ],
)
def test_the_missing_right_is_named_by_the_doctor_and_by_a_refused_attach(
    theirs: Callable[[], None], ours: Callable[[], None], text: str, cure: str
) -> None:
    def ask(pid: int) -> list[str | bool]:
        [found] = [one for one in access.permission(pid) if one.status == "blocker"]
        error = tracing.denied(pid)
        assert (str(error).partition(": ")[2], error.hint) == (found.text, found.cure)
        return [found.text, found.cure, asks_for_root(found.cure)]

    with forked(theirs) as pid:
        told = child.call(lambda _: ask(pid), "the asking process", 30.0, enter=ours)
    assert told[0].startswith(text)
    assert told[1].startswith(cure)
    assert told[2] == ("root" in cure and ours is not without_sudo)


@pytest.mark.parametrize(
    ("scope", "text", "cure"),
    [(3, "ptrace_scope is 3", "only a reboot"), (1, "ptrace_scope is 1", CURE_OF_SCOPE)],
)
def test_the_scope_of_yama_is_named_where_it_is_all_that_prevents(
    scope: int, text: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scope").write_text(f"{scope}\n")
    monkeypatch.setattr(tracing, "_YAMA", tmp_path / "scope")
    monkeypatch.setattr(tracing, "may_trace_all", lambda: False)
    found = tracing.refusal(os.getpid())
    assert (found.check, found.text.startswith(text)) == ("ptrace_scope", True)
    assert cure in found.cure


def test_a_process_that_ended_is_gone_and_not_forbidden() -> None:
    error: TargetError = tracing.denied(2**22 + 1)
    assert isinstance(error, ProcessGone)
