"""Tests on numbers of samples, against sums of binomial probabilities and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.significance import (
    benjamini_hochberg,
    binomial_tail,
    holm,
    normal_tail,
    p_rate_above,
    trend,
)

p_values = st.lists(st.floats(0, 1), max_size=12)


@given(st.integers(1, 60), st.integers(0, 61), st.floats(0.001, 0.999))
def test_the_tail_is_the_sum_of_the_probabilities(n: int, k: int, p: float) -> None:
    exact = math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    assert binomial_tail(k, n, p) == pytest.approx(exact, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(1000, 527), (10_000, 5083), (100_000, 50_261)])
def test_the_tail_near_the_middle_of_many_is_not_understated(n: int, k: int) -> None:
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k, n)]
    exact = math.fsum(math.exp(x - n * math.log(2)) for x in logs)
    assert binomial_tail(k, n, 0.5) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("n", [10, 1000, 10**6])
def test_at_a_half_both_tails_are_the_same(n: int) -> None:
    for k in (n // 2 + 1, n // 2 + int(n**0.5)):
        assert binomial_tail(k, n, 0.5) == pytest.approx(1 - binomial_tail(n - k + 1, n, 0.5))


def test_a_tail_far_out_is_small_and_not_negative() -> None:
    assert 0 <= binomial_tail(900, 1000, 0.5) < 1e-100
    assert binomial_tail(10**6, 10**6, 0.5) == 0.0
    assert binomial_tail(3, 5, 0.0) == 0.0
    assert binomial_tail(3, 5, 1.0) == 1.0


@pytest.mark.parametrize(("x", "v", "y", "w"), [(0, 1, 5, 1), (5, 0, 5, 1), (5, 1, 5, 0)])
def test_without_samples_or_time_nothing_is_above(x: float, v: float, y: float, w: float) -> None:
    assert p_rate_above(x, v, y, w, 1.0) == 1.0


def test_a_rate_is_judged_by_its_exposure() -> None:
    assert p_rate_above(10, 1, 0, 1, 1.0) == pytest.approx(2.0**-10)
    assert p_rate_above(10, 1, 0, 1, 3.0) == pytest.approx(0.75**10)
    assert p_rate_above(20, 2, 10, 1, 1.0) > 0.3
    assert p_rate_above(40, 1, 10, 1, 1.0) < 1e-4


def test_equal_rates_are_called_different_no_oftener_than_promised() -> None:
    random = np.random.default_rng(1)
    x, y = random.poisson(30, 4000), random.poisson(60, 4000)
    found = [p_rate_above(a, 1.0, b, 2.0, 1.0) <= 0.05 for a, b in zip(x, y, strict=True)]
    assert 0.02 < np.mean(found) <= 0.06


@given(p_values, st.floats(0.001, 0.5))
def test_holm_accepts_by_size_and_no_more_than_a_single_test_would(
    values: list[float], alpha: float
) -> None:
    stands = holm(values, alpha)
    assert len(stands) == len(values)
    assert all(p <= alpha for p, stand in zip(values, stands, strict=True) if stand)
    kept = [p for p, stand in zip(values, stands, strict=True) if stand]
    left = [p for p, stand in zip(values, stands, strict=True) if not stand]
    assert not kept or not left or max(kept) <= min(left)
    assert not values or stands[values.index(min(values))] == (min(values) <= alpha / len(values))


def test_holm_stops_at_the_first_that_fails() -> None:
    assert holm([0.04, 0.01, 0.03], 0.05) == [False, True, False]
    assert holm([0.01, 0.02, 0.03], 0.05) == [True, True, True]


@given(p_values, st.floats(0.001, 0.5))
def test_benjamini_hochberg_accepts_all_below_its_step(values: list[float], rate: float) -> None:
    stands = benjamini_hochberg(np.array(values), rate).tolist()
    ordered = sorted(values)
    steps = [p for k, p in enumerate(ordered, 1) if p * len(values) <= rate * k]
    limit = max(steps, default=-1.0)
    assert stands == [p <= limit for p in values]
    assert sum(stands) >= sum(holm(values, rate))


def test_the_normal_tail_has_its_known_values() -> None:
    assert normal_tail(0.0) == 0.5
    assert normal_tail(1.959964) == pytest.approx(0.025, rel=1e-5)
    assert normal_tail(-3.0) == pytest.approx(1 - normal_tail(3.0))


def test_a_trend_rises_with_survival_and_is_standard_normal_without() -> None:
    times = np.arange(8.0)
    births = np.full(8, 100.0)
    assert trend(times, births * times / 10, births) > 5
    assert trend(times, births * (7 - times) / 10, births) < -5
    assert trend(times, births, births) == trend(times, births * 0, births) == 0.0
    assert trend(times, births * 0, births * 0) == 0.0
    random = np.random.default_rng(2)
    found = [trend(times, random.binomial(100, 0.3, 8).astype(float), births) for _ in range(2000)]
    assert abs(np.mean(found)) < 0.1
    assert np.std(found) == pytest.approx(1.0, abs=0.07)
