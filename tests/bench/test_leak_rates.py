"""Leak verdicts on simulated programs are as often right as docs/leaks.md says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from leak_rates import (
    BEHAVIOURS,
    LEAK,
    OTHER,
    UNSURE,
    Clock,
    changing,
    interval,
    outcomes,
    stopping,
)

RUNS = 100
KIB = 1024
NAMED = {what.name: what for what in BEHAVIOURS}


@pytest.mark.parametrize(
    ("name", "rate", "watch", "verdict", "bounds"),
    [
        ("objects, exponential, mean 1 W", 64 * KIB, 30, LEAK, (0, 2)),
        ("objects, exponential, mean 1 W", 512 * KIB, 300, LEAK, (0, 2)),
        ("objects, Pareto 1.1 from 0.3 W", 64 * KIB, 60, LEAK, (0, 2)),
        ("cache, full at 0.3 W", 64 * KIB, 60, OTHER, (98, 100)),
        ("cache, full at 0.9 W", 64 * KIB, 30, LEAK, (0, 2)),
        ("cache, full at 0.9 W", 512 * KIB, 60, LEAK, (0, 2)),
        ("jobs of 0.8 W", 64 * KIB, 60, LEAK, (0, 2)),
        ("sessions, ever more", 64 * KIB, 60, LEAK, (0, 2)),
        ("leak of 100 %", 64 * KIB, 10, UNSURE, (100, 100)),
        ("leak of 100 %", 64 * KIB, 60, LEAK, (95, 100)),
        ("leak of 10 %", KIB, 60, LEAK, (88, 100)),
        ("leak of 10 % in turnover of 0.1 W", KIB, 300, LEAK, (60, 100)),
        ("leak of 10 % in turnover of 0.1 W", 64 * KIB, 300, OTHER, (0, 15)),
        # Nothing in the watch shows that these will be freed.
        ("cache, full at 1.5 W", 64 * KIB, 60, LEAK, (95, 100)),
        # Memory shows it of entries that replace ones older than the capture.
        ("cache, full of older entries", KIB, 60, LEAK, (0, 2)),
        ("cache, full of older entries", 64 * KIB, 60, LEAK, (0, 2)),
        ("cache, full of older entries", 64 * KIB, 300, LEAK, (0, 2)),
        ("leak of 100 %, memory read", KIB, 60, LEAK, (95, 100)),
        ("leak of 100 %, memory read", 64 * KIB, 60, LEAK, (95, 100)),
        ("leak of 100 %, memory read", 64 * KIB, 300, LEAK, (95, 100)),
    ],
)
def test_verdicts_are_as_often_right_as_they_were(
    name: str, rate: int, watch: float, verdict: str, bounds: tuple[int, int]
) -> None:
    found = outcomes(NAMED[name], rate, watch, RUNS)
    assert bounds[0] <= found[verdict] <= bounds[1], found


@pytest.mark.parametrize(
    ("clock", "least"),
    [(changing(1 / 4), 85), (changing(1 / 2), 92), (changing(2), 95), (changing(4), 95),
     (stopping(0.2, 1 / 6), 95), (stopping(0.45, 1 / 6), 87), (stopping(0.82, 1 / 6), 85)],
    ids=["a quarter", "half", "twice", "four times", "stops early", "stops midway", "stops late"],
)  # fmt: skip
def test_verdicts_do_not_depend_on_the_pace_of_the_machine(clock: Clock, least: int) -> None:
    leak = outcomes(NAMED["leak of 100 %"], 64 * KIB, 60, RUNS, clock=clock)
    assert leak[LEAK] >= least, leak
    assert not leak[OTHER]
    for name in ("cache, ever more slowly, 0.25 W", "cache, full at 0.9 W", "sessions, ever more"):
        found = outcomes(NAMED[name], 64 * KIB, 60, RUNS, clock=clock)
        assert found[LEAK] <= 1, (name, found)


def test_a_cache_that_fills_ever_more_slowly_is_recognised() -> None:
    found = outcomes(NAMED["cache, ever more slowly, 0.25 W"], 64 * KIB, 60, RUNS)
    assert found[OTHER] >= 98, found


def test_an_interval_of_a_share_is_that_of_wilson() -> None:
    assert interval(0, 500) == pytest.approx((0.0, 0.00762), abs=1e-4)
    assert interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
