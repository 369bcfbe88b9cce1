"""Each way in which the C library lets a thread wait: an attach may borrow the thread, or not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from attach_run import Unprepared, await_threads, begin, end, only_thread
from mem_cli.profiler.attaching import attached_line
from mem_parser.errors import TargetBusy
from mem_profiler import attach as attaching
from mem_profiler.attach import remote, threads
from mem_profiler.process import procfs
from sampler_run import build

VARIABLE = "MEM_PROFILER_TEST_SYSROOT"


def build_for(name: str) -> Path:
    """Compile tests/targets/NAME for the glibc under test."""
    return build(name, *_flags(), libs=("-lpthread", "-ldl", "-lrt"))


def _flags() -> list[str]:
    root = os.environ.get(VARIABLE)
    if not root:
        return []
    folders = sorted({path.parent for path in Path(root).rglob("libc.so.6")})
    loader = next(iter(sorted(folders[0].glob("ld-linux*.so.*"))))
    return [
        f"--sysroot={root}",
        f"-Wl,--dynamic-linker={loader}",
        *(f"-Wl,-rpath,{folder}" for folder in folders),
    ]


RESTART = "restart_syscall"
CLONE3 = 435
# Kind of wait, the system call behind it, its result and errno at last.
THREADS = [
    ("join", "futex", "0 0"), ("join_timed", "futex", "0 0"), ("join_clock", "futex", "0 0"),
    ("join_c", "futex", "7 0"),
    ("cond", "futex", "0 0"), ("cond_timed", "futex", "0 0"), ("cond_clock", "futex", "0 0"),
    ("cond_c", "futex", "0 0"), ("cond_c_timed", "futex", "0 0"),
    ("sem", "futex", "0 0"), ("sem_timed", "futex", "0 0"), ("sem_clock", "futex", "0 0"),
    ("barrier", "futex", "0 0"), ("futex", "futex", "0 0"), ("handler", "futex", "0 0"),
    ("aio", "futex", "0 0"),
]  # fmt: skip
CALLS = [
    ("nanosleep", "clock_nanosleep nanosleep", "-1 4"), ("clock_nanosleep",) * 2 + ("-1 4",),
    ("sleep", "clock_nanosleep nanosleep", "1 0"),
    ("sigwait", "rt_sigtimedwait", "1 0"), ("sigwaitinfo", "rt_sigtimedwait", "1 0"),
    ("sigtimedwait", "rt_sigtimedwait", "1 0"), ("sigsuspend", "rt_sigsuspend", "-1 4"),
    ("pause", "pause ppoll", "-1 4"),
    ("poll", "poll ppoll", "1 0"), ("ppoll", "ppoll", "1 0"), ("ppoll_signal", "ppoll", "-1 4"),
    ("select", "select pselect6", "1 0"), ("pselect", "pselect6", "1 0"),
    ("epoll_wait", "epoll_wait epoll_pwait", "1 0"), ("epoll_pwait", "epoll_pwait", "1 0"),
    ("epoll_pwait2", "epoll_pwait2", "1 0"),
    ("read", "read", "1 0"), ("readv", "readv", "1 0"),
    ("write", "write", "1 0"), ("writev", "writev", "1 0"), ("fgets", "read", "1 0"),
    ("recv", "recvfrom", "1 0"), ("recvfrom", "recvfrom", "1 0"), ("recvmsg", "recvmsg", "1 0"),
    ("recvmmsg", "recvmmsg", "1 0"), ("send", "sendto", "1 0"), ("sendmsg", "sendmsg", "1 0"),
    ("accept", "accept", "1 0"), ("accept4", "accept4", "1 0"), ("connect", "connect", "0 0"),
]  # fmt: skip
FILES = [
    ("wait", "wait4", "7 0"), ("waitpid", "wait4", "7 0"), ("wait4", "wait4", "7 0"),
    ("waitid", "waitid", "7 0"), ("system", "wait4", "7 0"),
    ("open", "open openat", "1 0"), ("fopen", "open openat", "1 0"),
    ("msgrcv", "msgrcv", "8 0"), ("msgsnd", "msgsnd", "0 0"),
    ("semop", "semop semtimedop", "0 0"), ("semtimedop", "semtimedop", "0 0"),
    ("mq_receive", "mq_timedreceive", "1 0"), ("mq_send", "mq_timedsend", "0 0"),
    ("io_getevents", "io_getevents", "1 0"),
    ("flock", "flock", "0 0"), ("fcntl", "fcntl", "0 0"), ("lockf", "fcntl", "0 0"),
    ("fcntl_open", "fcntl", "0 0"),
]  # fmt: skip
LOCK = "waits for a lock"
INSIDE = "is inside the allocator or the loader"
UNSAFE = [
    ("mutex", LOCK, "0 0"), ("mutex_timed", LOCK, "0 0"), ("mutex_pi", LOCK, "0 0"),
    ("mutex_robust", LOCK, "0 0"), ("rwlock_read", LOCK, "0 0"), ("rwlock_write", LOCK, "0 0"),
    ("stdio", LOCK, "0 0"), ("once", LOCK, "0 0"),
    ("malloc", INSIDE, "1 0"), ("handler", INSIDE, "1 0"), ("loader", INSIDE, "1 0"),
    ("fork", INSIDE, "7 0"),
]  # fmt: skip


def await_wait(target: Unprepared, calls: str) -> None:
    """Wait until the main thread sleeps in one of these system calls."""
    wanted = {threads.NUMBERS.get(name, -1) for name in (*calls.split(), RESTART)}
    task = Path(f"/proc/{target.pid}/task/{target.pid}")
    give_up = time.monotonic() + 30
    while True:
        number = (task / "syscall").read_text(encoding="ascii").split()[0]
        state = procfs.stat_fields(target.pid)[0]
        if state == "S" and number.isdigit() and int(number) in wanted:
            return
        assert time.monotonic() < give_up, (number, state)
        time.sleep(0.001)


PROGRAMS = {"threads": THREADS, "calls": CALLS, "files": FILES}
IN_SOAK = {
    "join", "join_clock", "cond", "cond_clock", "cond_c", "sem", "sem_clock", "sleep", "sigwait",
    "sigtimedwait", "ppoll", "epoll_wait", "readv", "writev", "fgets", "recv", "waitpid", "wait4",
    "fopen", "fcntl", "lockf",
}  # fmt: skip
"""Another function than these leads to each of their system calls, or waits there alike."""


@pytest.mark.parametrize(
    ("program", "wait"),
    [
        pytest.param(
            f"blocked_{name}.c", row, id=row[0], marks=[pytest.mark.soak] * (row[0] in IN_SOAK)
        )
        for name, rows in PROGRAMS.items()
        for row in rows
    ],
)
def test_a_thread_that_waits_is_borrowed_and_its_call_goes_on(
    program: str, wait: tuple[str, str, str], segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, calls, result = wait
    with Unprepared.started([build_for(program), kind], segment_dir) as target:
        await_wait(target, calls)
        with only_thread(monkeypatch, target.pid):
            begin(target.pid)
            await_wait(target, calls)
            end(target.pid)
        await_wait(target, calls)
        assert target.ask("go on") == f"{kind} {result}"
        target.finish()


def test_a_thread_that_began_in_clone_is_borrowed(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all threads do with glibc before 2.34, and in containers that deny clone3()."""
    with Unprepared.started(
        [build_for("filtered.c"), "absent", str(CLONE3)], segment_dir
    ) as target:
        _, second = threads.ids(target.pid)
        with only_thread(monkeypatch, second):
            begin(target.pid)
            end(target.pid)
        target.finish()


def test_a_thread_that_the_c_library_does_not_know_is_left_alone(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SEARCH_S", 0.2)
    with Unprepared.started([build_for("raw_thread.c")], segment_dir) as target:
        _, second = threads.ids(target.pid)
        with only_thread(monkeypatch, second), pytest.raises(TargetBusy, match="no safe point"):
            begin(target.pid)
        target.kill()


def test_the_time_of_all_stops_is_told_those_in_vain_included(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Unprepared.started([build("unsafe_waits.c"), "mutex"], segment_dir) as target:
        await_wait(target, "futex")
        await_threads(target.pid, 3)
        *_, reader = threads.ids(target.pid)
        monkeypatch.setattr(threads, "waiting", lambda _pid: [target.pid, reader])
        began = time.monotonic_ns()
        answer = attaching.attach(target.pid).answer
        whole_ns = time.monotonic_ns() - began
        attaching.detach(target.pid)
        target.ask("go on")
        target.finish()

    assert answer.holds == 2
    assert 0 < answer.held_ns / 2 <= answer.longest_ns < answer.held_ns < whole_ns
    assert (
        f"paused threads 2 times, one at a time, for {answer.held_ns / 1e6:.1f} ms"
        in attached_line(target.pid, answer)
    )


@pytest.mark.parametrize("wait", UNSAFE, ids=[row[0] for row in UNSAFE])
def test_a_thread_that_may_hold_a_lock_or_waits_for_one_is_left_alone(
    wait: tuple[str, str, str], segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, why, result = wait
    monkeypatch.setattr(remote, "SEARCH_S", 0.2)
    with Unprepared.started([build_for("unsafe_waits.c"), kind], segment_dir) as target:
        await_wait(target, "futex")
        with only_thread(monkeypatch, target.pid), pytest.raises(TargetBusy, match=why):
            begin(target.pid)
        await_wait(target, "futex")
        assert target.ask("go on") == f"{kind} {result}"
        target.finish()
