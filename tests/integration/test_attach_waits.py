"""Each way in which the C library lets a thread wait, and each state of a process: whether an
attach may borrow a thread, and what the doctor tells.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attach_run import Unprepared, await_threads, begin, end, mappings, only_thread
from c_build import compile_program
from controller_tools import wait_until
from mem_cli.profiler.attaching import attached_line
from mem_parser.errors import MemError, PermissionDenied, TargetBusy, TargetUnsupported
from mem_profiler import attach as attaching
from mem_profiler.attach import remote, threads
from mem_profiler.doctor import examine_process, first_blocker
from mem_profiler.process import procfs
from sampler_run import TARGETS, build

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


CAT = "/bin/cat"
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
READER = "#include <unistd.h>\nint main(void) { char c; return (int)read(0, &c, 1); }\n"
# No C library for 32 bits is needed: one system call, again and again.
PAUSE_32 = (
    "void _start(void) { for (;;) { int n = 29;"
    ' __asm__ volatile("int $0x80" : "+a"(n) : : "memory"); } }\n'
)
Started = AbstractContextManager[int]


def state_of(pid: int) -> str:
    return (procfs.stat_fields(pid) or ["-"])[0]


@contextmanager
def asleep(*argv: str | Path, comm: str = "", **options: Any) -> Iterator[int]:
    """A process that waits until the test is over."""
    words = list(map(str, argv))
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, **options
    ) as process:
        name = comm or Path(words[0]).name[:15]
        try:
            wait_until(
                lambda: procfs.comm(process.pid) == name and state_of(process.pid) == "S", name
            )
            yield process.pid
        finally:
            process.kill()


@contextmanager
def number(pid: int) -> Iterator[int]:
    yield pid


@contextmanager
def zombie() -> Iterator[int]:
    with subprocess.Popen(["true"]) as process:
        wait_until(lambda: state_of(process.pid) == "Z", "it has ended")
        yield process.pid


@contextmanager
def stopped() -> Iterator[int]:
    with asleep(CAT) as pid:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: state_of(pid) == "T", "it is stopped")
        yield pid


@contextmanager
def traced() -> Iterator[int]:
    libc = ctypes.CDLL(None, use_errno=True)
    with asleep(CAT) as pid:
        assert libc.ptrace(PTRACE_SEIZE, pid, None, None) == 0
        yield pid
        libc.ptrace(PTRACE_DETACH, pid, None, None)


@contextmanager
def without_descriptors() -> Iterator[int]:
    with asleep(CAT) as pid:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))
        yield pid


def compiled(folder: Path, text: str, *flags: str) -> Path:
    source = folder / "state.c"
    source.write_text(text, encoding="utf-8")
    try:
        return compile_program(source, flags)
    except subprocess.CalledProcessError:
        pytest.skip(f"this compiler has no {' '.join(flags)}")


def beside_musl(folder: Path) -> Started:
    library = folder / "libc.musl-x86_64.so.1"
    source = folder / "empty.c"
    source.write_text("int nothing(void) { return 0; }\n", encoding="utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", library], check=True, timeout=60)
    return asleep(CAT, env={**os.environ, "LD_PRELOAD": str(library)})


def on_musl(folder: Path) -> Started:
    """The kernel knows its loader by the file's own name, which may be `libc.so`."""
    if shutil.which("musl-gcc") is None:
        pytest.skip("no musl-gcc")
    source = folder / "state.c"
    source.write_text(READER, encoding="utf-8")
    program = folder / "state"
    subprocess.run(["musl-gcc", "-o", program, source], check=True, timeout=60)
    return asleep(program)


def with_shm(options: str) -> Started:
    script = f"mount -t tmpfs -o {options} none /dev/shm && exec cat"
    return asleep("unshare", "-m", "sh", "-c", script, comm="cat")


def built(folder: Path, *flags: str, text: str = READER) -> Started:
    program = compiled(folder, text, *flags)
    return asleep(program)


@dataclass(frozen=True)
class State:
    """How it comes about, the doctor's finding, and how an attach ends; None: well."""

    start: Callable[[Path], Started]
    check: str
    status: str
    text: str
    error: type[MemError] | None = TargetUnsupported
    cure: str = ""


BARE_32 = ("-m32", "-O1", "-static", "-nostdlib", "-fno-pie", "-no-pie")
STATES = {
    "ordinary": State(lambda _: asleep(CAT), "libc", "ok", r"^glibc 2\.", None),
    "itself": State(lambda _: number(os.getpid()), "process", "blocker", "mem_profiler itself"),
    "gone": State(lambda _: number(999_999_999), "process", "blocker", "there is no process"),
    "kernel": State(lambda _: number(2), "process", "blocker", "a thread of the kernel"),
    "zombie": State(lambda _: zombie(), "process", "blocker", "has ended .*zombie"),
    "stopped": State(
        lambda _: stopped(), "process", "warning", "is stopped", TargetBusy, "kill -CONT"
    ),
    "traced": State(
        lambda _: traced(), "tracer", "blocker", rf"^pid {os.getpid()} \(.*\) traces it",
        PermissionDenied,
    ),
    "static": State(lambda f: built(f, "-static"), "program", "blocker", "^statically linked"),
    "32 bits": State(
        lambda f: built(f, *BARE_32, text=PAUSE_32), "program", "blocker", "^a 32-bit program"
    ),
    "sanitized": State(
        lambda f: built(f, "-fsanitize=address"), "sanitizer", "blocker", "AddressSanitizer"
    ),
    "beside musl": State(beside_musl, "libc", "blocker", "musl"),
    "musl": State(on_musl, "libc", "blocker", "musl"),
    "filtered": State(
        lambda _: asleep(compile_program(TARGETS / "seccomp.c", ("-O1", "-g")), CAT, comm="cat"),
        "seccomp", "warning", "seccomp", None,
    ),
    "no descriptors": State(
        lambda _: without_descriptors(), "files", "blocker", "descriptor",
        cure="^prlimit --nofile=67 --pid ",
    ),
    "own mounts": State(
        lambda _: asleep("unshare", "-m", "cat", comm="cat"), "namespaces", "ok",
        "own mnt namespace", None,
    ),
    "read-only shm": State(lambda _: with_shm("ro"), "shm", "blocker", "mounted read-only"),
    "full shm": State(lambda _: with_shm("size=4k"), "shm", "blocker", "is full"),
}  # fmt: skip
OF_ROOT = {"read-only shm", "full shm", "own mounts"}


@pytest.mark.parametrize("name", STATES)
def test_the_doctor_tells_a_state_and_an_attach_ends_as_it_says(
    name: str, tmp_path: Path, segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in OF_ROOT:
        monkeypatch.delenv("MEM_PROFILER_DIR", raising=False)
        if os.geteuid() != 0:
            pytest.skip("needs root for a mount namespace")
    state = STATES[name]
    with state.start(tmp_path) as pid:
        before = state_of(pid), procfs.status_words(pid).get("TracerPid")
        findings = examine_process(pid)
        blocker = first_blocker(findings)
        found = next(f for f in findings if f.check == state.check)
        assert (found.status, bool(re.search(state.text, found.text))) == (state.status, True), (
            found
        )
        assert re.search(state.cure, found.cure)
        assert (blocker == found) is (state.status == "blocker")
        if state.error is None:
            attaching.attach(pid)
            attaching.detach(pid)
        else:
            with pytest.raises(state.error, match=state.text.lstrip("^")) as refused:
                attaching.attach(pid)
            assert re.search(state.cure.lstrip("^"), refused.value.hint or "")
            assert not any("mem_sampler" in path for path in mappings(pid))
        assert (state_of(pid), procfs.status_words(pid).get("TracerPid")) == before
