"""At rate 1 every block is counted once, with its size; the program sees what it always saw."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from sampler_run import (
    WAIT_S,
    Controller,
    Counts,
    Target,
    build,
    environment,
    only_counted,
    run,
    segments,
)


def test_every_function_of_the_family_behaves_and_is_counted(segment_dir: Path) -> None:
    program = build("family.c")
    plain = subprocess.run([program], capture_output=True, text=True, timeout=WAIT_S)
    assert plain.returncode == 0, plain.stdout
    for rate in (1, 64, None):
        env = environment(segment_dir, rate=rate)
        assert run([program], env).stdout == plain.stdout, f"rate {rate}"
        if rate == 1:
            counted = only_counted(segment_dir)
            assert counted.missing == 0
            wanted = re.findall(r"^(\w+) in use (\d+) (\d+)$", plain.stdout, re.MULTILINE)
            assert len(wanted) == 8
            for name, blocks, size in wanted:
                here = counted.by(name)
                assert (here.live_blocks, here.live_bytes) == (int(blocks), int(size)), name
            freed = counted.by("check_freed")
            assert (freed.blocks, freed.bytes) == (10, 10 + 30 + 5 + 70000 + 5 * 64 + 36)
        for path in segments(segment_dir):
            path.unlink()


def test_each_function_of_the_family_is_frame_0_under_its_own_name(segment_dir: Path) -> None:
    run([build("family.c")], environment(segment_dir, rate=1))
    hooks = {stack.names[0] for stack in only_counted(segment_dir).stacks if "main" in stack.names}
    assert hooks == {
        "malloc", "calloc", "realloc", "reallocarray", "posix_memalign", "aligned_alloc",
        "memalign", "valloc", "pvalloc",
    }  # fmt: skip


def test_new_delete_and_exceptions_are_counted_and_work(segment_dir: Path) -> None:
    result = run([build("cxx.cc")], environment(segment_dir, rate=1))
    assert (result.returncode, result.stdout) == (0, "caught\n"), result.stderr
    counted = only_counted(segment_dir)
    assert counted.missing == 0
    kept = counted.under("_ZL8new_keptv")
    assert (kept.live_blocks, kept.live_bytes) == (4, 1000 + 256 + 100 + 333)
    assert counted.under("_ZL11new_deletedv") == Counts(3, 1000 + 256 + 55, 0, 0)
    thrown = counted.under("_ZL10catch_manyi")
    assert thrown.blocks >= 400 * (21 * 2 + 2)
    assert thrown.live_blocks == 0


def test_ten_captures_in_a_row_have_only_their_own_blocks(segment_dir: Path) -> None:
    with Target([build("blocks.c")], environment(segment_dir)) as target:
        target.line()
        with Controller(target) as controller:
            for i in range(1, 11):
                target.ask("alloc 17 4000")  # outside of any capture
                number = controller.start(1)
                assert number == i
                target.ask(f"alloc {i * 10} {i}")
                target.ask(f"churn 5 {i}")
                counted = controller.stop(number)
                target.ask("alloc 17 4000")
                assert counted.by("alloc_kept") == Counts(i * 10, i * i * 10, i * 10, i * i * 10)
                assert counted.by("alloc_churned") == Counts(5, 5 * i, 0, 0)
                assert counted.missing == 0
        target.finish()


def test_frees_after_a_stop_are_counted_until_the_next_start(segment_dir: Path) -> None:
    with Target([build("blocks.c")], environment(segment_dir)) as target:
        target.line()
        with Controller(target) as controller:
            number = controller.start(1)
            target.ask("alloc 100 10")
            assert controller.stop(number).by("alloc_kept").live_blocks == 100
            target.ask("free")
            assert target.counted().by("alloc_kept") == Counts(100, 1000, 0, 0)
            controller.start(1)
            assert target.counted().total() == Counts()


def test_blocks_freed_in_the_next_capture_do_not_count_there(segment_dir: Path) -> None:
    with Target([build("blocks.c")], environment(segment_dir)) as target:
        target.line()
        with Controller(target) as controller:
            controller.stop(controller.start(1))
            target.ask("alloc 50 10")
            number = controller.start(1)
            target.ask("alloc 60 10")
            controller.stop(number)
            number = controller.start(1)
            target.ask("free")
            target.ask("alloc 7 1")
            assert controller.stop(number).by("alloc_kept") == Counts(7, 7, 7, 7)


def test_many_live_blocks_grow_the_tables_and_stay_exact(segment_dir: Path) -> None:
    with Target([build("blocks.c")], environment(segment_dir, rate=1)) as target:
        target.line()
        target.ask("alloc 300000 3")
        counted = target.counted()
        assert counted.missing == 0, counted.lost
        assert counted.by("alloc_kept") == Counts(300000, 900000, 300000, 900000)
        target.ask("free")
        assert target.counted().by("alloc_kept").live_blocks == 0


def test_a_process_that_is_not_captured_has_one_page(segment_dir: Path) -> None:
    with Target([build("blocks.c")], environment(segment_dir)) as target:
        target.line()
        target.ask("alloc 10000 100")
        [path] = segments(segment_dir)
        assert path.stat().st_blocks * 512 == os.sysconf("SC_PAGESIZE")
        target.finish()
    assert segments(segment_dir) == []


@pytest.mark.parametrize(("rate", "tolerance"), [(1, 0.0), (512, 0.25)])
def test_the_highest_total_is_kept(segment_dir: Path, rate: int, tolerance: float) -> None:
    """A thousand blocks that lived shortly, then fewer: no reading from outside came between."""
    program = build("blocks.c")
    with Target([program], environment(segment_dir, rate=rate, seed="7")) as target:
        assert target.line() == "ready"
        target.ask("alloc 1 8")
        before = int(target.counted().control["peak"][1]["live_parts"])
        for line in ("alloc 1000 640", "free", "alloc 10 640", "churn 100 640"):
            target.ask(line)
        peak = target.counted().control["peak"][1]
    high, live = ((int(peak[name]) - before) / 256 for name in ("high_parts", "live_parts"))
    assert abs(high - 640_000) <= tolerance * 640_000
    assert abs(live - 6_400 + 8 * (rate == 1)) <= (0 if rate == 1 else 6_400)
