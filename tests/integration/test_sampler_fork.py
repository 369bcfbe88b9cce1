"""Children by every route: off until followed, and never a mark in their parent's numbers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampler_run import Counted, Counts, Target, build, environment, run, segments

ROUTES = ("fork", "vfork", "_Fork", "clone", "atfork", "nested")
PARENT = Counts(200, 2000, 200, 2000)


def run_route(folder: Path, route: str, **settings: str) -> tuple[Counted, list[int]]:
    """The parent's capture once its children are gone, and their pids."""
    program = build("forks.c")
    env = environment(folder, rate=1, **settings)
    with Target([program, route, program], env) as target:
        children = []
        while (line := target.line()) != "done":
            children.append(int(line.removeprefix("child ")))
        counted = target.counted()
        target.tell("go")
        target.finish()
    assert children
    return counted, children


def of_child(folder: Path, pid: int) -> list[Counted]:
    """What segments of a child hold."""
    return [Counted.read(p) for p in segments(folder) if p.name.startswith(f"{pid}-")]


@pytest.mark.parametrize("follow", ["0", "1"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_child_leaves_its_parents_numbers_alone(
    segment_dir: Path, route: str, follow: str
) -> None:
    counted, children = run_route(segment_dir, route, follow_fork=follow)
    if follow == "0" and route != "vfork":
        assert [of_child(segment_dir, pid) for pid in children] == [[]] * len(children)
    assert counted.by("alloc_parent") == PARENT
    assert counted.by("alloc_child") == Counts()
    assert counted.missing == 0
    if route in {"fork", "_Fork", "clone", "atfork"}:
        assert counted.by("child") == Counts(1, 77, 0, 0)  # freed by the parent, not by the child
    if route == "atfork":
        assert counted.by("alloc_in_handler").blocks == 2


@pytest.mark.parametrize("route", ["fork", "atfork"])
def test_a_followed_child_starts_empty_and_names_its_parent(segment_dir: Path, route: str) -> None:
    parent, [pid] = run_route(segment_dir, route, follow_fork="1")
    [child] = of_child(segment_dir, pid)
    assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)
    assert child.by("alloc_parent") == Counts()
    assert child.by("child") == Counts()
    assert child.control.number("parent_pid") == parent.control.number("pid")
    assert child.control.number("pid") == pid
    assert child.missing == 0
    if route == "atfork":
        assert child.by("alloc_in_handler").blocks <= 1


def test_a_followed_child_without_a_sample_makes_no_segment(segment_dir: Path) -> None:
    _, children = run_route(segment_dir, "silent", follow_fork="1")
    assert len(children) == 20
    assert [of_child(segment_dir, pid) for pid in children] == [[]] * 20


def test_a_followed_child_makes_its_segment_before_it_gives_up_rights(segment_dir: Path) -> None:
    _, [pid] = run_route(segment_dir, "limits", follow_fork="1")
    [child] = of_child(segment_dir, pid)
    assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)


def test_a_vfork_child_that_allocates_first_leaves_the_segment_to_its_parent(
    segment_dir: Path,
) -> None:
    _, [pid] = run_route(segment_dir, "vforks", follow_fork="1")
    [child] = of_child(segment_dir, pid)
    assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)
    assert child.missing == 1
    assert len(segments(segment_dir)) == 2


def test_a_followed_childs_child_is_followed_too(segment_dir: Path) -> None:
    _, (first, second) = run_route(segment_dir, "nested", follow_fork="1")
    [child], [grandchild] = of_child(segment_dir, first), of_child(segment_dir, second)
    assert grandchild.by("alloc_grandchild") == Counts(25, 750, 25, 750)
    assert grandchild.by("alloc_child") == Counts()
    assert grandchild.control.number("parent_pid") == first
    assert child.by("alloc_child").blocks == 51


@pytest.mark.parametrize("route", ["_Fork", "clone"])
def test_a_child_without_fork_handlers_stays_off(segment_dir: Path, route: str) -> None:
    _, [pid] = run_route(segment_dir, route, follow_fork="1")
    assert of_child(segment_dir, pid) == []


def test_an_executed_program_is_a_process_of_its_own(segment_dir: Path) -> None:
    _, [pid] = run_route(segment_dir, "vfork")
    [child] = of_child(segment_dir, pid)
    assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)
    assert child.control.number("parent_pid") == 0


@pytest.mark.parametrize("follow", ["0", "1"])
def test_forks_beside_allocating_threads_neither_hang_nor_mix(
    segment_dir: Path, follow: str
) -> None:
    counted, children = run_route(segment_dir, "threads", follow_fork=follow)
    assert len(children) == 40
    assert counted.by("alloc_parent") == PARENT
    assert counted.by("child") == Counts(40, 40 * 77, 0, 0)
    for pid in children:
        found = of_child(segment_dir, pid)
        assert len(found) == int(follow)
        for child in found:
            assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)
            assert child.by("allocate_on") == Counts()


def test_exec_in_the_same_process_starts_a_new_segment(segment_dir: Path) -> None:
    program = build("blocks.c")
    with Target([program], environment(segment_dir, rate=1)) as target:
        target.line()
        target.ask("alloc 10 10")
        target.tell(f"exec {program}")
        assert target.line() == "ready"
        target.ask("alloc 20 20")
        old, new = sorted(
            (Counted.read(path) for path in segments(segment_dir)),
            key=lambda counted: counted.control.number("exec_count"),
        )
        assert old.by("alloc_kept") == Counts(10, 100, 10, 100)
        assert new.by("alloc_kept") == Counts(20, 400, 20, 400)
        assert new.control.number("exec_count") == 1
        assert old.control.identity != new.control.identity


def test_exec_leaves_nothing_of_an_image_that_was_not_captured(segment_dir: Path) -> None:
    program = build("blocks.c")
    with Target([program], environment(segment_dir)) as target:
        target.line()
        target.tell(f"exec {program}")
        assert target.line() == "ready"
        assert len(segments(segment_dir)) == 1
        target.finish()
    assert segments(segment_dir) == []


def test_a_shell_wrapper_that_executes_ends_as_the_program(segment_dir: Path) -> None:
    program = build("forks.c")
    result = run(
        ["bash", "-c", f"x=$(true); exec {program} vfork-child"], environment(segment_dir, rate=1)
    )
    assert result.returncode == 0, result.stderr
    found = [Counted.read(path) for path in segments(segment_dir)]
    assert Counts(51, 1020, 50, 1000) in [counted.by("alloc_child") for counted in found]


FORK_STACK_MAX_BYTES = 1536  # below the function that runs fork handlers


@pytest.mark.parametrize("taken", [False, True])
def test_a_thread_with_the_smallest_stack_may_fork(segment_dir: Path, taken: bool) -> None:
    """Also where another folder for segments has to be found."""
    if taken:
        (segment_dir / f"mem_profiler.{os.geteuid()}").write_bytes(b"")
    program = build("small_stack.c", "-Wl,-z,now")  # no lazy binding, which needs more
    plain = run([program], environment(segment_dir) | {"LD_PRELOAD": ""})
    result = run([program], environment(segment_dir, rate=1, follow_fork="1"))
    assert (result.returncode, len(result.stderr.splitlines())) == (0, int(taken))
    depth, parent = result.stdout.split()
    assert parent == "parent"
    assert int(depth) - int(plain.stdout.split()[0]) <= FORK_STACK_MAX_BYTES
    counted = [Counted.read(path) for path in segments(segment_dir)]
    assert Counts(21, 441, 21, 441) in [child.by("alloc_in_child") for child in counted]
