"""What the environment asks for, resource limits, small control groups, and a stderr that cannot be
written: the program does as it would without us.
"""

import fcntl
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mem_parser.readers import read_profile
from mem_profiler.capture import recover
from sampler_run import (
    SAMPLER,
    WAIT_S,
    Counts,
    Target,
    answered,
    build,
    environment,
    only_counted,
    run,
    run_ok,
    segments,
)

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
    assert answered(limited(segment_dir, FSIZE, size, rate=1)) == ""
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
        assert answered(env) == ""
        [path] = segments(segment_dir)
        assert 0.8 * space / share < path.stat().st_size < space / share
        path.unlink()


@pytest.mark.parametrize("call", ["ftruncate", "fallocate"])
def test_a_limit_that_shrinks_meanwhile_kills_nobody(segment_dir: Path, call: str) -> None:
    env = limited(segment_dir, FSIZE, KIB, rate=1, LIMIT_AT=NUMBERS[call])
    answered(env)
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


# The older hierarchy first: where there are both, memory is in that one.
PLACES = (("memory", "memory.limit_in_bytes"), ("", "memory.max"), ("unified", "memory.max"))


class Group:
    """A control group of this test."""

    def __init__(self, path: Path, limit: str) -> None:
        self.path = path
        self.limit = limit

    def set_limit(self, size: int) -> None:
        (self.path / self.limit).write_text(str(size))

    def enter(self) -> Callable[[], None]:
        """What a child does to be in it."""
        procs = self.path / "cgroup.procs"
        return lambda: procs.write_text(str(os.getpid())) and None


@pytest.fixture
def group() -> Iterator[Group]:
    """A group with a group inside, which has the limit of the outer one."""
    for place, limit in PLACES:
        outer = Path("/sys/fs/cgroup", place, f"mem_profiler-test-{os.getpid()}")
        try:
            outer.mkdir()
        except OSError:
            continue
        if (outer / limit).exists():
            inner = outer / "inner"
            inner.mkdir()
            yield Group(outer, limit)
            inner.rmdir()
            outer.rmdir()
            return
        outer.rmdir()
    pytest.skip("needs a memory hierarchy in which groups may be made")


@pytest.mark.parametrize("inside", ["", "inner"])
@pytest.mark.parametrize(("limit", "size"), [(64, 4 * MIB), (16, MIB), (4096, 256 * MIB)])
def test_the_segment_is_a_sixteenth_of_the_groups_memory(
    segment_dir: Path, group: Group, limit: int, size: int, inside: str
) -> None:
    group.set_limit(limit * MIB)
    enter = Group(group.path / inside, "").enter()
    assert answered(environment(segment_dir, rate=1), preexec_fn=enter) == ""
    [path] = segments(segment_dir)
    assert path.stat().st_size == size


def test_a_size_that_was_asked_for_counts_up_to_a_quarter(segment_dir: Path, group: Group) -> None:
    group.set_limit(64 * MIB)
    for asked, size in (("8M", 8 * MIB), ("64M", 16 * MIB)):
        env = environment(segment_dir, rate=1) | {"MEM_PROFILER_MAX_MEMORY": asked}
        assert answered(env, preexec_fn=group.enter()) == ""
        [path] = segments(segment_dir)
        assert path.stat().st_size == size
        path.unlink()


def test_a_group_too_small_for_a_segment_gets_none(segment_dir: Path, group: Group) -> None:
    group.set_limit(15 * MIB)
    for rate, words in ((None, ""), (1, "the memory limit of the control group leaves no room")):
        result = answered(environment(segment_dir, rate=rate), preexec_fn=group.enter())
        assert words in result and len(result.splitlines()) == bool(rate)
        assert segments(segment_dir) == []


def test_what_is_saved_of_a_program_that_is_gone_has_the_limit_of_its_group(
    segment_dir: Path, group: Group, tmp_path: Path
) -> None:
    group.set_limit(64 * MIB)
    env = environment(segment_dir, rate=1)
    with Target.started([build("blocks.c")], env, preexec_fn=group.enter()) as target:
        assert target.ask("alloc 100 48") == "done"
        target.process.kill()
        target.process.wait()
    [saved], errors = recover.recover_all(str(tmp_path / "x"), root=str(segment_dir))
    assert errors == []
    assert read_profile(saved.path).capture.memory.limit_bytes == 64 * MIB


def test_a_capture_in_a_small_group_is_no_reason_to_be_killed(
    segment_dir: Path, group: Group
) -> None:
    """It takes 25 MiB of 32: with the tables of a larger group it would be too much."""
    group.set_limit(32 * MIB)
    env = environment(segment_dir, rate=1)
    with Target.started([build("blocks.c")], env, preexec_fn=group.enter()) as target:
        for _ in range(4):
            assert target.ask("alloc 85000 48") == "done"
        counted = target.counted()
        assert counted.by("alloc_kept").blocks + counted.missing == 340000
        target.ask("free")
        target.finish()


BAD = {
    "START": ["0", "-1", "x", "1024x", "2G", "99999999999999999999", " 1024", "1.5"],
    "MAX_MEMORY": ["0", "1023K", "65G", "lots"],
    "FOLLOW_FORK": ["2", "yes", "01"],
    "SEED": ["x", "-1"],
    "DEPTH": ["0", "-1", "4097", "deep"],
    "DIR": ["relative/folder", "/" + "x" * 300],
    "UNWIND": ["magic"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_an_unusable_value_is_one_line_and_the_program_runs(
    segment_dir: Path, name: str, value: str
) -> None:
    env = environment(segment_dir, rate=1) | {f"MEM_PROFILER_{name}": value}
    result = answered(env)
    [line] = result.splitlines()
    assert line.startswith(f"mem_profiler: MEM_PROFILER_{name}={value[:20]}")
    assert line.endswith("runs unprofiled")
    assert segments(segment_dir) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("START", "1k"), ("START", "1G"), ("MAX_MEMORY", "1M"), ("MAX_MEMORY", "8M"), ("ONLY", ""),
        ("FOLLOW_FORK", "1"), ("SEED", "0"), ("DEPTH", "1"), ("DEPTH", "4096"),
    ],
)  # fmt: skip
def test_a_usable_value_says_nothing(segment_dir: Path, name: str, value: str) -> None:
    env = environment(segment_dir, rate=1) | {f"MEM_PROFILER_{name}": value}
    assert answered(env) == ""
    assert len(segments(segment_dir)) == 1


def test_the_rate_is_the_one_asked_for(segment_dir: Path) -> None:
    run([build("answer.c")], environment(segment_dir) | {"MEM_PROFILER_START": "512K"})
    assert int(only_counted(segment_dir).control.capture["rate_bytes"]) == 512 << 10


@pytest.mark.parametrize(
    ("pattern", "counted"), [("answer-*", True), ("answer", False), ("*x", False), ("*", True)]
)
def test_only_names_the_executables_to_enter(
    segment_dir: Path, pattern: str, counted: bool
) -> None:
    assert answered(environment(segment_dir, rate=1, only=pattern)) == ""
    assert len(segments(segment_dir)) == int(counted)


def test_the_limit_of_memory_is_the_size_of_the_file(segment_dir: Path) -> None:
    run([build("answer.c")], environment(segment_dir, rate=1, max_memory="16M"))
    [path] = segments(segment_dir)
    assert path.stat().st_size <= 16 << 20
    assert only_counted(segment_dir).by("alloc_answer") == Counts(42, 42 * 42, 42, 42 * 42)


def test_a_small_limit_loses_what_does_not_fit_and_says_so(segment_dir: Path) -> None:
    from sampler_run import Target

    with Target.started(
        [build("blocks.c")], environment(segment_dir, rate=1, max_memory="8M")
    ) as target:
        target.ask("alloc 400000 8")
        counted = target.counted()
        assert counted.lost["live_full"] > 0
        assert counted.by("alloc_kept").blocks + counted.missing == 400000
        target.ask("free")
        target.finish()


@pytest.fixture
def open_folder() -> Path:
    """A folder that another user may go into, for set-uid programs and what they load."""
    path = Path("/usr/local/lib/mem_profiler-test")
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o755)
    except OSError:
        pytest.skip("needs root")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("secure", [True, False])
def test_a_set_uid_program_ignores_every_variable(
    segment_dir: Path, open_folder: Path, secure: bool
) -> None:
    """The sampler is linked in, since the loader drops LD_PRELOAD for such a program itself."""
    library = open_folder / "libmem_sampler.so"
    shutil.copy(SAMPLER, library)
    library.chmod(0o755)
    linked = build(
        "answer.c",
        "-Wl,--no-as-needed",
        f"-L{open_folder}",
        f"-Wl,-rpath,{open_folder}",
        libs=("-lmem_sampler",),
        out="answer-linked",
    )
    program = open_folder / "answer"
    shutil.copy(linked, program)
    program.chmod(0o4755 if secure else 0o755)
    env = environment(segment_dir, rate=1, follow_fork="nonsense" if secure else "0")
    del env["LD_PRELOAD"]
    result = run([program], env, user=65534, cwd="/")
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    assert len(segments(segment_dir)) == int(not secure)


def test_a_static_program_runs_as_ever(segment_dir: Path) -> None:
    result = run(
        [build("answer.c", "-static", out="answer-static")], environment(segment_dir, rate=1)
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    assert segments(segment_dir) == []


def test_programs_of_a_shell_pipeline_each_have_their_own(segment_dir: Path) -> None:
    program = build("answer.c")
    result = run_ok(
        ["bash", "-c", f"{program} | {program}; {program} | cat"],
        environment(segment_dir, rate=1, only="answer-*"),
    )  # fmt: skip
    assert result.stderr == ""
    assert len(segments(segment_dir)) == 3
