"""One-sided bounds of sampled sums, exact where samples are few.

The sampled blocks are known; only the missed bytes are uncertain. The sampler takes blocks of s
bytes with p = 1 - exp(-s/T), so one sampled block stands for s (1-p)/p missed bytes with variance
s^2 (1-p)/p^2. With u and v the sums of those over the n sampled blocks, and K their own bytes,

    lower = K + G(a;     u,     v)          0 where n = 0
    upper = K + G(1 - a; u + T, v + T^2)

where G(q; m, v) is the quantile of the gamma distribution of mean m and variance v, and a is the
allowed chance of an error. The T in the upper bound is for the next sample, still to come: the
bytes until it are exponential of mean T, for all sizes of blocks. These are the bounds of
M. P. Fay and E. J. Feuer for weighted sums of Poisson counts (Statistics in Medicine 16, 1997),
applied to the missed bytes. For blocks small against T they are the exact bounds of a Poisson count
times T (F. Garwood, Biometrika 28, 1936): with 0 samples the upper bound is -ln(a) T, 3 T at 5 %;
and at T <= 1, where the sampler misses nothing, both are the value itself.

The difference of two independent estimates has the bounds of G. Y. Zou and A. Donner (Statistics in
Medicine 27, 2008), made of the bounds of both, so they are right where these are asymmetric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import Estimate, FloatArray, Unseen, sampling_probability
from mem_parser.model import BoolArray, Count, Profile, Unit

_EXACT_SHAPE = 1000.0
"""Above it the cube root of a gamma variable is normal to better than 1e-5 (E. B. Wilson and
M. M. Hilferty, PNAS 17, 1931)."""
_STEPS = 200


class Bounded(Protocol):
    """A sum with one-sided bounds at any allowed error."""

    @property
    def value(self) -> float:
        """The estimate."""

    @property
    def estimate(self) -> Estimate:
        """The estimate with its standard error."""

    def lower(self, alpha: float) -> float:
        """Return the value that the true one is below with chance ``alpha`` at most."""

    def upper(self, alpha: float) -> float:
        """Return the value that the true one is above with chance ``alpha`` at most."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sum of sampled bytes: the sampled ones, an estimate of the missed ones, and its variance.

    ``rate`` is T, 0 where the sampler misses nothing. Sums of disjoint blocks add. ``unseen``: the
    allowance of the estimate, where it is not T.
    """

    seen: float
    missed: float
    variance: float
    samples: int
    rate: float
    unseen: Unseen | None = None

    @property
    def value(self) -> float:
        """The unbiased estimate in bytes."""
        return self.seen + self.missed

    @property
    def estimate(self) -> Estimate:
        """The same as estimates elsewhere."""
        unseen = self.unseen or Unseen(self.rate)
        return Estimate(self.value, math.sqrt(self.variance), self.samples, unseen)

    def lower(self, alpha: float) -> float:
        """Return the value that the true one is below with chance ``alpha`` at most."""
        if not self.samples or self.variance <= 0:
            return self.seen if self.samples else 0.0
        return self.seen + gamma_quantile(alpha, self.missed, self.variance)

    def upper(self, alpha: float) -> float:
        """Return the value that the true one is above with chance ``alpha`` at most."""
        if self.rate <= 0:
            return self.value
        mean, variance = self.missed + self.rate, self.variance + self.rate**2
        return self.seen + gamma_quantile(1 - alpha, mean, variance)

    def scaled(self, factor: float) -> Sampled:
        """Return it times ``factor``, for bytes per second."""
        return Sampled(
            self.seen * factor, self.missed * factor, self.variance * factor**2, self.samples,
            self.rate * factor,
        )  # fmt: skip


def sampled(profile: Profile, count: Count, sites: BoolArray | None = None) -> Sampled:
    """Return the sum over ``sites`` (a mask; all without one) of blocks of ``count``."""
    blocks, size = profile.counts(count)
    rates = np.broadcast_to(np.asarray(profile.rates, dtype=np.float64), (len(blocks),))
    rate = float(np.max(profile.rates, initial=0.0))
    if sites is not None:
        blocks, size, rates = blocks[sites], size[sites], rates[sites]
    missed, variance = missed_bytes(blocks, size, rates)
    return Sampled(
        float(size[blocks > 0].sum()), float(missed.sum()), float(variance.sum()),
        int(blocks.sum()), rate if rate > 1 else 0.0,
    )  # fmt: skip


def sampled_objects(profile: Profile, count: Count) -> Sampled:
    """Return the number of blocks of ``count``; the next sample adds T of them at most, of 1 B."""
    value, variance, blocks = profile.weigh(count, Unit.OBJECTS)
    rate = float(np.max(profile.rates, initial=0.0))
    seen = float(blocks.sum())
    return Sampled(
        seen, max(float(value.sum()) - seen, 0.0), float(variance.sum()), int(seen),
        rate if rate > 1 else 0.0, profile.unseen(Unit.OBJECTS),
    )  # fmt: skip


def missed_bytes(
    blocks: npt.NDArray[np.int64], size: npt.NDArray[np.int64], rates: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return for each record the estimate of its missed bytes, and their variance."""
    n = blocks.astype(np.float64)
    mean = np.divide(size, n, out=np.zeros(len(n)), where=n > 0)
    p = sampling_probability(mean, rates)
    missed = n * mean * (1 - p) / p
    return missed, missed * mean / p


def of_reading(value: float, std_error: float, samples: int, rate: float) -> Sampled:
    """Return a sum with only value and standard error known, such as a controller's reading: all of
    it counts as missed, which widens the bounds a little.
    """
    if rate <= 1 or std_error <= 0:
        return Sampled(value, 0.0, 0.0, samples, rate if rate > 1 else 0.0)
    return Sampled(0.0, value, std_error**2, samples, rate)


def difference_lower(new: Bounded, base: Bounded, factor: float, alpha: float) -> float:
    """Return the lower bound of new - factor * base."""
    below = new.value - new.lower(alpha)
    above = factor * (base.upper(alpha) - base.value)
    return new.value - factor * base.value - math.hypot(below, above)


def difference_upper(new: Bounded, base: Bounded, factor: float, alpha: float) -> float:
    """Return the upper bound of new - factor * base."""
    above = new.upper(alpha) - new.value
    below = factor * (base.value - base.lower(alpha))
    return new.value - factor * base.value + math.hypot(above, below)


def gamma_quantile(q: float, mean: float, variance: float) -> float:
    """Return the ``q`` quantile of the gamma distribution of that mean and variance, both > 0."""
    shape, scale = mean * mean / variance, variance / mean
    c = 1 / (9 * shape)
    near = shape * max(1 - c + NormalDist().inv_cdf(q) * math.sqrt(c), 0.0) ** 3
    return scale * (near if shape > _EXACT_SHAPE else _solve(shape, q, near))


def _solve(shape: float, q: float, near: float) -> float:
    """Return where the distribution function is ``q``, to 12 digits.

    Newton's steps in the logarithm, from ``near``; halving where a step would leave the interval of
    the answer.
    """
    # Since e^-t <= 1, the function is at most x^shape / Gamma(shape + 1).
    low = math.exp(max((math.log(q) + math.lgamma(shape + 1)) / shape, -700.0))
    high = math.inf
    x = max(near, low)
    for _ in range(_STEPS):
        excess = _gamma_cdf(shape, x) - q
        low, high = (low, min(high, x)) if excess > 0 else (max(low, x), high)
        slope = math.exp(shape * math.log(x) - x - math.lgamma(shape))
        step = x * math.exp(min(-excess / slope, 1.0)) if slope > 0 else math.inf
        if not low <= step <= high:
            step = math.sqrt(low) * math.sqrt(high) if high < math.inf else 2 * x
        if abs(step - x) <= 1e-12 * x:
            return step
        x = step
    return x


def _gamma_cdf(a: float, x: float) -> float:
    """The regularized incomplete gamma function P(a, x): its series (DLMF 8.11.4) below the mean,
    its continued fraction (DLMF 8.9.2, by Lentz's method) above.
    """
    if x <= 0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        k = a
        while term > total * 1e-16:
            k += 1
            term *= x / k
            total += term
        return min(front * total, 1.0)
    b = x + 1 - a
    c, d = 1e300, 1 / b
    value = d
    for k in range(1, 10_000):
        step = k * (a - k)
        b += 2
        d = 1 / (step * d + b or 1e-300)
        c = b + step / c or 1e-300
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return max(1.0 - front * value, 0.0)
