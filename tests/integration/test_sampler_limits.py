"""Resource limits, and a stderr that cannot be written: the program does as it would without us."""

from __future__ import annotations

import fcntl
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from sampler_run import WAIT_S, Counts, build, environment, only_counted, run, segments

KIB, MIB = 1 << 10, 1 << 20
FSIZE = resource.RLIMIT_FSIZE
SMALL = [
    *((FSIZE, size) for size in (0, KIB, MIB - 1)),
    *((resource.RLIMIT_NOFILE, count) for count in range(7)),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_DATA, 2 * MIB),
    (resource.RLIMIT_STACK, 64 * KIB),
    (resource.RLIMIT_NPROC, 1),
    (resource.RLIMIT_AS, 64 * MIB),
    (resource.RLIMIT_SIGPENDING, 0),
]
NUMBERS = {"x86_64": {"ftruncate": 77, "fallocate": 285}}.get(
    platform.machine(), {"ftruncate": 46, "fallocate": 47}
)


def limited(
    folder: Path, number: int, size: int, *, sampler: bool = True, **settings: object
) -> dict[str, str]:
    """Environment of a program whose limit is set just before the sampler begins."""
    library = build("limits.c", "-shared", "-fPIC", out="limits.so")
    rate = settings.pop("rate", None)
    env = environment(folder, rate=rate, preload=[library])  # type: ignore[arg-type]
    if not sampler:
        env["LD_PRELOAD"] = str(library)
    return env | {"LIMIT": f"{number}:{size}"} | {k: str(v) for k, v in settings.items()}


@pytest.mark.parametrize("rate", [None, 1])
@pytest.mark.parametrize(("number", "size"), SMALL)
def test_a_small_limit_changes_neither_output_nor_status(
    segment_dir: Path, number: int, size: int, rate: int | None
) -> None:
    program = build("answer.c")
    plain = run([program], limited(segment_dir, number, size, sampler=False))
    result = run([program], limited(segment_dir, number, size, rate=rate))
    assert (result.returncode, result.stdout) == (plain.returncode, plain.stdout) == (0, "42\n")
    if rate is None or segments(segment_dir):
        assert result.stderr == ""
    else:
        [line] = result.stderr.splitlines()
        assert line.startswith(f"mem_profiler: no capture in {segment_dir}: ")
        assert line.endswith("runs unprofiled")


@pytest.mark.parametrize("size", [0, KIB, MIB - 1])
def test_a_limit_of_file_sizes_that_leaves_no_room_is_said(segment_dir: Path, size: int) -> None:
    result = run([build("answer.c")], limited(segment_dir, FSIZE, size, rate=1))
    assert "the limit of file sizes (ulimit -f) leaves no room for a segment" in result.stderr
    assert [*segment_dir.glob("*/*")] == []


@pytest.mark.parametrize("size", [MIB, 5 * MIB + 12345, 100 * MIB])
def test_a_limit_of_file_sizes_makes_a_smaller_segment(segment_dir: Path, size: int) -> None:
    result = run([build("answer.c")], limited(segment_dir, FSIZE, size, rate=1))
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    [path] = segments(segment_dir)
    assert size - 65536 < path.stat().st_size <= size
    assert only_counted(segment_dir).by("alloc_answer") == Counts(42, 42 * 42, 42, 42 * 42)


def test_a_limit_of_address_space_makes_a_segment_that_leaves_nearly_all_of_it(
    segment_dir: Path,
) -> None:
    """A sixteenth of what is left; where the size is asked for, a quarter at most."""
    space = 600 * MIB
    for asked, share in ({}, 16), ({"MEM_PROFILER_MAX_MEMORY": "256M"}, 4):
        env = limited(segment_dir, resource.RLIMIT_AS, space, rate=1, **asked)
        result = run([build("answer.c")], env)
        assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
        [path] = segments(segment_dir)
        assert 0.8 * space / share < path.stat().st_size < space / share
        path.unlink()


@pytest.mark.parametrize("call", ["ftruncate", "fallocate"])
def test_a_limit_that_shrinks_meanwhile_kills_nobody(segment_dir: Path, call: str) -> None:
    env = limited(segment_dir, FSIZE, KIB, rate=1, LIMIT_AT=NUMBERS[call])
    result = run([build("answer.c")], env)
    assert (result.returncode, result.stdout) == (0, "42\n")
    assert segments(segment_dir) == []


@pytest.mark.parametrize("size", [0, KIB, resource.RLIM_INFINITY])
def test_signals_are_left_as_they_were(segment_dir: Path, size: int) -> None:
    """Also where one was pending and blocked before: it stays."""
    size = min(size, (1 << 64) - 1) if size >= 0 else (1 << 64) - 1
    late = {"LIMIT_AT": NUMBERS["ftruncate"]} if size == KIB else {}
    script = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXFSZ, signal.SIGUSR1})\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "if sys.argv[1] == 'pending': os.kill(os.getpid(), signal.SIGXFSZ)\n"
        "os.execv('/bin/grep', ['grep', '-E', '^(Sig|Shd)[PBIC]', '/proc/self/status'])\n"
    )
    for pending in ("pending", "none"):
        argv = [sys.executable, "-c", script, pending]
        plain = run(argv, limited(segment_dir, FSIZE, size, sampler=False, **late))
        result = run(argv, limited(segment_dir, FSIZE, size, **late))
        assert "SigBlk" in plain.stdout
        assert result.stdout == plain.stdout


def wrong(folder: Path) -> dict[str, str]:
    """Environment that makes the sampler say a line."""
    return environment(folder) | {"MEM_PROFILER_START": "nonsense"}


def test_a_stderr_that_nobody_reads_kills_nobody(segment_dir: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [build("answer.c")], env=wrong(segment_dir), stdout=-1, stderr=writing, timeout=WAIT_S
    )
    os.close(writing)
    assert (result.returncode, result.stdout) == (0, b"42\n")


def test_a_stderr_that_is_full_keeps_nobody_waiting(segment_dir: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * 4096)
    result = subprocess.run(
        [build("answer.c")], env=wrong(segment_dir), stdout=-1, stderr=writing, timeout=WAIT_S
    )
    os.close(reading)
    os.close(writing)
    assert (result.returncode, result.stdout) == (0, b"42\n")


def test_a_stderr_at_the_limit_of_file_sizes_kills_nobody(
    segment_dir: Path, tmp_path: Path
) -> None:
    with (tmp_path / "errors").open("wb") as errors:
        env = limited(segment_dir, FSIZE, 0, rate=1)
        result = subprocess.run(
            [build("answer.c")], env=env, stdout=-1, stderr=errors, timeout=WAIT_S
        )
    assert (result.returncode, result.stdout) == (0, b"42\n")


def test_a_terminal_of_another_job_stops_nobody(segment_dir: Path) -> None:
    """With `stty tostop`, a background job that writes to its terminal is stopped."""
    script = (
        "import fcntl, os, pty, signal, sys, termios\n"
        "master, slave = pty.openpty()\n"
        "os.setsid()\n"
        "fcntl.ioctl(slave, termios.TIOCSCTTY, 0)\n"
        "mode = termios.tcgetattr(slave)\n"
        "mode[3] |= termios.TOSTOP\n"
        "termios.tcsetattr(slave, termios.TCSANOW, mode)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os.setpgid(0, 0)\n"
        "    os.dup2(slave, 2)\n"
        "    os.execve(sys.argv[1], sys.argv[1:], dict(os.environ, LD_PRELOAD=sys.argv[2]))\n"
        "status = os.waitpid(pid, os.WUNTRACED)[1]\n"
        "if os.WIFSTOPPED(status):\n"
        "    os.kill(pid, signal.SIGKILL)\n"
        "print('stopped' if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status))\n"
    )
    env = wrong(segment_dir)
    library = env.pop("LD_PRELOAD")
    result = run([sys.executable, "-c", script, build("answer.c"), library], env)
    assert result.stdout.split() == ["42", "0"], result.stderr
