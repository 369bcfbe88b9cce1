"""From sampled counts to estimates with error bars.

The sampler takes a block of *s* bytes with probability ``p = 1 - exp(-s/T)``, *T* being the mean
number of bytes between samples; at T <= 1 it takes every block. The unbiased (Horvitz-Thompson)
weight of a sampled block is 1/p objects and s/p bytes, and an unbiased estimate of the variance it
adds is (1-p)/p^2 objects^2 and s^2 (1-p)/p^2 bytes^2.

Each record (one stack, one size class) gets its weight before the sum. A sum before weighing would
be biased, because 1/p is convex in s.

Sizes below 1 byte count as 1, as they do in the sampler's countdown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

Z95 = 1.959963984540054
"""Half width, in standard errors, of a two-sided 95 % interval of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number measured by sampling.

    ``value`` and ``std_error`` are in the same unit (bytes or objects); ``samples`` is the number
    of sampled blocks behind them. Estimates of disjoint sets of blocks add: values and samples as
    they are, errors in squares.
    """

    value: float
    std_error: float = 0.0
    samples: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.value + other.value,
            math.hypot(self.std_error, other.std_error),
            self.samples + other.samples,
        )

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.value - other.value,
            math.hypot(self.std_error, other.std_error),
            self.samples + other.samples,
        )

    @property
    def margin95(self) -> float:
        """Half width of the 95 % interval."""
        return Z95 * self.std_error


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
    0 whatever its bytes are.
    """
    n = np.asarray(blocks, dtype=np.float64)
    total = np.asarray(size_bytes, dtype=np.float64)
    mean = np.divide(total, n, out=np.zeros_like(total), where=n > 0)
    p = sampling_probability(mean, rate_bytes)
    present = n > 0
    objects = np.where(present, n / p, 0.0)
    variance = np.where(present, n * (1.0 - p) / (p * p), 0.0)
    return Unsampled(objects, objects * mean, variance, variance * mean * mean)
