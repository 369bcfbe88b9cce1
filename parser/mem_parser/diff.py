"""The changes between two profiles: by function, line or stack, each with its error.

Two snapshots of one capture share their samples: those alive in both cancel, so the error of a
change is that of the births and deaths in between. Profiles of different runs are independent, and
errors add in squares. Names match the rows (see `places.Frame`): they stay the same when addresses
change, by ASLR or a new build.

    new, gone     significant, and nothing of it before, or after
    grown, shrunk significant
    noise         as much as chance explains

Significance is two-sided; over all rows the false discovery rate is `RATE` (Benjamini-Hochberg), so
that a thousand rows do not show fifty false changes.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mem_parser.estimate import Estimate, FloatArray, Unseen
from mem_parser.growth import match_stacks, stack_index
from mem_parser.model import SAMPLER_NAME, Count, IntArray, Profile, Unit
from mem_parser.places import Frame, find_places, same_capture
from mem_parser.significance import benjamini_hochberg, p_of_change
from mem_parser.symbols.table import Symbols

RATE = 0.05
"""Share of false changes among those reported."""
_INEXACT = 2.0
"""Variances are taken this much larger where counts are only about numbers of samples."""


class Change(enum.StrEnum):
    """The verdict on a row."""

    NEW = "new"
    GONE = "gone"
    GROWN = "grown"
    SHRUNK = "shrunk"
    NOISE = "noise"


class Level(enum.StrEnum):
    """What one row is."""

    FUNCTION = "function"
    LINE = "line"
    STACK = "stack"


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One function, line or stack before and after; ``delta`` is new minus base."""

    change: Change
    frames: tuple[Frame, ...]
    base: Estimate
    new: Estimate
    delta: Estimate

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON tools and pages take it."""
        first = self.frames[0] if self.frames else Frame("[no stack]", "", 0, "")
        row = {
            "verdict": str(self.change),
            **first.as_json(),
            "base": self.base.value,
            "new": self.new.value,
            "delta": self.delta.value,
            "delta_error": self.delta.std_error if math.isfinite(self.delta.std_error) else None,
        }
        for name, known in (("base", self.base), ("new", self.new), ("delta", self.delta)):
            row[f"{name}_lower95"], row[f"{name}_upper95"] = known.known_ends
        if len(self.frames) > 1:
            row["stack"] = [f.as_json() for f in self.frames]
        return row


@dataclass(slots=True)
class Diff:
    """All rows, the largest change first; ``paired`` says that common samples cancelled."""

    rows: list[DiffRow]
    unit: Unit
    total: Estimate
    paired: bool
    base_name: str = ""
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the block of `diff --json` and of the page's tab."""
        error = self.total.std_error
        lower, upper = self.total.known_ends
        return {
            "rows": [r.as_json() for r in self.rows],
            "unit": str(self.unit),
            "total": self.total.value,
            "total_error": error if math.isfinite(error) else None,
            "total_lower95": lower,
            "total_upper95": upper,
            "paired": self.paired,
            "base_name": self.base_name,
            "notes": self.notes,
        }


def diff_profiles(
    base: tuple[Profile, Symbols],
    new: tuple[Profile, Symbols],
    *,
    level: Level = Level.FUNCTION,
    count: Count = Count.INUSE,
    unit: Unit = Unit.SPACE,
    base_name: str = "",
) -> Diff:
    """Return the difference between two profiles. Raises nothing: notes name missing data."""
    between = variance_between(base[0], new[0], unit) if count is Count.INUSE else None
    paired = between is not None
    keys: dict[Hashable, int] = {}
    frames: list[tuple[Frame, ...]] = []
    rows = [_row_of_stack(*side, level, keys, frames) for side in (base, new)]
    sums = [
        _sum(profile, row, count, unit, len(frames))
        for (profile, _), row in zip((base, new), rows, strict=True)
    ]
    variance = sums[0].variance + sums[1].variance
    if between is not None:
        by_row = np.bincount(rows[1], weights=between.sum(axis=1), minlength=len(frames))
        # The independent formula bounds the paired one too: common samples only cancel.
        variance = np.minimum(variance, by_row)
    exact = base[0].exact_samples and new[0].exact_samples
    unseen = max(base[0].unseen(unit), new[0].unseen(unit))
    result = _judge(frames, sums, variance, unseen, exact=exact)
    total = Estimate(
        float(sums[1].value.sum() - sums[0].value.sum()),
        math.sqrt(float(variance.sum())) if exact else math.nan,
        int(sums[0].samples.sum() + sums[1].samples.sum()),
        unseen,
        signed=True,
    )
    notes = _notes(base[0], new[0], level, paired=paired)
    return Diff(result, unit, total, paired, base_name, notes)


@dataclass(slots=True)
class _Sums:
    value: FloatArray
    variance: FloatArray
    samples: FloatArray


def _row_of_stack(
    profile: Profile,
    symbols: Symbols,
    level: Level,
    keys: dict[Hashable, int],
    frames: list[tuple[Frame, ...]],
) -> IntArray:
    """Return for each stack its row; appends new rows to ``frames``."""
    places = find_places(profile, symbols)
    row_of_place = np.zeros(len(places), dtype=np.int64)
    for k, place in enumerate(places.frames):
        key, shown = _key(place, level)
        index = keys.setdefault(key, len(frames))
        if index == len(frames):
            frames.append(shown)
        row_of_place[k] = index
    return row_of_place[places.place]


def _key(place: tuple[Frame, ...], level: Level) -> tuple[Hashable, tuple[Frame, ...]]:
    first = place[0]
    if level is Level.LINE:
        return first.line_key, (first,)
    if level is Level.STACK:
        return tuple(f.function_key for f in place), place
    return first.function_key, (first,)


def _sum(profile: Profile, row: IntArray, count: Count, unit: Unit, rows: int) -> _Sums:
    value, variance, samples = profile.weigh(count, unit)
    at = row[profile.sites.stack]
    scale = 1.0 if profile.exact_samples else _INEXACT
    return _Sums(
        np.bincount(at, weights=value, minlength=rows).astype(np.float64),
        scale * np.bincount(at, weights=variance, minlength=rows).astype(np.float64),
        np.bincount(at, weights=samples, minlength=rows).astype(np.float64),
    )


def variance_between(base: Profile, new: Profile, unit: Unit) -> FloatArray | None:
    """Return, for each stack and domain of ``new``, the variance of the births and frees since
    ``base``; None if the two are not snapshots of one capture with counts of both.

    Both counts only ever grow, so the variance of the change is the difference of variances.
    """
    if not (base.has_alloc and new.has_alloc and same_capture([base, new])):
        return None
    stack = match_stacks(base, stack_index(new))[base.sites.stack]
    known = np.array([d in new.domains for d in base.domains], dtype=np.bool_)
    position = np.array([new.domains.index(d) if d in new.domains else 0 for d in base.domains])
    shown = (stack >= 0) & known[base.sites.domain]
    result = np.zeros((len(new.stacks), len(new.domains)))
    for count in (Count.ALLOC, Count.FREED):
        after, before = np.zeros_like(result), np.zeros_like(result)
        _, variance, _ = new.weigh(count, unit)
        np.add.at(after, (new.sites.stack, new.sites.domain), variance)
        _, variance, _ = base.weigh(count, unit)
        at = stack[shown], position[base.sites.domain[shown]]
        np.add.at(before, at, variance[shown])
        result += np.maximum(after - before, 0.0)
    return result


def _judge(
    frames: list[tuple[Frame, ...]],
    sums: list[_Sums],
    variance: FloatArray,
    unseen: Unseen,
    *,
    exact: bool,
) -> list[DiffRow]:
    before, after = sums
    delta = after.value - before.value
    # Differences below this are rounding.
    moved = np.abs(delta) > 1e-9 * (np.abs(after.value) + np.abs(before.value))
    error = np.sqrt(variance)
    weight = _weight_of_a_sample(sums, unseen)
    columns = (delta.tolist(), variance.tolist(), weight.tolist())
    p = np.array([p_of_change(*row) for row in zip(*columns, strict=True)])
    tested = (before.samples + after.samples) > 0
    stands = np.zeros(len(frames), dtype=np.bool_)
    if tested.any():
        stands[tested] = benjamini_hochberg(p[tested], RATE)
    stands &= moved
    result = []
    for k in np.flatnonzero(tested).tolist():
        known = error[k] if exact else math.nan
        result.append(
            DiffRow(
                _change(float(delta[k]), before.samples[k], after.samples[k], sure=bool(stands[k])),
                frames[k],
                _estimate(before, k, unseen, exact=exact),
                _estimate(after, k, unseen, exact=exact),
                Estimate(
                    float(delta[k]),
                    float(known),
                    int(before.samples[k] + after.samples[k]),
                    unseen,
                    signed=True,
                ),
            )
        )
    result.sort(key=lambda r: (r.change is Change.NOISE, -abs(r.delta.value)))
    return result


def _weight_of_a_sample(sums: list[_Sums], unseen: Unseen) -> FloatArray:
    """Return for each row what one sample adds. Of objects it is the mean over its samples, each by
    its own weight: if nothing changed, what no sample came of is the same before and after.
    """
    value = sums[0].value + sums[1].value
    if unseen.bounded:
        return np.full(len(value), unseen.weight)
    variance = sums[0].variance + sums[1].variance
    return np.divide(variance, value, out=np.zeros_like(value), where=value > 0)


def _change(delta: float, before: float, after: float, *, sure: bool) -> Change:
    if not sure:
        return Change.NOISE
    if delta > 0:
        return Change.GROWN if before else Change.NEW
    return Change.SHRUNK if after else Change.GONE


def _estimate(sums: _Sums, k: int, unseen: Unseen, *, exact: bool) -> Estimate:
    error = math.sqrt(float(sums.variance[k])) if exact else math.nan
    return Estimate(float(sums.value[k]), error, int(sums.samples[k]), unseen)


def _notes(base: Profile, new: Profile, level: Level, *, paired: bool) -> list[str]:
    notes = []
    if paired:
        notes.append("snapshots of one capture: blocks that are live in both cancel out")
    a, b = base.capture.duration_s, new.capture.duration_s
    if not paired and a and b and max(a, b) > 1.1 * min(a, b):
        notes.append(
            f"base covers {a:.1f} s, new {b:.1f} s: part of the change is growth over time"
        )
    builds = [
        {m.name: m.build_id for m in p.modules if m.build_id and m.name != SAMPLER_NAME}
        for p in (base, new)
    ]
    other = sorted(n for n in builds[0] if builds[1].get(n, builds[0][n]) != builds[0][n])
    if other:
        what = "; lines may have moved" if level is Level.LINE else ""
        notes.append(f"different builds of {', '.join(other[:5])}{what}")
    if not (base.exact_samples and new.exact_samples):
        notes.append("the files hold no numbers of samples, so the errors are unknown")
    return notes
