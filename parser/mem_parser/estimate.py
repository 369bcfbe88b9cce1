"""From sampled counts to estimates with error bars.

The sampler takes a block of *s* bytes with probability ``p = 1 - exp(-s/T)``, *T* being the mean
number of bytes between samples; at T <= 1 it takes every block. The unbiased (Horvitz-Thompson)
weight of a sampled block is 1/p objects and s/p bytes, and an unbiased estimate of the variance it
adds is (1-p)/p^2 objects^2 and s^2 (1-p)/p^2 bytes^2.

Each record (one stack, one size class) gets its weight before the sum. A sum before weighing would
be biased, because 1/p is convex in s.

Sizes below 1 byte count as 1, as they do in the sampler's countdown.

**The 95 % interval** of an estimate of value m and variance v, where the next sample, still to
come, adds at most w (`Unseen`). Let F(m, v; z) = m (1 - c + z sqrt(c))^3 with c = v / 9 m^2.

    lower = F(m, v; -1.96)
    upper = the largest of  F(m + w/2, v + w^2/2; 1.96)
                            m - u + F(u + a w, v + a w^2; 1.96)
                            m + 3.0 w

A weighted sum of Poisson counts is nearly a gamma variable of the same mean and variance (M. P. Fay
and E. J. Feuer, Statistics in Medicine 16, 1997), and the cube root of a gamma variable is nearly
normal (E. B. Wilson and M. M. Hilferty, PNAS 17, 1931): F is its quantile. For n samples of one
small size, v = n w^2 and m = n w, so the lower end is w times the exact bound of a Poisson count
(F. Garwood, Biometrika 28, 1936). The upper end has half of the next sample, which makes it the
mid-P bound (G. R. Cohen and S.-Y. Yang, Statistics in Medicine 13, 1994); all of it would cover
more than is said. The lower end has none: a row is shown only if it has a sample, so small rows
that are shown are rather too high than too low.

Of the value, only u, the part of the missed blocks, is uncertain. For n samples of one size it is
u = v n / m, since v = n s^2 (1-p)/p^2 and m = n s/p; more than m it cannot be. For blocks small
against T it is m, and the second line is the first. Of blocks of some T hardly one is missed, and
the error is lopsided: the second line makes room for one more block. There a = 1 - u / 2m, from all
of the next sample to half of it. The third line is the mid-P bound of what no sample came of:
blocks worth x escape with chance exp(-x/w), and 3.0 = -ln(2 * 0.025).

*Bytes.* w is T: the bytes until the next sample are exponential of mean T, whatever blocks they are
in. So the interval holds for every mix of sizes.

*Objects.* The next sample adds 1/p, and that is bounded only by T, for a block of one byte. Blocks
that no sample came of may be many and yet hold next to no bytes, so what is known of the others
gives no upper end. The rule: w is 1/p of a block of `SMALLEST_BYTES`. Where w is more than half the
standard error, so that a few such samples would change the number, there is only a lower end: the
true number is at least F(m, v; -1.645), which is one-sided, and at least the number of samples.
Elsewhere small blocks are many among the sampled ones, and the interval above holds with that w.

*Peaks.* The highest of many estimates is high by chance. While a program replaces its live bytes R
times, the largest error of any moment exceeds z standard errors about 1 + z^2 R times as often as
that of one moment does (the scan statistic of a Poisson process: S. E. Alm, Journal of Applied
Probability 20, 1983). So the lower end is F(m, v; -z) with (1 + z^2 R) P(Z > z) = 0.025. The upper
end needs nothing: it is wrong only if that of the truly highest moment is. R, `Estimate.turnovers`,
counts what was allocated beyond the peak: of a program that only grows it is 0.

*Differences.* Unseen blocks may be on both sides: the ends are w/2 + 1.96 sqrt(v + w^2/2) from the
value, or 3.0 w if that is more. Of objects there are none where the rule above gives no upper end.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

Z95 = 1.959963984540054
"""Half width, in standard errors, of a two-sided 95 % interval of the normal distribution."""
Z95_ONE_SIDED = 1.6448536269514722
"""The same of a one-sided one."""
SMALLEST_BYTES = 8
"""Blocks smaller than that are not assumed where none was sampled: an upper end of a number of
objects would otherwise need thousands of samples."""
_CLOSED_FROM = 2.0
"""So many times the weight of the next sample is the least standard error of objects with an upper
end."""
_NONE_OF_IT = -math.log(1 - 0.95)
_LARGE = 1e6
_STEPS = 20
_NOTED_LOST = 0.05


class Unseen(NamedTuple):
    """The allowance of an estimate for blocks without a sample.

    ``weight`` is the contribution of one more sample, in the estimate's unit; 0 if every block is
    sampled. ``bounded``: no block adds more, so the interval always has an upper end.
    """

    weight: float = 0.0
    bounded: bool = True

    def scaled(self, factor: float) -> Unseen:
        """Return the allowance of an estimate times ``factor``."""
        return Unseen(self.weight * factor, self.bounded)


NOTHING_UNSEEN = Unseen()


def unseen_bytes(rate_bytes: float) -> Unseen:
    """Return the allowance of sums of bytes; ``rate_bytes`` is T, the largest of several."""
    return Unseen(float(rate_bytes)) if rate_bytes > 1 else NOTHING_UNSEEN


def unseen_objects(rate_bytes: float) -> Unseen:
    """Return the allowance of numbers of objects."""
    if rate_bytes <= 1:
        return NOTHING_UNSEEN
    return Unseen(-1.0 / math.expm1(-SMALLEST_BYTES / rate_bytes), bounded=False)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number measured by sampling.

    ``value`` and ``std_error`` are in the same unit (bytes or objects), the latter NaN if it is
    unknown; ``samples`` is the number of sampled blocks behind them. Estimates of disjoint sets of
    blocks add: values and samples as they are, errors in squares. ``signed``: a difference.
    ``turnovers``: how often the program replaced its live bytes while this, the highest of them,
    was sought.
    """

    value: float
    std_error: float = 0.0
    samples: int = 0
    unseen: Unseen = NOTHING_UNSEEN
    signed: bool = False
    turnovers: float = 0.0

    @classmethod
    def of_sums(
        cls, value: float, variance: float, samples: float, unseen: Unseen, *, exact: bool
    ) -> Estimate:
        """Return the sum of estimates from the sums of their columns; ``exact``: the error is
        known.
        """
        error = math.sqrt(max(float(variance), 0.0)) if exact else math.nan
        return cls(float(value), error, round(float(samples)), unseen)

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.value + other.value,
            math.hypot(self.std_error, other.std_error),
            self.samples + other.samples,
            max(self.unseen, other.unseen),
            self.signed or other.signed,
            max(self.turnovers, other.turnovers),
        )

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.value - other.value,
            math.hypot(self.std_error, other.std_error),
            self.samples + other.samples,
            max(self.unseen, other.unseen),
            signed=True,
        )

    @property
    def interval95(self) -> tuple[float, float]:
        """The ends of the 95 % interval. An infinite end is unknown; the other then holds alone.

        Both are NaN if the error is unknown.
        """
        if math.isnan(self.std_error):
            return math.nan, math.nan
        m, v, (w, bounded) = self.value, self.std_error**2, self.unseen
        closed = bounded or v >= (_CLOSED_FROM * w) ** 2
        if self.signed:
            half = max(0.5 * w + Z95 * math.sqrt(v + 0.5 * w * w), _NONE_OF_IT * w)
            half = half if closed else math.inf
            return m - half, m + half
        lower = _end(m, v, -_z_of_highest(Z95 if closed else Z95_ONE_SIDED, self.turnovers))
        if not bounded:
            lower = max(lower, min(float(self.samples), m))
        if not closed:
            return lower, math.inf
        missed = min(v / m * self.samples, m) if m > 0 else 0.0
        more = w * (1.0 - 0.5 * missed / m) if m > 0 else w
        upper = _end(m + 0.5 * w, v + 0.5 * w * w, Z95)
        upper = max(upper, m - missed + _end(missed + more, v + more * w, Z95))
        return lower, max(upper, m + _NONE_OF_IT * w)

    @property
    def known_ends(self) -> tuple[float | None, float | None]:
        """`interval95` for programs: None for an unknown end."""
        lower, upper = self.interval95
        return (
            lower if math.isfinite(lower) else None,
            upper if math.isfinite(upper) else None,
        )

    @property
    def margin95(self) -> float:
        """The distance from the value to the further end of the 95 % interval; infinite if it has
        only one, NaN if the error is unknown.
        """
        lower, upper = self.interval95
        return max(self.value - lower, upper - self.value)

    @property
    def is_below_its_error(self) -> bool:
        """Whether `margin95` is larger than the number; False if the error is unknown."""
        return self.margin95 > abs(self.value)


def turnovers(allocated_bytes: float, peak_bytes: float) -> float:
    """Return `Estimate.turnovers` of a peak."""
    return max(allocated_bytes / peak_bytes - 1.0, 0.0) if peak_bytes > 0 else 0.0


class Interval(NamedTuple):
    """The ends of many intervals, as columns; infinite for a missing end."""

    lower: FloatArray
    upper: FloatArray


def interval95(
    value: npt.ArrayLike,
    variance: npt.ArrayLike,
    samples: npt.ArrayLike,
    unseen: Unseen,
    *,
    signed: bool = False,
) -> Interval:
    """Return the 95 % intervals of estimates (columns of equal length), as the module's text says:
    for each what `Estimate.interval95` is. ``signed``: the values are differences.
    """
    m = np.asarray(value, dtype=np.float64)
    v = np.maximum(np.asarray(variance, dtype=np.float64), 0.0)
    w = unseen.weight
    closed = np.full(m.shape, True)
    if not unseen.bounded:
        closed = v >= (_CLOSED_FROM * w) ** 2
    if signed:
        half = np.maximum(0.5 * w + Z95 * np.sqrt(v + 0.5 * w * w), _NONE_OF_IT * w)
        half = np.where(closed, half, np.inf)
        return Interval(m - half, m + half)
    n = np.asarray(samples, dtype=np.float64)
    lower = _ends(m, v, np.where(closed, -Z95, -Z95_ONE_SIDED))
    if not unseen.bounded:
        lower = np.maximum(lower, np.minimum(n, m))
    missed = np.minimum(np.divide(v, m, out=np.zeros_like(v), where=m > 0) * n, m)
    more = w * (1.0 - 0.5 * np.divide(missed, m, out=np.zeros_like(m), where=m > 0))
    upper = _ends(m + 0.5 * w, v + 0.5 * w * w, Z95)
    upper = np.maximum(upper, m - missed + _ends(missed + more, v + more * w, Z95))
    upper = np.maximum(upper, m + _NONE_OF_IT * w)
    return Interval(lower, np.where(closed, upper, np.inf))


@functools.lru_cache
def _z_of_highest(z_of_one: float, turnovers: float) -> float:
    """Return what the largest error of any moment exceeds as often as that of one ``z_of_one``."""
    if turnovers <= 0:
        return z_of_one
    from statistics import NormalDist  # imports fractions, decimal and random, too

    normal, z = NormalDist(), z_of_one
    alpha = normal.cdf(-z_of_one)
    for _ in range(_STEPS):
        z = -normal.inv_cdf(alpha / (1 + z * z * turnovers))
    return z


def _end(mean: float, variance: float, z: float) -> float:
    """Return about the quantile at ``z`` of the gamma distribution of that mean and variance."""
    root = min(math.sqrt(variance) / (3.0 * mean), _LARGE) if mean > 0 else 0.0
    return float(mean * max(1.0 - root * (root - z), 0.0) ** 3)


def _ends(mean: FloatArray, variance: FloatArray, z: npt.ArrayLike) -> FloatArray:
    """Return `_end` of columns."""
    error = np.sqrt(variance)
    root = np.divide(error, 3.0 * mean, out=np.zeros_like(error), where=mean > 0)
    root = np.minimum(root, _LARGE)
    end: FloatArray = mean * np.maximum(1.0 - root * (root - z), 0.0) ** 3
    return end


class Unsampled(NamedTuple):
    """Estimates of many records, as columns: objects, bytes and the variances of both."""

    objects: FloatArray
    bytes: FloatArray
    objects_variance: FloatArray
    bytes_variance: FloatArray


def sampling_probability(size_bytes: npt.ArrayLike, rate_bytes: npt.ArrayLike) -> FloatArray:
    """Return the probability that the sampler takes a block of each size, in (0, 1].

    ``rate_bytes`` is T, one for all or one for each; at T <= 1 every block is sampled.
    """
    size = np.maximum(np.asarray(size_bytes, dtype=np.float64), 1.0)
    rate = np.asarray(rate_bytes, dtype=np.float64)
    return np.where(rate <= 1, 1.0, -np.expm1(-size / np.maximum(rate, 1.0)))


def unsample(
    blocks: npt.ArrayLike, size_bytes: npt.ArrayLike, rate_bytes: npt.ArrayLike
) -> Unsampled:
    """Return estimates from the sampled ``blocks`` and ``size_bytes`` (sums per record).

    Arrays of equal length; ``rate_bytes`` may be one number for all. A record without blocks gives
    0, regardless of its bytes.
    """
    n = np.asarray(blocks, dtype=np.float64)
    total = np.asarray(size_bytes, dtype=np.float64)
    mean = np.divide(total, n, out=np.zeros_like(total), where=n > 0)
    p = sampling_probability(mean, rate_bytes)
    present = n > 0
    objects = np.where(present, n / p, 0.0)
    variance = np.where(present, n * (1.0 - p) / (p * p), 0.0)
    return Unsampled(objects, objects * mean, variance, variance * mean * mean)


def unsample_part(
    part_bytes: npt.ArrayLike,
    part_squares: npt.ArrayLike,
    blocks: npt.ArrayLike,
    size_bytes: npt.ArrayLike,
    rate_bytes: npt.ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """Return estimates and variances of a part of each block's bytes, such as those in RAM.

    Whether a block is sampled depends on its size alone, so 1/p is that of the blocks, not of the
    part. Arguments are sums per record; ``part_squares`` of the squares of each block's part.
    """
    n = np.asarray(blocks, dtype=np.float64)
    total = np.asarray(size_bytes, dtype=np.float64)
    p = sampling_probability(np.divide(total, n, out=np.zeros_like(total), where=n > 0), rate_bytes)
    value = np.where(n > 0, np.asarray(part_bytes, dtype=np.float64) / p, 0.0)
    squares = np.asarray(part_squares, dtype=np.float64)
    return value, np.where(n > 0, squares * (1.0 - p) / (p * p), 0.0)


def least_in_class(size_bytes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the smallest size of the size class of each size, as the sampler makes classes
    (``sampler/core/site_key.h``): exact below 128 bytes, then 64 of each power of two.
    """
    exponent = np.frexp(np.maximum(size_bytes, 1).astype(np.float64))[1] - 1
    shift = np.maximum(exponent - 6, 0).astype(np.int64)
    least: npt.NDArray[np.int64] = (size_bytes >> shift) << shift
    return least


def are_many_lost(samples: int, missing: int) -> bool:
    """Tell whether so many samples are in no total that numbers are much too low."""
    return missing > _NOTED_LOST * (samples + missing)


def added_up(
    group: npt.NDArray[np.integer], weights: npt.NDArray[np.generic], count: int
) -> FloatArray:
    """Return the sum of the weights of each group."""
    return np.bincount(group, weights=weights, minlength=count).astype(np.float64)
