"""The test of a change against the exact one, and its false alarms over seeded runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.estimate import sampling_probability, unsample
from mem_parser.significance import binomial_tail, p_of_change, p_of_changes


def exact(x: int, y: int) -> float:
    """The two-sided conditional test of two Poisson counts of equal exposure."""
    return min(2 * binomial_tail(max(x, y), x + y, 0.5), 1.0)


@pytest.mark.parametrize(("x", "y"), [(4, 0), (6, 0), (9, 1), (12, 3), (20, 6), (40, 20), (90, 60)])
def test_a_change_of_a_few_samples_is_as_significant_as_in_the_exact_test(x: int, y: int) -> None:
    assert p_of_change(x - y, x + y, 1.0) == pytest.approx(exact(x, y), rel=0.4)


def test_fewer_than_six_new_samples_are_not_significant() -> None:
    assert p_of_change(5 * 65536, 5 * 65536.0**2, 65536) > 0.05
    assert p_of_change(6 * 65536, 6 * 65536.0**2, 65536) < 0.05


def test_without_any_error_every_change_is_sure_and_no_change_is_none() -> None:
    assert p_of_change(1.0, 0.0, 0.0) == 0
    assert p_of_change(0.0, 0.0, 0.0) == 1


@pytest.mark.parametrize("unit", ["bytes", "objects"])
@pytest.mark.parametrize("blocks", [80, 800, 8000])
def test_two_captures_of_the_same_blocks_rarely_seem_to_differ(unit: str, blocks: int) -> None:
    rate = 65536
    random = np.random.default_rng(blocks)
    size, count = np.array([16, 300, 4000]), np.array([blocks] * 3)
    taken = random.binomial(count, sampling_probability(size, rate), (2, 2000, 3))
    found = unsample(taken, taken * size, rate)
    value = getattr(found, unit).sum(axis=2)
    variance = getattr(found, f"{unit}_variance").sum(axis=2)
    weight = np.full(2000, float(rate))
    if unit == "objects":
        sums = value.sum(axis=0)
        weight = np.divide(variance.sum(axis=0), sums, out=np.zeros(2000), where=sums > 0)
    columns = zip(value[1] - value[0], variance.sum(axis=0), weight, strict=True)
    p = np.array([p_of_change(*map(float, row)) for row in columns])
    for alpha in (0.05, 0.01):
        assert np.mean(p <= alpha) <= alpha + 3 * math.sqrt(alpha / 2000)


@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(0, 1e15)), max_size=20), st.floats(0, 1e6)
)
def test_columns_have_the_p_values_of_their_entries(
    entries: list[tuple[float, float]], weight: float
) -> None:
    delta, variance = np.array(entries).reshape(-1, 2).T
    found = p_of_changes(delta, variance, weight)
    assert found == pytest.approx([p_of_change(d, v, weight) for d, v in entries])
