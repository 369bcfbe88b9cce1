"""States of a process and its program: the doctor tells each, and an attach says the same.

One row a state. An attach that is refused leaves the process in its state.
"""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from attach_run import mappings
from c_build import compile_program
from controller_tools import wait_until
from mem_parser.errors import MemError, PermissionDenied, TargetBusy, TargetUnsupported
from mem_profiler import attach as attaching
from mem_profiler.doctor import examine_process, first_blocker
from mem_profiler.process import procfs
from sampler_run import TARGETS

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
