"""The statistics of budgets against known truths: bounds, verdicts over tries, peaks, growth."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from budget_profiles import Made, Row
from mem_parser.budget import Budget, Limit, Measure, Report, Verdict, check, combine, needed_rate
from mem_parser.budget.baseline import Amount
from mem_parser.budget.bounds import Sampled, _gamma_cdf, gamma_quantile, of_reading
from mem_parser.budget.growth import Grown
from mem_parser.budget.measure import highest
from mem_parser.estimate import sampling_probability
from mem_parser.model import PeakSource

Sizes = npt.NDArray[np.int64]
MIB = 1 << 20
RNG = np.random.default_rng

# (blocks, size) groups; T is 1024 in all.
POPULATIONS: dict[str, list[tuple[int, int]]] = {
    "many small": [(200_000, 48)],
    "thirty samples": [(640, 48)],
    "three samples": [(64, 48)],
    "sizes about T": [(300, 1024), (100, 2048), (40, 512)],
    "one huge block among small ones": [(1, 5 * MIB), (2_000, 100)],
    "all sizes": [(3_000, 16), (500, 200), (60, 3_000), (5, 60_000)],
}


def poisson_garwood(n: int, alpha: float) -> tuple[float, float]:
    """Exact bounds of a Poisson mean, by summing the distribution itself."""

    def below(k: int, mean: float) -> float:
        return math.fsum(math.exp(j * math.log(mean) - mean - math.lgamma(j + 1)) for j in range(k))

    def solve(holds: object) -> float:
        low, high = 1e-9, 10.0 * (n + 10)
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)  # type: ignore[operator]
        return high

    lower = solve(lambda mean: 1 - below(n, mean) < alpha) if n else 0.0
    return lower, solve(lambda mean: below(n + 1, mean) > alpha)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 12, 29])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3, 0.001])
def test_below_30_samples_of_small_blocks_the_bounds_are_the_exact_poisson_ones(
    n: int, alpha: float
) -> None:
    rate = 1e6
    some = Sampled(0.0, n * rate, n * rate**2, n, rate)
    lower, upper = poisson_garwood(n, alpha)
    assert some.lower(alpha) / rate == pytest.approx(lower, rel=1e-6)
    assert some.upper(alpha) / rate == pytest.approx(upper, rel=1e-6)


def test_nothing_sampled_leaves_three_times_the_rate() -> None:
    none = Sampled(0.0, 0.0, 0.0, 0, 1024.0)
    assert none.lower(0.05) == 0
    assert none.upper(0.05) == pytest.approx(3 * 1024, rel=0.002)


def test_where_every_block_is_sampled_the_bounds_are_the_value() -> None:
    everything = Sampled(5000.0, 0.0, 0.0, 7, 0.0)
    assert (everything.lower(0.001), everything.upper(0.001)) == (5000, 5000)


@given(st.floats(1e-5, 1 - 1e-5), st.floats(1e-3, 1e9), st.floats(-5, 5))
@example(0.5, 151.0, 3.0)  # the shape comes back as slightly more than 1000
def test_a_quantile_is_where_the_distribution_reaches_it(
    q: float, mean: float, magnitude: float
) -> None:
    shape = 10**magnitude
    at = gamma_quantile(q, mean, mean**2 / shape)
    if at < 1e-280 * mean:  # below every number that can be told from 0
        assert shape < 0.1
    elif shape < 999.9:
        assert _gamma_cdf(shape, at * shape / mean) == pytest.approx(q, rel=1e-8)
    else:
        around = [gamma_quantile(q, 1.0, 1 / shape) for shape in (999.9, 1000.1)]
        assert around[0] == pytest.approx(around[1], rel=1e-4)


def draw(
    population: list[tuple[int, int]], random: np.random.Generator, draws: int, rate: float
) -> list[Sampled]:
    """What ``draws`` captures of one program see: each block sampled on its own, as the sampler
    does.
    """
    seen, missed, variance, samples = (np.zeros(draws) for _ in range(4))
    for blocks, size in population:
        p = float(sampling_probability(size, rate))
        n = random.binomial(blocks, p, draws)
        seen += n * size
        missed += n * size * (1 - p) / p
        variance += n * size**2 * (1 - p) / p**2
        samples += n
    return [
        Sampled(*map(float, row), rate if rate > 1 else 0.0)  # type: ignore[arg-type]
        for row in zip(seen, missed, variance, samples, strict=True)
    ]


def truth_of(population: list[tuple[int, int]]) -> int:
    return sum(blocks * size for blocks, size in population)


def allowed(alpha: float, draws: int) -> float:
    """The most misses that chance explains: four standard errors above ``alpha``."""
    return alpha * draws + 4 * math.sqrt(alpha * draws) + 1


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3, 0.05 / 18])
def test_each_bound_is_wrong_no_oftener_than_it_may_be(name: str, alpha: float) -> None:
    draws, truth = 2000, truth_of(POPULATIONS[name])
    captures = draw(POPULATIONS[name], RNG(7), draws, 1024.0)
    assert sum(c.lower(alpha) > truth for c in captures) <= allowed(alpha, draws)
    assert sum(c.upper(alpha) < truth for c in captures) <= allowed(alpha, draws)


def test_bounds_are_not_wider_than_they_must_be() -> None:
    draws, truth = 4000, truth_of(POPULATIONS["many small"])
    captures = draw(POPULATIONS["many small"], RNG(8), draws, 1024.0)
    assert sum(c.lower(0.05) > truth for c in captures) >= 0.035 * draws
    assert sum(c.upper(0.05) < truth for c in captures) >= 0.035 * draws


def gate(true_blocks: int, limit: float, random: np.random.Generator, tries: int = 3) -> Report:
    """A gated run of a program that holds ``true_blocks`` of 64 B, with repeats."""
    rate, report = 1024.0, None
    for attempt in range(1, tries + 1):
        p = float(sampling_probability(64, rate))
        row = Row(("parse", "main"), int(random.binomial(true_blocks, p)))
        budget = Budget((Limit(Measure.INUSE, limit),))
        subject = Made([row], rate=max(rate, 1)).subject()
        found = check([(subject, budget)], tries=tries, attempt=attempt)
        report = found if report is None else combine(report, found)
        if not report.may_be_decided:
            break
        rate = needed_rate(report, rate)
    assert report is not None
    return report


@pytest.mark.parametrize(("share", "right"), [(0.9, Verdict.PASS), (1.1, Verdict.FAIL)])
def test_ten_percent_off_the_limit_is_never_judged_wrongly(share: float, right: Verdict) -> None:
    random, blocks = RNG(9), 16384  # one MiB: about a thousand samples
    verdicts = [gate(int(share * blocks), blocks * 64, random).verdict for _ in range(200)]
    assert set(verdicts) == {right}


@pytest.mark.parametrize("runs", [200, pytest.param(800, marks=pytest.mark.soak)])
def test_on_the_limit_repeating_does_not_buy_a_verdict(runs: int) -> None:
    random, blocks = RNG(10), 16384
    reports = [gate(blocks, blocks * 64, random) for _ in range(runs)]
    # Once every block is counted, "not above the limit" is simply true.
    sampled = [r.verdict for r in reports if r.captures[0].rate_bytes > 1]
    assert sampled.count(Verdict.FAIL) <= allowed(0.05, runs)
    assert sampled.count(Verdict.PASS) <= allowed(0.05, runs)
    assert [r.verdict for r in reports].count(Verdict.FAIL) == sampled.count(Verdict.FAIL)
    assert sampled.count(Verdict.FAIL) + sampled.count(Verdict.PASS) > 0


@pytest.mark.parametrize("runs", [100, pytest.param(300, marks=pytest.mark.soak)])
def test_many_limits_on_their_values_fail_together_no_oftener_than_one(runs: int) -> None:
    random, sites = RNG(11), 12
    p = float(sampling_probability(64, 1024.0))
    failed = 0
    for _ in range(runs):
        counts = random.binomial(4096, p, sites)
        rows = [Row((f"f{k}", "main"), int(n), line=k) for k, n in enumerate(counts)]
        pairs = [
            (Made([row]).subject(), Budget((Limit(Measure.INUSE, 4096 * 64),))) for row in rows
        ]
        failed += check(pairs).verdict is Verdict.FAIL
    assert failed <= allowed(0.05, runs)
    assert failed >= 0.01 * runs


def test_the_highest_of_many_readings_is_not_over_by_chance_alone() -> None:
    """Always 1 MiB live, of ever new blocks: every reading has an error of its own."""
    random, runs, number, rate = RNG(12), 150, 200, 1024.0
    failed = passed = naive = 0
    budget = Budget((Limit(Measure.PEAK, MIB),))
    for _ in range(runs):
        counts = random.poisson(MIB / rate, number)
        readings = [(float(n) * rate, math.sqrt(n) * rate) for n in counts]
        top = int(counts.max())
        size = 1  # so small that a sample stands for T bytes
        row = Row(("f",), int(counts[-1]), size, peak=top, alloc=int(counts.sum()))
        made = Made([row], rate, readings=readings)
        profile, _ = made.profile()
        report = check([(made.subject(), budget)])
        failed += report.verdict is Verdict.FAIL
        passed += report.verdict is Verdict.PASS
        naive += highest(profile, profile).top.lower(0.05) > MIB
    assert naive > 0.9 * runs  # what would happen without care
    assert failed <= allowed(0.05, runs)
    assert passed == 0


@pytest.mark.parametrize(("samples", "turnovers"), [(40, 30), (1000, 1), (1000, 30)])
def test_the_highest_total_after_any_sample_is_not_over_by_chance_alone(
    samples: int, turnovers: int
) -> None:
    """Always 1 MiB live, the oldest byte freed for every new one, looked at after each sample."""
    random, runs = RNG(14), 200
    rate = MIB / samples
    failed = naive = 0
    for _ in range(runs):
        at = np.sort(
            random.uniform(0, (turnovers + 1) * MIB, random.poisson((turnovers + 1) * samples))
        )
        live = np.arange(1, len(at) + 1) - np.searchsorted(at, at - MIB)
        row = Row(("f",), int(live[-1]), 1, alloc=len(at))
        profile, _ = Made([row], rate, readings=[]).profile()
        profile.capture.peak_bytes = float(live.max()) * rate
        profile.capture.peak_source = PeakSource.TOTAL
        found = highest(profile, profile)
        failed += found.lower(0.05) > MIB
        naive += found.top.lower(0.05) > MIB
    assert naive > 0.1 * runs
    assert failed <= allowed(0.05, runs)


@pytest.mark.parametrize("samples", [8, 100, 3000])
def test_growth_at_its_limit_is_judged_wrongly_as_rarely_as_promised(samples: int) -> None:
    random, draws, alpha, rate = RNG(13), 1500, 0.05, 1024.0
    base = random.poisson(samples, draws)
    new = random.poisson(1.05 * samples, draws)
    above = below = 0
    for b, n in zip(base.tolist(), new.tolist(), strict=True):
        stored = Amount(b * rate, math.sqrt(b) * rate, b).bounded(rate)
        grown = Grown(of_reading(n * rate, math.sqrt(n) * rate, n, rate), stored, 1.05)
        above += grown.lower(alpha) > grown.allowed
        below += grown.upper(alpha) < grown.allowed
    assert above <= 1.3 * allowed(alpha, draws)
    assert below <= 1.3 * allowed(alpha, draws)
