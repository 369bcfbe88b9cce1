"""Weight of each event in the estimate of live bytes, and in its variance.

A sampled block of s bytes counts s/p bytes (`mem_parser.estimate`). These weights are rounded to
multiples of 1/256 byte, and variances to whole numbers, so that sums of them are exact in double
precision up to 2^45 bytes: a running total does not depend on where adding began, on how the work
was divided, or on what was added and taken away in between.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import FloatArray, sampling_probability

_PARTS = 256.0


def weigh(size_bytes: npt.NDArray[np.uint64], rate_bytes: float) -> tuple[FloatArray, FloatArray]:
    """Return the weight of each sampled block in bytes, and its contribution to the variance."""
    size = size_bytes.astype(np.float64)
    if rate_bytes <= 1:
        return size, np.zeros(len(size))
    p = sampling_probability(size, rate_bytes)
    value = np.rint(size / p * _PARTS) / _PARTS
    return value, np.rint(size * size * (1.0 - p) / (p * p))


def rounded(value: FloatArray) -> FloatArray:
    """Return estimates of bytes, rounded as the weights of blocks are."""
    return np.asarray(np.rint(value * _PARTS) / _PARTS, dtype=np.float64)
