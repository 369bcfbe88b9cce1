"""Estimates are unbiased: over seeded runs they meet the truth within their own standard error."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mem_parser.estimate import Estimate, unsample, unseen_bytes, unseen_objects
from sampler_run import Counted, build, environment, only_counted, run, segments, sizes_of

RATE = 1024
RUNS = 8
ROUNDS = 60000
PLACES = ("small_blocks", "even_blocks", "large_blocks", "mixed_blocks")


def measure(folder: Path, seed: int, *args: int) -> tuple[dict[str, tuple[int, int]], Counted]:
    """Run mix once; the truth it prints (blocks, bytes) and what was counted."""
    env = environment(folder, rate=RATE, seed=str(seed))
    result = run([build("mix.c"), *map(str, args)], env)
    assert result.returncode == 0, result.stderr
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
