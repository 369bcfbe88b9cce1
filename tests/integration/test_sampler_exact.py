"""At rate 1 every block is counted once, with its size and names; estimates of other rates are
unbiased, within their own standard error.
"""

import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from mem_parser.estimate import Estimate, unsample, unseen_bytes, unseen_objects
from sampler_run import (
    Controller,
    Counted,
    Counts,
    Target,
    build,
    environment,
    only_counted,
    run,
    run_ok,
    segments,
    sizes_of,
)


def test_every_function_of_the_family_behaves_and_is_counted(segment_dir: Path) -> None:
    program = build("family.c")
    plain = run_ok([program])
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
    with Target.started([build("blocks.c")], environment(segment_dir)) as target:
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
    with (
        Target.started([build("blocks.c")], environment(segment_dir)) as target,
        Controller(target) as controller,
    ):
        number = controller.start(1)
        target.ask("alloc 100 10")
        assert controller.stop(number).by("alloc_kept").live_blocks == 100
        target.ask("free")
        assert target.counted().by("alloc_kept") == Counts(100, 1000, 0, 0)
        controller.start(1)
        assert target.counted().total() == Counts()


def test_blocks_freed_in_the_next_capture_do_not_count_there(segment_dir: Path) -> None:
    with (
        Target.started([build("blocks.c")], environment(segment_dir)) as target,
        Controller(target) as controller,
    ):
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
    with Target.started([build("blocks.c")], environment(segment_dir, rate=1)) as target:
        target.ask("alloc 300000 3")
        counted = target.counted()
        assert counted.missing == 0, counted.lost
        assert counted.by("alloc_kept") == Counts(300000, 900000, 300000, 900000)
        target.ask("free")
        assert target.counted().by("alloc_kept").live_blocks == 0


def test_a_process_that_is_not_captured_has_one_page(segment_dir: Path) -> None:
    with Target.started([build("blocks.c")], environment(segment_dir)) as target:
        target.ask("alloc 10000 100")
        [path] = segments(segment_dir)
        assert path.stat().st_blocks * 512 == os.sysconf("SC_PAGESIZE")
        target.finish()
    assert segments(segment_dir) == []


@pytest.mark.parametrize(("rate", "tolerance"), [(1, 0.0), (512, 0.25)])
def test_the_highest_total_is_kept(segment_dir: Path, rate: int, tolerance: float) -> None:
    """A thousand blocks that lived shortly, then fewer: no reading from outside came between."""
    program = build("blocks.c")
    with Target.started([program], environment(segment_dir, rate=rate, seed="7")) as target:
        target.ask("alloc 1 8")
        before = int(target.counted().control["peak"][1]["live_parts"])
        for line in ("alloc 1000 640", "free", "alloc 10 640", "churn 100 640"):
            target.ask(line)
        peak = target.counted().control["peak"][1]
    high, live = ((int(peak[name]) - before) / 256 for name in ("high_parts", "live_parts"))
    assert abs(high - 640_000) <= tolerance * 640_000
    assert abs(live - 6_400 + 8 * (rate == 1)) <= (0 if rate == 1 else 6_400)


RATE = 1024
RUNS = 8
ROUNDS = 60000
PLACES = ("small_blocks", "even_blocks", "large_blocks", "mixed_blocks")


def measure(folder: Path, seed: int, *args: int) -> tuple[dict[str, tuple[int, int]], Counted]:
    """Run mix once; the truth it prints (blocks, bytes) and what was counted."""
    env = environment(folder, rate=RATE, seed=str(seed))
    result = run_ok([build("mix.c"), *map(str, args)], env)
    rows = [line.split() for line in result.stdout.splitlines()]
    counted = only_counted(folder)
    for path in segments(folder):
        path.unlink()
    assert counted.missing == 0, counted.lost
    return {name: (int(blocks), int(size)) for name, blocks, size in rows}, counted


@pytest.fixture(scope="module")
def seeded(
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[dict[str, tuple[int, int]], Counted]]:
    """Runs with seeds of their own."""
    folder = tmp_path_factory.mktemp("segments")
    return [measure(folder, seed, ROUNDS) for seed in range(1, RUNS + 1)]


def summed(runs: list[tuple[dict[str, tuple[int, int]], Counted]], place: str) -> dict[str, float]:
    """Over all runs: true blocks and bytes, estimates and variances, the bytes weighed late."""
    total = dict.fromkeys(
        ("blocks", "bytes", "objects", "objects_var", "estimate", "bytes_var", "late"), 0.0
    )
    for truth, counted in runs:
        blocks, size = sizes_of(counted, place)
        weighed = unsample(blocks, size, RATE)
        late = unsample(np.array([blocks.sum()]), np.array([size.sum()]), RATE)
        total["blocks"] += truth[place][0]
        total["bytes"] += truth[place][1]
        total["objects"] += weighed.objects.sum()
        total["objects_var"] += weighed.objects_variance.sum()
        total["estimate"] += weighed.bytes.sum()
        total["bytes_var"] += weighed.bytes_variance.sum()
        total["late"] += late.bytes.sum()
    return total


@pytest.mark.parametrize("place", PLACES)
def test_bytes_and_objects_of_a_place_are_unbiased(
    seeded: list[tuple[dict[str, tuple[int, int]], Counted]], place: str
) -> None:
    total = summed(seeded, place)
    error = math.sqrt(total["bytes_var"])
    assert error <= 0.003 * total["bytes"], "the runs are too few to tell"
    assert abs(total["estimate"] - total["bytes"]) < 3.5 * error + 1e-6

    error = math.sqrt(total["objects_var"])
    assert abs(total["objects"] - total["blocks"]) < 3.5 * error + 1e-6


def test_the_total_is_unbiased(seeded: list[tuple[dict[str, tuple[int, int]], Counted]]) -> None:
    places = [summed(seeded, place) for place in PLACES]
    truth = sum(total["bytes"] for total in places)
    error = math.sqrt(sum(total["bytes_var"] for total in places))
    assert error <= 0.003 * truth
    assert abs(sum(total["estimate"] for total in places) - truth) < 3.5 * error


def test_a_sum_taken_before_weighing_would_fail_the_same_test(
    seeded: list[tuple[dict[str, tuple[int, int]], Counted]],
) -> None:
    total = summed(seeded, "mixed_blocks")
    assert abs(total["late"] - total["bytes"]) > 20 * math.sqrt(total["bytes_var"])


def test_standard_errors_are_neither_too_small_nor_too_large(
    seeded: list[tuple[dict[str, tuple[int, int]], Counted]],
) -> None:
    """Deviations of the runs in units of their own standard error have variance 1."""
    squares = []
    for run_ in seeded:
        for place in PLACES:
            total = summed([run_], place)
            if total["bytes_var"] > 0.01:
                deviation = total["estimate"] - total["bytes"]
                squares.append(deviation**2 / total["bytes_var"])
    # Chi-square over n: standard deviation sqrt(2/n).
    assert abs(np.mean(squares) - 1) < 4 * math.sqrt(2 / len(squares))


def test_intervals_of_bytes_and_blocks_hold_the_truth_that_the_program_counted(
    segment_dir: Path,
) -> None:
    """At one place in a few samples, and in thousands; in all, and for each place."""
    holds: dict[str, list[bool]] = {"bytes": [], "blocks": []}
    at_least = 0
    for seed in range(1, 17):
        truth, counted = measure(segment_dir, seed, 30 if seed % 2 else 3000)
        rows = []
        for place in PLACES:
            blocks, size = sizes_of(counted, place)
            if blocks.sum():
                rows.append((truth[place], blocks, size))
        total = tuple(sum(truth[place][k] for place in PLACES) for k in (0, 1))
        rows.append((total, *(np.concatenate([r[k] for r in rows]) for k in (1, 2))))
        for (all_blocks, all_bytes), blocks, size in rows:
            weighed, samples = unsample(blocks, size, RATE), int(blocks.sum())
            sums = (
                ("bytes", all_bytes, weighed.bytes, weighed.bytes_variance, unseen_bytes(RATE)),
                ("blocks", all_blocks, weighed.objects, weighed.objects_variance,
                 unseen_objects(RATE)),
            )  # fmt: skip
            for unit, true, value, variance, unseen in sums:
                known = Estimate(
                    float(value.sum()), math.sqrt(variance.sum()), samples, unseen
                ).interval95
                holds[unit].append(known[0] - 1e-6 <= true <= known[1] + 1e-6)
                at_least += math.isinf(known[1])

    assert at_least
    for found in holds.values():
        # 80 intervals, those of a run not independent: 95 % of them less three standard errors.
        assert len(found) >= 75
        assert np.mean(found) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / len(found))


def test_the_first_block_of_a_thread_has_no_special_chance(segment_dir: Path) -> None:
    threads = 6000
    truth, counted = measure(segment_dir, 7, 1, threads)
    blocks, size = sizes_of(counted, "first_block")
    weighed = unsample(blocks, size, RATE)
    error = math.sqrt(weighed.bytes_variance.sum())
    assert error < 0.02 * truth["first_block"][1]
    assert abs(weighed.bytes.sum() - truth["first_block"][1]) < 3.5 * error


def test_the_same_seed_gives_the_same_samples(segment_dir: Path) -> None:
    (_, one), (_, again), (_, other) = (measure(segment_dir, seed, 2000, 50) for seed in (5, 5, 6))
    counts = [{name: c.blocks for name, c in x.callers().items()} for x in (one, again, other)]
    assert counts[0] == counts[1] != counts[2]


def test_without_a_seed_every_process_draws_anew(segment_dir: Path) -> None:
    found = set()
    for _ in range(3):
        run([build("mix.c"), "500"], environment(segment_dir, rate=RATE))
        found.add(
            tuple(sorted((n, c.blocks) for n, c in only_counted(segment_dir).callers().items()))
        )
        segments(segment_dir)[0].unlink()
    assert len(found) == 3


NAMES = "abcd"


def plugins() -> dict[str, Path]:
    """Libraries alike in everything but their names and the sizes of their blocks."""
    return {
        name: build(
            "plugin.c", "-shared", "-fPIC", f"-DNAME={name}", f"-DSIZE={1000 + i}",
            out=f"plugin_{name}",
        )
        for i, name in enumerate(NAMES)
    }  # fmt: skip


@pytest.mark.parametrize("rounds", [1, 50])
def test_libraries_at_one_address_are_never_taken_for_each_other(
    segment_dir: Path, rounds: int
) -> None:
    paths = plugins()
    result = run_ok(
        [build("dlloop.c"), "loop", str(rounds), *paths.values()], environment(segment_dir, rate=1)
    )
    assert int(result.stdout) < len(paths), "the loader gave each library an address of its own"
    counted = only_counted(segment_dir)
    for i, name in enumerate(NAMES):
        size = 1000 + i
        inner = [s for s in counted.stacks if f"inner_{name}" in s.names]
        assert sum(s.counts.blocks for s in inner) == rounds
        assert {s.counts.bytes // s.counts.blocks for s in inner} == {size}
        for stack in inner:
            assert "plugin_block" in stack.names and "main" in stack.names, stack.names
    assert counted.control.number("generation") >= rounds * len(paths)


def test_threads_that_open_and_close_beside_threads_that_allocate_do_not_deadlock(
    segment_dir: Path,
) -> None:
    result = run(
        [build("dlloop.c"), "hunt", "400", *plugins().values()], environment(segment_dir, rate=1)
    )
    assert (result.returncode, result.stdout) == (0, "survived\n"), result.stderr
    counted = only_counted(segment_dir)
    assert counted.missing == 0, counted.lost
    named = 0
    for i, name in enumerate(NAMES):
        inner = [s for s in counted.stacks if s.names[1:2] == [f"inner_{name}"]]
        assert {s.counts.bytes // s.counts.blocks for s in inner} <= {1000 + i}
        assert sum(s.counts.blocks for s in inner) <= 200
        named += sum(s.counts.blocks for s in inner)
    # A thread that holds the lock of a table's growth may be off its core: others then go without.
    nameless = counted.rows.lost_stacks().values()
    assert named + sum(nameless) + counted.lost.get("module_full", 0) >= 800, counted.lost
    assert counted.by("allocate_on").live_blocks == 0


SCRIPT = """
import ctypes, sys
extension = ctypes.CDLL(sys.argv[1], mode=int(sys.argv[2]))
assert extension.extension_fill(300) == 300
assert extension.extension_throw(200) == 200
print("filled", flush=True)
sys.stdin.readline()
extension.extension_clear()
print("cleared", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", [0, 0x8], ids=["RTLD_LOCAL", "RTLD_DEEPBIND"])
def test_a_cpython_whose_cxx_extension_is_private(segment_dir: Path, mode: int) -> None:
    extension = build("extension.cc", "-shared", "-fPIC")
    env = environment(segment_dir, rate=1) | {"PYTHONMALLOC": "malloc"}
    with Target([sys.executable, "-c", SCRIPT, extension, str(mode)], env) as target:
        assert target.line() == "filled"
        counted = target.counted()
        filled = counted.under("extension_fill")
        if mode == 0:
            assert filled.live_blocks >= 301
            assert filled.live_bytes >= 300 * 501
            assert counted.under("extension_throw").blocks >= 400
        assert target.ask("go") == "cleared"
        assert target.counted().under("extension_fill").live_bytes == 0
        target.tell("end")
        target.finish()


def test_a_program_that_asks_for_jemalloc_on_glibc_does_not_find_it(segment_dir: Path) -> None:
    result = run([build("weak_jemalloc.c")], environment(segment_dir, rate=1))
    assert (result.returncode, result.stdout) == (0, "none\n"), result.stdout


def test_blocks_of_a_library_that_was_closed_are_still_in_use(segment_dir: Path) -> None:
    paths = plugins()
    run([build("dlloop.c"), "loop", "3", paths["a"]], environment(segment_dir, rate=1))
    assert only_counted(segment_dir).by("inner_a") == Counts(3, 3000, 3, 3000)
