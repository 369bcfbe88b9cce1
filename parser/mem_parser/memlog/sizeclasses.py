"""Size classes, as the sampler has them: exact below 128 bytes, at most 1/64 wide above."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CLASS_BITS = 12
"""A class is below 2^12."""
_EXACT_BITS = 7
_HALVES_BITS = 6


def size_classes(size_bytes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the class of each size: the size itself below 128, then 64 classes for each power of
    two.
    """
    size = np.asarray(size_bytes, dtype=np.uint64)
    bits = np.frexp(size.astype(np.float64))[1].astype(np.int64)
    # A size of more than 53 bits may have been rounded up to the next power of two.
    bits -= (size >> np.maximum(bits - 1, 0).astype(np.uint64)) == 0
    shift = np.maximum(bits - _EXACT_BITS, 0)
    classes: npt.NDArray[np.int64] = (shift << _HALVES_BITS) + (
        size >> shift.astype(np.uint64)
    ).astype(np.int64)
    return classes
