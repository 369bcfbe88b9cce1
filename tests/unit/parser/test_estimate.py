"""The formulas between sampled counts and estimates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mem_parser.estimate import Estimate, sampling_probability, unsample


def test_a_block_of_the_rate_is_sampled_with_probability_one_minus_one_over_e() -> None:
    assert sampling_probability(1024, 1024) == pytest.approx(1 - 1 / math.e)


@pytest.mark.parametrize("rate", [0, 1])
def test_at_rate_one_and_below_every_block_counts_once(rate: int) -> None:
    found = unsample([1000], [1000], rate)

    assert found.objects[0] == 1000
    assert found.bytes[0] == 1000
    assert found.bytes_variance[0] == 0


def test_a_sampled_block_of_size_zero_stands_for_as_many_objects_as_one_of_a_byte() -> None:
    found = unsample([2], [0], 1024)

    assert found.bytes[0] == 0
    assert found.objects[0] == pytest.approx(2 / -math.expm1(-1 / 1024))


def test_estimates_are_unbiased_and_their_error_is_the_spread_over_seeded_runs() -> None:
    rng = np.random.default_rng(7)
    sizes = np.repeat([16, 300, 5000], [40_000, 4_000, 400])
    truth = float(sizes.sum())
    estimates, errors = [], []
    for _ in range(300):
        taken = sizes[rng.random(len(sizes)) < sampling_probability(sizes, 4096)]
        blocks = [int((taken == s).sum()) for s in (16, 300, 5000)]
        found = unsample(
            blocks, [n * s for n, s in zip(blocks, (16, 300, 5000), strict=True)], 4096
        )
        estimates.append(found.bytes.sum())
        errors.append(math.sqrt(found.bytes_variance.sum()))
    standard_error = np.std(estimates) / math.sqrt(len(estimates))
    assert standard_error / truth < 0.003
    assert np.mean(estimates) == pytest.approx(truth, abs=4 * standard_error)
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.15)


def test_summing_before_weighing_is_biased_and_weighing_records_is_not() -> None:
    separate = unsample([100, 100], [100 * 16, 100 * 32768], 16384)
    together = unsample([200], [100 * 16 + 100 * 32768], 16384)

    assert abs(together.objects[0] - separate.objects.sum()) > 0.5 * separate.objects.sum()


def test_errors_of_disjoint_estimates_add_in_squares() -> None:
    assert Estimate(1, 3, 1) + Estimate(2, 4, 5) == Estimate(3, 5, 6)
