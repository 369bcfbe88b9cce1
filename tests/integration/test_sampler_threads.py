"""Threads that come, go, and hand blocks over, on stacks of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampler_run import Counted, Counts, build, environment, only_counted, run


def run_threads(folder: Path, what: str, n: int) -> Counted:
    """Run threads.c at rate 1 and read what it counted."""
    result = run([build("threads.c"), what, str(n)], environment(folder, rate=1))
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stdout + result.stderr
    return only_counted(folder)


def test_threads_that_start_and_exit_are_counted_whole(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "churn", 4000)
    assert counted.missing == 0
    assert counted.by("alloc_ten") == Counts(40000, 400000, 4000, 40000)


def test_more_threads_than_the_thread_table_has_rows_lose_names_only(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "churn", 20000)
    assert counted.missing == 0
    assert counted.lost["thread_full"] > 0
    assert counted.by("alloc_ten") == Counts(200000, 2000000, 20000, 200000)


def test_the_smallest_stacks_are_large_enough(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "tiny", 160)
    assert counted.by("alloc_ten") == Counts(1600, 16000, 160, 1600)


def test_destructors_of_thread_keys_are_counted(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "last", 400)
    assert counted.by("alloc_keyed") == Counts(400, 20000, 0, 0)
    assert counted.by("alloc_late") == Counts(400, 24000, 0, 0)


def test_cancelled_threads_free_what_they_had(segment_dir: Path) -> None:
    assert run_threads(segment_dir, "cancelled", 200).by("alloc_cancelled") == Counts(
        200, 14000, 0, 0
    )


def test_blocks_freed_by_another_thread_are_freed(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "handover", 5000)
    assert counted.by("alloc_handed") == Counts(5000, 400000, 0, 0)
    assert counted.missing == 0


def test_a_process_may_exit_while_threads_allocate(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "exit", 6)
    assert counted.by("alloc_for_ever").live_blocks <= 6


@pytest.mark.parametrize("what", ["coroutine", "jit", "deep", "wild", "early"])
@pytest.mark.parametrize("unwinder", ["cfi", "fp"])
def test_stacks_that_no_unwinder_expects_cost_frames_and_not_samples(
    segment_dir: Path, what: str, unwinder: str
) -> None:
    program = build(
        "odd_stacks.c", "-fomit-frame-pointer" if unwinder == "cfi" else "-fno-omit-frame-pointer"
    )
    result = run([program, what], environment(segment_dir, rate=1, unwind=unwinder))
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    counted = only_counted(segment_dir)
    assert counted.missing == 0
    blocks = {"coroutine": 100, "jit": 100, "deep": 10, "wild": 100, "early": 10}[what]
    if what == "early":
        return  # before our own constructor nothing is counted; it only has to work
    assert counted.by(f"alloc_{what}").blocks == blocks, counted.callers()
    if what == "deep":
        assert counted.lost["truncated"] == blocks
        assert all(len(s.names) <= 129 for s in counted.stacks)
    if what == "jit" and unwinder == "cfi":
        assert counted.lost["unwind_no_module"] >= 100
