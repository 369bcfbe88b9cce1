"""Which of many changes are more than chance: rows of a difference, boxes of its graph.

Each row is tested two-sided (`significance.p_of_change`), by the errors that both sides would have
if nothing had changed: of two rates a row is not gone because the coarser one took no sample of it.
Of all rows together the false discovery rate is bounded (`significance.beyond_chance`), so that a
thousand rows do not show fifty false changes. Where a file carries no errors nothing is tested:
every row that differs is a change, and nobody knows which of them are chance.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mem_parser.estimate import FloatArray, Unseen, sampling_probability
from mem_parser.model import BoolArray, Count, Profile, Unit
from mem_parser.significance import RATE, beyond_chance, p_of_change, poisson_tail

_EQUAL = 1e-9
"""Differences below this share of the numbers are rounding."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """Columns of one side, with an entry for each site, stack or row.

    ``own_chance`` and ``other_chance`` are the variances that this side and the other one would
    have if nothing had changed: then both have the blocks of either, each sampled at its own rate.
    A side without a sample has no variance of its own, however many blocks it missed. Sides count
    by how fine their rates are; ``weighed`` is the value so counted, ``held`` that times what a
    block holds.
    """

    value: FloatArray
    variance: FloatArray
    samples: FloatArray
    own_chance: FloatArray
    other_chance: FloatArray
    weighed: FloatArray
    held: FloatArray

    def added(self, add: Callable[[FloatArray], FloatArray]) -> Amounts:
        """Return the sums that ``add`` makes of each column."""
        return Amounts(*(add(getattr(self, f.name)) for f in dataclasses.fields(self)))


def amounts_of(profile: Profile, other: Profile, count: Count, unit: Unit) -> Amounts:
    """Return the amounts of each site of ``profile``, which is compared with ``other``."""
    value, variance, samples = profile.weigh(count, unit)
    here, there = (
        np.array([rate.get(d, math.inf) for d in profile.domains])[profile.sites.domain]
        for rate in (_rate_of_domains(profile), _rate_of_domains(other))
    )
    there = np.where(np.isfinite(there), there, other.rate_bytes)
    both = np.maximum(here - 1, 0) + np.maximum(there - 1, 0)
    share = np.divide(np.maximum(there - 1, 0), both, out=0.5 + 0 * both, where=both > 0)
    blocks, total = profile.counts(count)
    mean = np.divide(total, blocks, out=np.zeros(len(total)), where=blocks > 0)
    p = sampling_probability(mean, there)
    each = mean if unit is Unit.SPACE else np.ones(len(mean))
    weighed = share * value
    columns = (value, variance, samples, share * variance, weighed * each * (1 - p) / p, weighed,
               weighed * each)  # fmt: skip
    return Amounts(*(column.astype(np.float64, copy=False) for column in columns))


def judged(
    before: Amounts, after: Amounts, unseen: Unseen, between: FloatArray | None, *, exact: bool
) -> tuple[FloatArray, BoolArray]:
    """Return the variance of the change of each row, and whether it is more than chance explains.

    ``between`` is the variance of births and frees between two snapshots of one capture.
    """
    variance = before.variance + after.variance
    chances = before.own_chance + after.other_chance, before.other_chance + after.own_chance
    chance = np.maximum(variance, chances[0] + chances[1])
    if between is not None:
        # The independent formula bounds the paired one too: common samples only cancel.
        variance = chance = np.minimum(variance, between)
    delta = after.value - before.value
    moved = np.abs(delta) > _EQUAL * (np.abs(after.value) + np.abs(before.value))
    tested = (before.samples + after.samples) > 0
    if not exact:
        return variance, moved & tested
    # What a sample adds, and what a block does that one side missed: at equal rates the sum of both
    # variances over that of both values.
    most = np.maximum(*chances)
    value = before.weighed + after.weighed
    weight, step = (
        np.divide(x, value, out=np.zeros(len(value)), where=value > 0)
        for x in (most, most + before.held + after.held)
    )
    weight = np.full(len(value), unseen.weight) if unseen.bounded else weight
    rows = zip(*(c[tested].tolist() for c in (delta, chance, weight, step)), strict=True)
    stands = np.zeros(len(delta), dtype=np.bool_)
    stands[tested] = beyond_chance(np.array([_p_value(*row) for row in rows]))
    return variance, stands & moved


def _p_value(delta: float, variance: float, weight: float, step: float) -> float:
    """Return the p-value of "nothing changed". Of blocks of which hardly one is missed, the number
    that is has a longer tail than the normal distribution.
    """
    found = p_of_change(delta, variance, weight)
    if found > RATE or step <= 0:
        return found
    missed = variance / step**2
    return max(found, poisson_tail(max(round(missed + abs(delta) / step), 1), missed))


def _rate_of_domains(profile: Profile) -> dict[str, float]:
    """Return the bytes per sample of each domain that has sites, of several the most."""
    found: dict[str, float] = {}
    rates = np.broadcast_to(np.asarray(profile.rates, dtype=np.float64), len(profile.sites))
    for k in np.unique(profile.sites.domain).tolist():
        found[profile.domains[k]] = float(rates[profile.sites.domain == k].max())
    return found
