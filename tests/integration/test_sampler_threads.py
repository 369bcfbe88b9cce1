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


KINDS = {
    "threads that start and exit": (
        "churn", 4000, {"alloc_ten": Counts(40000, 400000, 4000, 40000)},
    ),
    "the smallest stacks": ("tiny", 160, {"alloc_ten": Counts(1600, 16000, 160, 1600)}),
    "destructors of thread keys": (
        "last", 400,
        {"alloc_keyed": Counts(400, 20000, 0, 0), "alloc_late": Counts(400, 24000, 0, 0)},
    ),
    "cancelled threads": ("cancelled", 200, {"alloc_cancelled": Counts(200, 14000, 0, 0)}),
    "blocks freed by another thread": (
        "handover", 5000, {"alloc_handed": Counts(5000, 400000, 0, 0)},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("what", "number", "expected"), KINDS.values(), ids=KINDS)
def test_threads_of_each_kind_are_counted_whole(
    segment_dir: Path, what: str, number: int, expected: dict[str, Counts]
) -> None:
    counted = run_threads(segment_dir, what, number)
    assert {function: counted.by(function) for function in expected} == expected
    assert what not in ("churn", "handover") or counted.missing == 0


def test_more_threads_than_the_thread_table_has_rows_lose_names_only(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "churn", 20000)
    assert counted.missing == 0
    assert counted.lost["thread_full"] > 0
    assert counted.by("alloc_ten") == Counts(200000, 2000000, 20000, 200000)


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
