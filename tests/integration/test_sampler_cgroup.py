"""Programs in control groups with little memory: the segment stays a small part of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mem_parser.readers import read_profile
from mem_profiler.capture import recover
from sampler_run import Target, build, environment, run, segments

MIB = 1 << 20
# The older hierarchy first: where there are both, memory is in that one.
PLACES = (("memory", "memory.limit_in_bytes"), ("", "memory.max"), ("unified", "memory.max"))


class Group:
    """A control group of this test."""

    def __init__(self, path: Path, limit: str) -> None:
        self.path = path
        self.limit = limit

    def set_limit(self, size: int) -> None:
        """Give it so much memory."""
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
    result = run([build("answer.c")], environment(segment_dir, rate=1), preexec_fn=enter)
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    [path] = segments(segment_dir)
    assert path.stat().st_size == size


def test_a_size_that_was_asked_for_counts_up_to_a_quarter(segment_dir: Path, group: Group) -> None:
    group.set_limit(64 * MIB)
    for asked, size in (("8M", 8 * MIB), ("64M", 16 * MIB)):
        env = environment(segment_dir, rate=1) | {"MEM_PROFILER_MAX_MEMORY": asked}
        result = run([build("answer.c")], env, preexec_fn=group.enter())
        assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
        [path] = segments(segment_dir)
        assert path.stat().st_size == size
        path.unlink()


def test_a_group_too_small_for_a_segment_gets_none(segment_dir: Path, group: Group) -> None:
    group.set_limit(15 * MIB)
    for rate, words in ((None, ""), (1, "the memory limit of the control group leaves no room")):
        result = run(
            [build("answer.c")], environment(segment_dir, rate=rate), preexec_fn=group.enter()
        )
        assert (result.returncode, result.stdout) == (0, "42\n")
        assert words in result.stderr and len(result.stderr.splitlines()) == bool(rate)
        assert segments(segment_dir) == []


def test_what_is_saved_of_a_program_that_is_gone_has_the_limit_of_its_group(
    segment_dir: Path, group: Group, tmp_path: Path
) -> None:
    group.set_limit(64 * MIB)
    env = environment(segment_dir, rate=1)
    with Target([build("blocks.c")], env, preexec_fn=group.enter()) as target:
        target.line()
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
    with Target([build("blocks.c")], env, preexec_fn=group.enter()) as target:
        target.line()
        for _ in range(4):
            assert target.ask("alloc 85000 48") == "done"
        counted = target.counted()
        assert counted.by("alloc_kept").blocks + counted.missing == 340000
        target.ask("free")
        target.finish()
