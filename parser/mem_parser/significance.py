"""Tests on numbers of samples: is one rate really above a share of another, and how sure is that
for many tests at once.

Samples are a Poisson process, so two counts x and y over exposures v and w, given their sum n,
are binomial: x ~ Bin(n, v a / (v a + w b)) with rates a and b. That gives an exact test of a
against b without knowing either (J. Przyborowski, H. Wilenski, "Homogeneity of results in testing
samples from Poisson series", Biometrika 31, 1940).

For several tests at once there are Holm's correction, which bounds the chance of even one false
finding (S. Holm, Scandinavian Journal of Statistics 6, 1979), and Benjamini and Hochberg's, which
bounds the share of false ones among the findings (J. R. Statist. Soc. B 57, 1995).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import Estimate, FloatArray

RATE = 0.05
"""How often one test may be wrong, and the share of false changes among those of a table."""
_STEPS = 10_000
_TINY = 1e-300


def p_rate_above(x: float, v: float, y: float, w: float, ratio: float) -> float:
    """Return the p-value of "the rate of x is at most ``ratio`` times the rate of y".

    ``x`` and ``y`` are counts, ``v`` and ``w`` their exposures (seconds, say). Small values mean
    that the rate of x is above that share. 1 if an exposure is 0.
    """
    if v <= 0 or w <= 0 or x <= 0:
        return 1.0
    share = ratio * v / (ratio * v + w)
    return binomial_tail(round(x), round(x + y), share)


def binomial_tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X ~ Bin(n, p): the regularized incomplete beta function
    I_p(k, n - k + 1).
    """
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    return _incomplete_beta(float(k), float(n - k + 1), p)


def t_quantile(tail: float, freedom: int) -> float:
    """Return the value that a variable of Student's distribution with ``freedom`` degrees of
    freedom exceeds with chance ``tail``, below a half.
    """
    low, high = 0.0, 1.0
    while _t_tail(high, freedom) > tail:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_tail(middle, freedom) > tail else (low, middle)
    return high


def _t_tail(t: float, freedom: int) -> float:
    return 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def poisson_tail(k: int, mean: float) -> float:
    """Return P(X >= k) for X of the Poisson distribution with that small ``mean``; 0 for a mean
    above 100, from where on the normal distribution is close.
    """
    if k <= 0:
        return 1.0
    if not 0 < mean <= 100:
        return 0.0
    log = math.log(mean)
    below = math.fsum(math.exp(n * log - mean - math.lgamma(n + 1)) for n in range(min(k, 1000)))
    return max(1.0 - below, 0.0)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # At most sqrt(ab / (2 pi (a + b))), about: rounding of huge terms must not exceed that far.
    most = 0.5 * math.log(a + b)
    front = math.exp(min(scale + a * math.log(x) + b * math.log1p(-x), most))
    # The fraction converges fast below the mean only; above it the complement does.
    if x < (a + 1) / (a + b + 2):
        return min(front * _fraction(a, b, x) / a, 1.0)
    return max(1.0 - front * _fraction(b, a, 1 - x) / b, 0.0)


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method."""
    c, d = 1.0, 1.0 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            step = c * d
            value *= step
        if abs(step - 1) < 1e-14:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def normal_tail(z: float) -> float:
    """Return P(Z >= z) of the standard normal distribution."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def p_of_change(delta: float, variance: float, weight: float) -> float:
    """Return the two-sided p-value of "nothing changed" for a difference of two sampled sums.

    ``variance`` is that of the difference, ``weight`` w what one sample adds to either sum, 0 where
    nothing is missed. It is that of (|d| - w/2) / sqrt(variance + w^2/2) standard errors: with the
    continuity correction, and the half sample that the intervals of `estimate` have too. For counts
    of equal exposure it is close to the exact conditional test above, down to few samples: 4
    against 0 give 0.10 (exact: 0.125), 6 against 0 give 0.031 (0.031).
    """
    excess = abs(delta) - 0.5 * weight
    spread = variance + 0.5 * weight * weight
    if excess <= 0 or spread <= 0:
        return 1.0 if excess <= 0 else 0.0
    return 2.0 * normal_tail(excess / math.sqrt(spread))


def p_of_estimate(change: Estimate) -> float:
    """Return `p_of_change` of one estimate of a change with its own error."""
    weight = change.unseen.weight if change.unseen.bounded else 0.0
    return p_of_change(change.value, change.std_error**2, weight)


def p_of_changes(delta: FloatArray, variance: FloatArray, weight: float) -> FloatArray:
    """Return `p_of_change` of columns."""
    excess = np.abs(delta) - 0.5 * weight
    spread = variance + 0.5 * weight * weight
    result = np.where(excess <= 0, 1.0, 0.0)
    far = np.flatnonzero((excess > 0) & (spread > 0))
    score = excess[far] / np.sqrt(2.0 * spread[far])
    result[far] = [math.erfc(z) for z in score.tolist()]
    return result


def trend(times: FloatArray, survivors: FloatArray, births: FloatArray) -> float:
    """Return how many standard errors the share of survivors rises with the time of birth.

    One entry per time bucket; 0 where the data allow no test. The Cochran-Armitage test (P.
    Armitage, Biometrics 11, 1955).
    """
    total = float(births.sum())
    if total <= 0:
        return 0.0
    share = float(survivors.sum()) / total
    spread = float(births @ times**2) - float(births @ times) ** 2 / total
    variance = share * (1 - share) * spread
    if variance <= 0:
        return 0.0
    return float(times @ (survivors - births * share)) / math.sqrt(variance)


def hourly_slope(seconds: FloatArray, value: FloatArray) -> float | None:
    """Return the median slope per hour between two readings (P. K. Sen, J. Am. Stat. Assoc. 63,
    1968), which a short peak or one step does not move; None without two moments.
    """
    first, second = np.triu_indices(len(seconds), 1)
    apart = seconds[second] - seconds[first]
    some = apart > 0
    if not some.any():
        return None
    slopes = (value[second] - value[first])[some] / apart[some]
    return float(np.median(slopes)) * 3600.0


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return the findings to accept so that with chance 1 - ``alpha`` none of them is false."""
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    stands = [False] * len(p_values)
    for rank, k in enumerate(order):
        if p_values[k] * (len(p_values) - rank) > alpha:
            break
        stands[k] = True
    return stands


def beyond_chance(p_values: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which changes of one table are more than chance: a share of `RATE` is false."""
    return benjamini_hochberg(p_values, RATE)


def benjamini_hochberg(p_values: FloatArray, rate: float) -> npt.NDArray[np.bool_]:
    """Return the findings to accept so that a share of about ``rate`` at most is false."""
    count = len(p_values)
    ordered = np.sort(p_values)
    below = np.flatnonzero(ordered * count <= rate * np.arange(1, count + 1))
    limit = float(ordered[below[-1]]) if len(below) else -1.0
    return np.asarray(p_values <= limit, dtype=np.bool_)
