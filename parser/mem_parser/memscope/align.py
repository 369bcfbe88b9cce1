"""Align two sequences: a longest common subsequence, exactly, also of long ones with repeats.

The lengths of common subsequences of all prefixes are kept as differences, one bit each (H. Hyyrö,
"Bit-Parallel LCS-length Computation Revisited", AWOCA 2004): a row of a sequence against all of the
other is a few operations on one long integer. So the work is the product of both lengths divided by
the bits that a processor handles at once, whatever the sequences are. All rows together are kept
for parts that are small enough; larger ones are split where both halves' lengths add up to the most
(D. S. Hirschberg, Communications of the ACM 18(6), 1975).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from mem_parser.memscope.rows import IntArray

KEPT_BYTES = 48 << 20
"""Rows of a part that may be kept."""
_MASK_BYTES = 192 << 20
_OFTEN = 8


def align(
    left: Sequence[Hashable], right: Sequence[Hashable], kept_bytes: int = KEPT_BYTES
) -> list[tuple[int, int]]:
    """Return the pairs of equal places, ascending on both sides: as many as there can be."""
    known: dict[Hashable, int] = {}
    a = np.array([known.setdefault(one, len(known)) for one in left], dtype=np.int64)
    b = np.array([known.setdefault(one, len(known)) for one in right], dtype=np.int64)
    # What one side alone has can be in no pair.
    a_at, b_at = np.flatnonzero(np.isin(a, b)), np.flatnonzero(np.isin(b, a))
    a, b = a[a_at], b[b_at]
    pairs: list[tuple[int, int]] = []
    work = [(0, len(a), 0, len(b))]
    while work:
        a_low, a_high, b_low, b_high = work.pop()
        while a_low < a_high and b_low < b_high and a[a_low] == b[b_low]:
            pairs.append((a_low, b_low))
            a_low, b_low = a_low + 1, b_low + 1
        while a_low < a_high and b_low < b_high and a[a_high - 1] == b[b_high - 1]:
            a_high, b_high = a_high - 1, b_high - 1
            pairs.append((a_high, b_high))
        rows, columns = a_high - a_low, b_high - b_low
        if not rows or not columns:
            continue
        if rows == 1 or rows * (columns // 8 + 1) <= kept_bytes:
            found = _traced(a[a_low:a_high].tolist(), b[b_low:b_high])
            pairs += [(a_low + i, b_low + j) for i, j in found]
            continue
        half = a_low + rows // 2
        before = _lengths(a[a_low:half].tolist(), b[b_low:b_high])
        behind = _lengths(a[half:a_high][::-1].tolist(), b[b_low:b_high][::-1])[::-1]
        cut = b_low + int(np.argmax(before + behind))
        work += [(a_low, half, b_low, cut), (half, a_high, cut, b_high)]
    return [(int(a_at[i]), int(b_at[j])) for i, j in sorted(pairs)]


class _Masks:
    """For each symbol, an integer with a bit at each place where a sequence has it."""

    def __init__(self, sequence: IntArray) -> None:
        order = np.argsort(sequence, kind="stable")
        symbols, starts = np.unique(sequence[order], return_index=True)
        parts = np.split(order, starts[1:])
        self._places = {int(symbol): parts[k] for k, symbol in enumerate(symbols)}
        self._bytes = len(sequence) // 8 + 1
        self._made: dict[int, int] = {}
        self._room = _MASK_BYTES // self._bytes

    def of(self, symbol: int) -> int:
        """Return the mask of a symbol; of a frequent one it is kept."""
        mask = self._made.get(symbol)
        if mask is not None:
            return mask
        places = self._places.get(symbol)
        if places is None:
            return 0
        bits = np.zeros(self._bytes, dtype=np.uint8)
        np.bitwise_or.at(bits, places >> 3, (1 << (places & 7)).astype(np.uint8))
        mask = int.from_bytes(bits.tobytes(), "little")
        if len(places) >= _OFTEN and len(self._made) < self._room:
            self._made[symbol] = mask
        return mask


def _rows(a: list[int], masks: _Masks, whole: int, keep: list[bytes] | None, size: int) -> int:
    """Return the differences of the last row: a bit that is 0 says that the length grows there."""
    row = whole
    for symbol in a:
        common = row & masks.of(symbol)
        row = ((row + common) | (row - common)) & whole
        if keep is not None:
            keep.append(row.to_bytes(size, "little"))
    return row


def _lengths(a: list[int], b: IntArray) -> IntArray:
    """Return the lengths for all of ``a`` and each prefix of ``b``, the empty one first."""
    size = len(b) // 8 + 1
    row = _rows(a, _Masks(b), (1 << len(b)) - 1, None, size)
    bits = np.unpackbits(
        np.frombuffer(row.to_bytes(size, "little"), dtype=np.uint8), bitorder="little"
    )
    grows = 1 - bits[: len(b)].astype(np.int64)
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(grows)))


def _traced(a: list[int], b: IntArray) -> list[tuple[int, int]]:
    """Return the pairs of two sequences, from all their rows."""
    size = len(b) // 8 + 1
    kept: list[bytes] = []
    _rows(a, _Masks(b), (1 << len(b)) - 1, kept, size)
    pairs = []
    i, j = len(a) - 1, len(b) - 1
    while i >= 0 and j >= 0:
        place, bit = j >> 3, 1 << (j & 7)
        if kept[i][place] & bit:
            j -= 1
        elif i and not kept[i - 1][place] & bit:
            i -= 1
        else:
            pairs.append((i, j))
            i, j = i - 1, j - 1
    return pairs
