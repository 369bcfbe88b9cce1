"""Flat and cumulative sums by function or by line, for table and graph.

Estimates are added up per stack first (records are weighed before that, see `Profile.weigh`), then
every stack gives its sum to the function it ends in (*flat*) and once to every function on it
(*cum*).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.charge import charged_from
from mem_parser.estimate import Estimate, FloatArray, Unseen, added_up
from mem_parser.folds import Folds, fold_frames
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.symbols.table import Location, Symbols

Keys = npt.NDArray[np.int64]
_FRAMES_AT_A_TIME = 1 << 18


class GroupBy(enum.StrEnum):
    """The unit of a row."""

    FUNCTION = "function"
    LINE = "line"


@dataclass(slots=True)
class StackSums:
    """Stacks as sequences of keys, with their estimates.

    ``keys[offsets[k]:offsets[k + 1]]`` is stack *k*, innermost first; ``names[key]`` is the name of
    a key. ``values`` are estimates in bytes or objects, ``variances`` theirs, ``samples`` the
    sampled blocks.
    """

    names: list[str]
    offsets: Keys
    keys: npt.NDArray[np.int32]
    values: FloatArray
    variances: FloatArray
    samples: Keys
    exact_samples: bool
    unseen: Unseen
    taken: FloatArray | None = None
    """Estimated bytes that a device gave up for the stack's blocks; None where they are not known.
    """

    @property
    def total(self) -> Estimate:
        """The estimate of all stacks together."""
        return estimate(
            float(self.values.sum()), float(self.variances.sum()), int(self.samples.sum()), self
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One function or line."""

    name: str
    flat: Estimate
    cum: Estimate
    flat_taken: float | None = None


def sum_stacks(
    profile: Profile,
    symbols: Symbols,
    *,
    count: Count = Count.INUSE,
    unit: Unit = Unit.SPACE,
    rule: FrameRule = FrameRule.PROGRAM,
    group: GroupBy = GroupBy.FUNCTION,
    folds: Folds = Folds.NONE,
) -> StackSums:
    """Return the stacks of ``profile`` as `without_frames` does, each with its estimate."""
    symbols = without_frames(symbols, rule, folds=folds)
    offsets, locations = symbols.offsets, symbols.locations_of_stack
    names, key_of_location = _keys(symbols, group)
    none = np.zeros(len(offsets) - 1)
    empty = StackSums(
        names=names,
        offsets=offsets,
        keys=key_of_location[locations],
        values=none,
        variances=none,
        samples=none.astype(np.int64),
        exact_samples=profile.errors_known,
        unseen=profile.unseen(unit),
    )
    return counted_as(empty, profile, count, unit)


def counted_as(sums: StackSums, profile: Profile, count: Count, unit: Unit) -> StackSums:
    """Return ``sums`` of ``profile`` with the estimates of another count or unit."""
    value, variance, samples = profile.weigh(count, unit)
    stack, stacks = profile.sites.stack, len(sums.offsets) - 1
    taken = profile.weigh_taken(count)
    return dataclasses.replace(
        sums,
        values=added_up(stack, value, stacks),
        variances=added_up(stack, variance, stacks),
        samples=np.bincount(stack, weights=samples, minlength=stacks).astype(np.int64),
        unseen=profile.unseen(unit),
        taken=None if taken is None else added_up(stack, taken, stacks),
    )


def rows_of(sums: StackSums) -> list[Row]:
    """Return every key with its flat and cum estimates, in no particular order."""
    count = len(sums.names)
    first, depth = sums.offsets[:-1], np.diff(sums.offsets)
    leaf = sums.keys[first[depth > 0]]
    flat = add_up(sums, np.flatnonzero(depth > 0), leaf)
    nothing = estimate(0.0, 0.0, 0.0, sums)
    cum = [c.tolist() for c in sum_by_key(sums, (sums.values, sums.variances, sums.samples))]
    taken: list[float] | None = None
    if sums.taken is not None:
        weights = sums.taken[np.flatnonzero(depth > 0)]
        taken = np.bincount(leaf, weights=weights, minlength=count).tolist()
    return [
        Row(
            name,
            flat.get(k, nothing),
            estimate(cum[0][k], cum[1][k], cum[2][k], sums),
            None if taken is None else taken[k],
        )
        for k, name in enumerate(sums.names)
        if cum[0][k] or cum[2][k]
    ]


def sum_by_key(sums: StackSums, columns: Sequence[npt.NDArray[Any]]) -> list[FloatArray]:
    """Return for every key the sum of each column over the stacks that it is on, once however often
    it recurs there. A column has one number per stack.
    """
    weights = [column.astype(np.float64, copy=False) for column in columns]
    totals = [np.zeros(len(sums.names)) for _ in weights]
    for low, high in stack_parts(sums.offsets):
        stack, key = _distinct_pairs(sums, low, high)
        for total, weight in zip(totals, weights, strict=True):
            np.add.at(total, key, weight[stack])
    return totals


def stack_parts(offsets: Keys) -> Iterator[tuple[int, int]]:
    """Yield ranges of stacks with some hundred thousand frames each: working part by part stays in
    the processor's cache, and bounds memory for any size of file.
    """
    steps = np.arange(0, int(offsets[-1]), _FRAMES_AT_A_TIME)
    bounds = [*np.searchsorted(offsets, steps, side="right").tolist(), len(offsets)]
    first = 0
    for bound in bounds:
        if bound - 1 > first:
            yield first, bound - 1
            first = bound - 1


def _distinct_pairs(sums: StackSums, low: int, high: int) -> tuple[Keys, Keys]:
    """Return (stack, key) of every key that is on a stack of [low, high), each pair once."""
    offsets = sums.offsets[low : high + 1]
    width = max(len(sums.names), 1)
    stack = np.repeat(np.arange(high - low), np.diff(offsets))
    pairs = stack * width + sums.keys[offsets[0] : offsets[-1]]
    if (high - low) * width < 1 << 31:
        pairs = pairs.astype(np.int32)  # sorts in half the time
    pairs.sort()
    if len(pairs):
        pairs = pairs[np.concatenate(([True], pairs[1:] != pairs[:-1]))]
    of_stack = pairs // width
    return (of_stack + low).astype(np.int64), (pairs - of_stack * width).astype(np.int64)


def add_up(
    sums: StackSums, stack: npt.NDArray[np.integer], key: npt.NDArray[np.integer]
) -> dict[int, Estimate]:
    """Return the sum of the stacks of each key; ``key[k]`` is a key of ``stack[k]``."""
    value, variance, samples = (
        np.bincount(key, weights=column[stack])
        for column in (sums.values, sums.variances, sums.samples)
    )
    return {
        k: estimate(float(value[k]), float(variance[k]), float(samples[k]), sums)
        for k in np.flatnonzero(np.bincount(key)).tolist()
    }


def in_both_units(
    profile: Profile, sums: Sequence[npt.NDArray[Any]], k: int
) -> tuple[Estimate, Estimate]:
    """Return the bytes and objects of entry ``k`` of five sums: of values and variances of both,
    and of samples.
    """

    def one(unit: Unit, at: int) -> Estimate:
        found = (sums[at][k], sums[at + 1][k], sums[4][k])
        return Estimate.of_sums(*found, profile.unseen(unit), exact=profile.errors_known)

    return one(Unit.SPACE, 0), one(Unit.OBJECTS, 2)


def estimate(value: float, variance: float, samples: float, sums: StackSums) -> Estimate:
    """Return the sum of estimates from the sums of their values, variances and samples."""
    return Estimate.of_sums(value, variance, samples, sums.unseen, exact=sums.exact_samples)


def without_frames(symbols: Symbols, rule: FrameRule, *, folds: Folds) -> Symbols:
    """Return ``symbols`` without the frames that ``rule`` drops, and with one in place of those
    that ``folds`` names, for the rule `PROGRAM`.
    """
    offsets, locations = without_allocators(symbols, rule)
    left = dataclasses.replace(symbols, offsets=offsets, locations_of_stack=locations)
    # Without its libraries a stack begins with the frame that its blocks are charged to.
    return fold_frames(left, folds, offsets[:-1])


def without_allocators(symbols: Symbols, rule: FrameRule) -> tuple[Keys, npt.NDArray[np.int32]]:
    """Return the offsets and locations of the stacks without the frames that ``rule`` drops: see
    `mem_parser.charge`.
    """
    offsets, locations = symbols.offsets, symbols.locations_of_stack
    start = charged_from(symbols, rule)
    gone = start - offsets[:-1]
    if not gone.any():
        return offsets, locations
    keep = np.ones(len(locations), dtype=np.bool_)
    behind = np.cumsum(gone)
    keep[np.repeat(start - behind, gone) + np.arange(int(gone.sum()))] = False
    return np.concatenate((offsets[:1], offsets[1:] - behind)), locations[keep]


def _keys(symbols: Symbols, group: GroupBy) -> tuple[list[str], npt.NDArray[np.int32]]:
    """Return the distinct names, and for each location the index of its name."""
    index: dict[str, int] = {}
    keys = np.empty(len(symbols.locations), dtype=np.int32)
    for k, location in enumerate(symbols.locations):
        name = _location_name(symbols, location, group)
        keys[k] = index.setdefault(name, len(index))
    return list(index), keys


def line_names(symbols: Symbols, functions: Collection[str]) -> set[str]:
    """Return what the lines of ``functions`` are called where each is a row."""
    found = (x for x in symbols.locations if symbols.functions[x.function].name in functions)
    return {_location_name(symbols, x, GroupBy.LINE) for x in found}


def _location_name(symbols: Symbols, location: Location, group: GroupBy) -> str:
    name = symbols.functions[location.function].name
    if group is GroupBy.FUNCTION or not location.line:
        return name
    return f"{name} {location.file}:{location.line}"
