"""The plan for an allocator inside the program comes by a sealed descriptor and no other way."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from c_build import compile_program
from mem_profiler.entries import plan
from redirect_facts import check, under
from sampler_run import FLAGS, TARGETS, Counted, Target, environment, only_counted, run, segments

ODD = {
    "by_malloc": 101, "by_zalloc": 102, "by_calloc": 102, "by_small": 103, "by_heap": 104,
    "by_new": 105,
}  # fmt: skip
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
JEMALLOC = ("-l:libjemalloc.a", "-lstdc++", "-lpthread", "-ldl", "-lm")
USER = 1000

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 only")


def odd() -> Path:
    """A program with an allocator of its own."""
    sources = [TARGETS / "odd_entries.c", TARGETS / "odd_entries.S"]
    return compile_program(sources, FLAGS, libs=("-lpthread",))


def plan_data() -> bytes:
    """The plan for it, for addresses as they stand in its file."""
    made = plan.of_program(odd(), 0)
    assert made is not None
    return made.data


@pytest.fixture
def opened() -> Iterator[list[int]]:
    """Descriptors that end with the test."""
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


def memory_file(data: bytes, seals: int = SEALS, owner: int | None = None) -> int:
    """A descriptor of a memory file."""
    fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, data)
    if owner is not None:
        os.fchown(fd, owner, owner)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def test_a_sealed_plan_is_followed(segment_dir: Path, opened: list[int]) -> None:
    fd = memory_file(plan_data())
    opened.append(fd)
    result = run([odd()], environment(segment_dir, rate=1, plan=f"fd:{fd}"), pass_fds=[fd])
    assert (result.returncode, result.stderr) == (0, "")
    check(only_counted(segment_dir), ODD)


def plain_file(tmp_path: Path) -> int:
    path = tmp_path / "plan"
    path.write_bytes(plan_data())
    return os.open(path, os.O_RDONLY)


WRONG: dict[str, Callable[[Path], int]] = {
    "a plain file": plain_file,
    "not sealed": lambda _: memory_file(plan_data(), 0),
    "not sealed against writing": lambda _: memory_file(plan_data(), SEALS & ~fcntl.F_SEAL_WRITE),
    "not sealed against growing": lambda _: memory_file(plan_data(), SEALS & ~fcntl.F_SEAL_GROW),
    "not sealed against cutting": lambda _: memory_file(plan_data(), SEALS & ~fcntl.F_SEAL_SHRINK),
    "seals may be added": lambda _: memory_file(plan_data(), SEALS & ~fcntl.F_SEAL_SEAL),
    "empty": lambda _: memory_file(b""),
    "too large": lambda _: memory_file(plan_data() + bytes(8 << 20)),
    "another user's": lambda _: memory_file(plan_data(), owner=USER),
    "a folder": lambda path: os.open(path, os.O_RDONLY),
    "a device": lambda _: os.open("/dev/zero", os.O_RDONLY),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_anything_else_is_left_alone_and_not_mentioned(
    segment_dir: Path, tmp_path: Path, opened: list[int], wrong: str
) -> None:
    if wrong == "another user's" and os.geteuid() != 0:
        pytest.skip("needs root")
    fd = WRONG[wrong](tmp_path)
    opened.append(fd)
    env = environment(segment_dir, rate=1, plan=f"fd:{fd}")
    result = run([odd()], env, pass_fds=[fd])
    assert (result.returncode, result.stderr) == (0, "")
    assert under(only_counted(segment_dir), "by_malloc") == (0, 0, 0)
    listed = run(["ls", "/proc/self/fd"], env, pass_fds=[fd])
    assert str(fd) in listed.stdout.split()


@pytest.mark.parametrize(
    "value", ["", "fd:", "fd:x", "fd:0", "fd:2", "fd:-1", "fd:99999999999", "7", "{path}"]
)
def test_a_value_that_names_no_plan_is_not_mentioned(
    segment_dir: Path, tmp_path: Path, value: str
) -> None:
    os.close(plain_file(tmp_path))
    value = value.format(path=tmp_path / "plan")
    sealed = memory_file(plan_data())
    saved = os.dup(0)
    os.dup2(sealed, 0)
    os.close(sealed)
    try:
        result = run([odd()], environment(segment_dir, rate=1, plan=value))
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert (result.returncode, result.stderr) == (0, "")
    assert under(only_counted(segment_dir), "by_malloc") == (0, 0, 0)


@pytest.mark.parametrize("follow", [False, True])
def test_the_program_keeps_the_descriptor_only_for_its_children(
    segment_dir: Path, opened: list[int], follow: bool
) -> None:
    fd = memory_file(plan_data())
    opened.append(fd)
    env = environment(segment_dir, rate=1, plan=f"fd:{fd}", follow_fork="1" if follow else "0")
    result = run(["ls", "/proc/self/fd"], env, pass_fds=[fd])
    assert (str(fd) in result.stdout.split()) == follow


def blocks(*libraries: str) -> Path:
    """A program that obeys, with or without a jemalloc in it."""
    return compile_program(TARGETS / "blocks.c", FLAGS, libs=libraries)


@pytest.fixture
def several(opened: list[int]) -> int:
    """A descriptor of plans for two programs, of which a third needs none."""
    jemalloc = plan.of_program(blocks(*JEMALLOC), 0)
    assert jemalloc is not None
    fd = memory_file(plan_data() + jemalloc.data)
    opened.append(fd)
    return fd


@pytest.mark.parametrize("which", ["first", "second"])
def test_of_several_plans_the_one_that_fits_is_followed(
    segment_dir: Path, several: int, which: str
) -> None:
    env = environment(segment_dir, rate=1, plan=f"exec:{several}")
    program = odd() if which == "first" else blocks(*JEMALLOC)
    result = run(["sh", "-c", f"exec {program}"], env, pass_fds=[several], input="alloc 7 100\n")
    assert (result.returncode, result.stderr) == (0, "")
    last = max(segments(segment_dir), key=lambda path: int(path.name.rpartition("-")[2]))
    if which == "first":
        check(Counted.read(last), ODD)
    else:
        assert under(Counted.read(last), "alloc_kept") == (7, 700, 7)


@pytest.mark.parametrize("which", ["one that fits", "none that fits"])
def test_plans_for_the_next_program_stay_open_until_one_fits(
    segment_dir: Path, several: int, which: str
) -> None:
    env = environment(segment_dir, plan=f"exec:{several}")
    program = blocks(*(JEMALLOC if which == "one that fits" else ()))
    with Target([program], env, pass_fds=[several]) as target:
        assert target.line() == "ready"
        held = {int(name) for name in os.listdir(f"/proc/{target.pid}/fd")}
        assert (several in held) == (which == "none that fits")


@pytest.mark.parametrize("damage", ["cut by a byte", "cut by much", "zeros"])
def test_a_damaged_plan_is_none(segment_dir: Path, opened: list[int], damage: str) -> None:
    data = plan_data()
    kept = {"cut by a byte": data[:-1], "cut by much": data[:-4000], "zeros": bytes(len(data))}
    fd = memory_file(kept[damage])
    opened.append(fd)
    result = run([odd()], environment(segment_dir, rate=1, plan=f"exec:{fd}"), pass_fds=[fd])
    assert result.returncode == 0
    assert under(only_counted(segment_dir), "by_malloc") == (0, 0, 0)
