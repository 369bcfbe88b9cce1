"""The changes between two profiles: by function, line or stack, each with its error.

Two snapshots of one capture share their samples: those alive in both cancel, so the error of a
change is that of the births and deaths in between. Profiles of different runs are independent, and
errors add in squares. Names match the rows (see `places.Frame`): they stay the same when addresses
change, by ASLR or a new build; where one side has no source files, functions match by name alone.

    new, gone     significant, and no block of it in the base, or in the new file: none allocated
    grown, shrunk significant
    noise         as much as chance explains

Significance is two-sided, and judged by the errors that both sides would have if nothing had
changed (`_if_unchanged`): of two rates a row is not gone because the coarser one took no sample of
it. Over all rows the false discovery rate is `RATE` (Benjamini-Hochberg), so that a thousand rows
do not show fifty false changes. Where a file carries no errors nothing is tested: every row that
differs is a change, and nobody knows which of them are chance.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from mem_parser.charge import charged_from
from mem_parser.estimate import Estimate, FloatArray, Unseen, sampling_probability
from mem_parser.folds import unnamed_function
from mem_parser.frames import Frame, Spelled, frames_of, same_capture
from mem_parser.growth import StackIndex
from mem_parser.interning import Interner, StackInterner, StackParts
from mem_parser.leaks.watch import ended_midway
from mem_parser.model import SAMPLER_NAME, BoolArray, Count, IntArray, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.programname import captured_name
from mem_parser.significance import benjamini_hochberg, p_of_change, poisson_tail
from mem_parser.symbols.table import Symbols
from mem_parser.words import joined, phrase

RATE = 0.05
"""Share of false changes among those reported."""


class Change(enum.StrEnum):
    """The verdict on a row."""

    NEW = "new"
    GONE = "gone"
    GROWN = "grown"
    SHRUNK = "shrunk"
    NOISE = "noise"


class Level(enum.StrEnum):
    """The unit of a row."""

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
    """All rows, the largest change first; ``paired`` says that common samples cancelled.

    ``errors_known`` is False where a file carries no errors, so that no row is judged.
    """

    rows: DiffRows
    unit: Unit
    total: Estimate
    paired: bool
    base_name: str = ""
    notes: list[str] = field(default_factory=list)
    errors_known: bool = True

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
            "errors_known": self.errors_known,
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
    rule: FrameRule = FrameRule.PROGRAM,
) -> Diff:
    """Return the difference between two profiles. ``rule`` says which frames are left out. Raises
    nothing: notes name missing data.
    """
    choice = [(count, unit)]
    (found,) = diff_by(base, new, choice, level=level, base_name=base_name, rule=rule)
    return found


def diff_by(
    base: tuple[Profile, Symbols],
    new: tuple[Profile, Symbols],
    choices: Iterable[tuple[Count, Unit]],
    *,
    level: Level = Level.FUNCTION,
    base_name: str = "",
    rule: FrameRule = FrameRule.PROGRAM,
) -> Iterator[Diff]:
    """Yield what `diff_profiles` returns for each of ``choices``; stacks are matched once."""
    matched = _rows_of_stacks((base, new), level, rule)
    for count, unit in choices:
        found = _diff((base[0], new[0]), matched, count, unit)
        found.base_name = base_name
        found.notes = _notes((base[0], new[0]), level, count, paired=found.paired)
        yield found


def _diff(
    profiles: tuple[Profile, Profile],
    matched: tuple[_Side, _Side],
    count: Count,
    unit: Unit,
) -> Diff:
    base, new = profiles
    size = 1 + max(int(side.row.max(initial=-1)) for side in matched)
    between = variance_between(base, new, unit) if count is Count.INUSE else None
    paired = between is not None
    sums = (
        _sum(base, matched[0].row, count, unit, size),
        _sum(new, matched[1].row, count, unit, size),
    )
    variance = sums[0].variance + sums[1].variance
    if between is not None:
        by_row = np.bincount(matched[1].row, weights=between.sum(axis=1), minlength=size)
        # The independent formula bounds the paired one too: common samples only cancel.
        variance = np.minimum(variance, by_row)
    exact = base.errors_known and new.errors_known
    unseen = max(base.unseen(unit), new.unseen(unit))
    chance, weight, step = _if_unchanged(profiles, matched, count, unit, size)
    chance = variance if paired else np.maximum(variance, chance)
    weight = np.full(size, unseen.weight) if unseen.bounded else weight
    stands = _judge(sums, chance, weight, step, exact=exact)
    error = np.sqrt(variance)
    result = DiffRows(_Names(matched, sums), sums, error, stands, unseen, exact=exact)
    total = Estimate(
        float(sums[1].value.sum() - sums[0].value.sum()),
        math.sqrt(float(variance.sum())) if exact else math.nan,
        int(sums[0].samples.sum() + sums[1].samples.sum()),
        unseen,
        signed=True,
    )
    return Diff(result, unit, total, paired, errors_known=exact)


@dataclass(slots=True)
class _Sums:
    """Of each row; ``heaviest`` is the stack that has most of it, -1: none has any; ``met`` says
    that the file has blocks of it, of whatever count: a worker that ended holds none, and ran it.
    """

    value: FloatArray
    variance: FloatArray
    samples: FloatArray
    heaviest: IntArray
    met: BoolArray


@dataclass(frozen=True, slots=True)
class _Side:
    """The row of each stack of one profile, and the frames that stand for it."""

    row: IntArray
    frames: Spelled


def _rows_of_stacks(
    sides: Sequence[tuple[Profile, Symbols]], level: Level, rule: FrameRule
) -> tuple[_Side, _Side]:
    """Return for each stack of each side its row."""
    numbers: dict[Hashable, int] = {}
    innermost, whole = Interner(), StackInterner(np.int32)
    found = []
    rebuilt = _rebuilt(*(profile for profile, _ in sides))
    frames = [_without_addresses(frames_of(*side), side[1], rebuilt) for side in sides]
    for (_, symbols), own, keys in zip(sides, frames, _keys(frames, level), strict=True):
        key = np.array([numbers.setdefault(k, len(numbers)) for k in keys], dtype=np.int32)
        spelled, low = symbols.locations_of_stack, charged_from(symbols, rule)
        if level is Level.STACK:
            high, no_tags = symbols.offsets[1:], np.zeros(len(low), dtype=np.int64)
            row, _ = whole.intern(StackParts(key[spelled], low, high, no_tags))
        else:
            high = low + 1
            row, _ = innermost.intern(key[spelled[low]])
        found.append(_Side(row, Spelled(own, spelled, low, high)))
    return found[0], found[1]


def _rebuilt(base: Profile, new: Profile) -> list[str]:
    """Return the names of the files that are of another build in each."""
    builds = [
        {m.name: m.build_id for m in p.modules if m.build_id and m.name != SAMPLER_NAME}
        for p in (base, new)
    ]
    return sorted(n for n in builds[0] if builds[1].get(n, builds[0][n]) != builds[0][n])


def _without_addresses(frames: list[Frame], symbols: Symbols, rebuilt: list[str]) -> list[Frame]:
    """Return the frames with one in place of all nameless functions of each file that was built
    anew: their addresses mean nothing in the other build.
    """
    found = list(frames)
    for k, (frame, location) in enumerate(zip(frames, symbols.locations, strict=True)):
        if frame.build_id and frame.module.rpartition("/")[2] in rebuilt:
            folded = unnamed_function(symbols.functions[location.function], symbols)
            if folded is not None:
                found[k] = Frame(folded.name, "", 0, frame.module)
    return found


def _keys(frames: Sequence[list[Frame]], level: Level) -> list[list[Hashable]]:
    """Return for each frame of each side what it is matched by."""
    if level is Level.LINE:
        return [[f.line_key for f in own] for own in frames]
    with_file, without = ([_functions(own, bool(k)) for own in frames] for k in (1, 0))
    keys: list[list[Hashable]] = []
    for own, here, bare, there in zip(frames, with_file, without, with_file[::-1], strict=True):
        # A name that either side has twice does not say which function it is.
        same = {
            name: next(iter(there[name]))
            for name, found in bare.items()
            if len(found) == len(there.get(name, ())) == 1 and name not in here
        }
        keys.append([_matched(f, same) for f in own])
    return keys


def _functions(frames: list[Frame], has_file: bool) -> dict[str, set[Hashable]]:
    """Return the keys of the functions that have a name, with a source file or without one."""
    found: dict[str, set[Hashable]] = {}
    for f in frames:
        if not f.build_id and bool(f.file) is has_file:
            found.setdefault(f.function, set()).add(f.function_key)
    return found


def _matched(frame: Frame, same: Mapping[str, Hashable]) -> Hashable:
    if frame.build_id or frame.file:
        return frame.function_key
    return same.get(frame.function, frame.function_key)


def _sum(profile: Profile, row: IntArray, count: Count, unit: Unit, rows: int) -> _Sums:
    value, variance, samples = profile.weigh(count, unit)
    at = row[profile.sites.stack]
    held, seen = (
        np.bincount(profile.sites.stack, weights=x, minlength=len(row)) for x in (value, samples)
    )
    order = np.argsort(held, kind="stable")
    order = order[seen[order] > 0]
    heaviest = np.full(rows, -1, dtype=np.int64)
    heaviest[row[order]] = order  # of several the last is kept
    met = np.zeros(rows, dtype=np.bool_)
    met[at[(profile.sites.alloc_blocks > 0) | (profile.sites.inuse_blocks > 0) | (samples > 0)]] = (
        True
    )
    return _Sums(
        np.bincount(at, weights=value, minlength=rows).astype(np.float64),
        np.bincount(at, weights=variance, minlength=rows).astype(np.float64),
        np.bincount(at, weights=samples, minlength=rows).astype(np.float64),
        heaviest,
        met,
    )


class _Names:
    """The frames of each row, of the stack that has most of its bytes now, else of the one that had
    most; without a line where these two are at different ones.
    """

    def __init__(self, sides: tuple[_Side, _Side], sums: tuple[_Sums, _Sums]) -> None:
        self._sides, self._heaviest = sides, [one.heaviest for one in sums]

    def __getitem__(self, row: int) -> tuple[Frame, ...]:
        had, now = (
            None if at[row] < 0 else side.frames[int(at[row])]
            for side, at in zip(self._sides, self._heaviest, strict=True)
        )
        if had is None or now is None:
            return now or had or ()
        return tuple([_of_both(*both) for both in zip(had, now, strict=True)])


def _of_both(had: Frame, now: Frame) -> Frame:
    has_moved = had.line and had.line != now.line
    return replace(now, file=now.file or had.file, line=0 if has_moved else now.line)


def variance_between(base: Profile, new: Profile, unit: Unit) -> FloatArray | None:
    """Return, for each stack and domain of ``new``, the variance of the births and frees since
    ``base``; None if the two are not snapshots of one capture with counts of both.

    Both counts only ever grow, so the variance of the change is the difference of variances.
    """
    if not (base.has_alloc and new.has_alloc and same_capture([base, new])):
        return None
    stack = StackIndex(new).match(base)[base.sites.stack]
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


class DiffRows(Sequence[DiffRow]):
    """The rows, the largest change first and noise behind all others. A look-up builds them,
    because there may be a million stacks.
    """

    def __init__(
        self,
        names: _Names,
        sums: tuple[_Sums, _Sums],
        error: FloatArray,
        stands: BoolArray,
        unseen: Unseen,
        *,
        exact: bool,
    ) -> None:
        before, after = sums
        tested = np.flatnonzero((before.samples + after.samples) > 0)
        self._names, self._sums, self._exact = names, sums, exact
        self._unseen = unseen
        self._delta, self._error, self._stands = after.value - before.value, error, stands
        size = np.abs(self._delta[tested])
        self._order = tested[np.lexsort((-size, ~stands[tested]))]
        self.beyond_noise = int(stands[tested].sum())
        """The number of rows that are no noise."""

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> DiffRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[DiffRow]: ...
    def __getitem__(self, index: int | slice) -> DiffRow | list[DiffRow]:
        if isinstance(index, slice):
            return [self._row(k) for k in self._order[index].tolist()]
        return self._row(int(self._order[index]))

    @property
    def noise_delta(self) -> float:
        """The change of all rows within the noise together."""
        return float(self._delta[self._order[self.beyond_noise :]].sum())

    def _row(self, k: int) -> DiffRow:
        before, after = self._sums
        delta = float(self._delta[k])
        samples = int(before.samples[k] + after.samples[k])
        known = float(self._error[k]) if self._exact else math.nan
        return DiffRow(
            _change(delta, before.met[k], after.met[k], sure=bool(self._stands[k])),
            self._names[k],
            _estimate(before, k, self._unseen, exact=self._exact),
            _estimate(after, k, self._unseen, exact=self._exact),
            Estimate(delta, known, samples, self._unseen, signed=True),
        )


def _judge(
    sums: tuple[_Sums, _Sums],
    variance: FloatArray,
    weight: FloatArray,
    step: FloatArray,
    *,
    exact: bool,
) -> BoolArray:
    """Tell of each row whether it is more than chance of that variance explains. ``weight`` is what
    a sample adds, ``step`` what a block does that one side missed.
    """
    before, after = sums
    delta = after.value - before.value
    # Differences below this are rounding.
    moved = np.abs(delta) > 1e-9 * (np.abs(after.value) + np.abs(before.value))
    tested = (before.samples + after.samples) > 0
    rows = zip(*(c[tested].tolist() for c in (delta, variance, weight, step)), strict=True)
    # Without errors every change counts.
    p = np.array([_p_value(*row) for row in rows]) if exact else 1.0 * (delta[tested] == 0)
    stands = np.zeros(len(delta), dtype=np.bool_)
    if tested.any():
        stands[tested] = benjamini_hochberg(p, RATE)
    return stands & moved


def _p_value(delta: float, variance: float, weight: float, step: float) -> float:
    """Return the p-value of "nothing changed". Of blocks of which hardly one is missed, the number
    that is has a longer tail than the normal distribution.
    """
    found = p_of_change(delta, variance, weight)
    if found > RATE or step <= 0:
        return found
    missed = variance / step**2
    return max(found, poisson_tail(max(round(missed + abs(delta) / step), 1), missed))


def _if_unchanged(
    profiles: tuple[Profile, Profile],
    matched: tuple[_Side, _Side],
    count: Count,
    unit: Unit,
    size: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return for each row the variance of its change, the mean weight of a sample of objects, and
    the mean of what a block stands for, if nothing changed: then both sides have the blocks of
    either, each sampled at its own rate. A side without a sample has no variance of its own,
    however many blocks it missed.

    Sides count by how fine their rates are. At equal rates these are the sums of both variances,
    and that over the sum of both values.
    """
    rates = [_rate_of_domains(profile) for profile in profiles]
    variance, value, held = np.zeros((2, size)), np.zeros(size), np.zeros(size)
    for k, (profile, side) in enumerate(zip(profiles, matched, strict=True)):
        amount, own, _ = profile.weigh(count, unit)
        here, there = (
            np.array([at.get(d, math.inf) for d in profile.domains])[profile.sites.domain]
            for at in (rates[k], rates[1 - k])
        )
        there = np.where(np.isfinite(there), there, profiles[1 - k].rate_bytes)
        both = np.maximum(here - 1, 0) + np.maximum(there - 1, 0)
        share = np.divide(np.maximum(there - 1, 0), both, out=0.5 + 0 * both, where=both > 0)
        blocks, total = profile.counts(count)
        mean = np.divide(total, blocks, out=np.zeros(len(total)), where=blocks > 0)
        p = sampling_probability(mean, there)
        each = mean if unit is Unit.SPACE else np.ones(len(mean))
        other = amount * each * (1 - p) / p
        row = side.row[profile.sites.stack]
        variance[k] += np.bincount(row, weights=share * own, minlength=size)
        variance[1 - k] += np.bincount(row, weights=share * other, minlength=size)
        value += np.bincount(row, weights=share * amount, minlength=size)
        held += np.bincount(row, weights=share * amount * each, minlength=size)
    most = variance.max(axis=0)
    weight, step = (
        np.divide(x, value, out=np.zeros(size), where=value > 0) for x in (most, most + held)
    )
    return variance.sum(axis=0), weight, step


def _rate_of_domains(profile: Profile) -> dict[str, float]:
    """Return the bytes per sample of each domain that has sites, of several the most."""
    found: dict[str, float] = {}
    rates = np.broadcast_to(np.asarray(profile.rates, dtype=np.float64), len(profile.sites))
    for k in np.unique(profile.sites.domain).tolist():
        found[profile.domains[k]] = float(rates[profile.sites.domain == k].max())
    return found


def _change(delta: float, before: bool, after: bool, *, sure: bool) -> Change:
    if not sure:
        return Change.NOISE
    if delta > 0:
        return Change.GROWN if before else Change.NEW
    return Change.SHRUNK if after else Change.GONE


def _estimate(sums: _Sums, k: int, unseen: Unseen, *, exact: bool) -> Estimate:
    error = math.sqrt(float(sums.variance[k])) if exact else math.nan
    return Estimate(float(sums.value[k]), error, int(sums.samples[k]), unseen)


def _notes(
    profiles: tuple[Profile, Profile], level: Level, count: Count, *, paired: bool
) -> list[str]:
    base, new = profiles
    notes: list[str] = []
    if paired:
        notes.append(phrase("snapshots of one capture: blocks that are live in both cancel out"))
    programs = [captured_name(p.capture) for p in (base, new)]
    if all(programs) and programs[0] != programs[1]:
        words = {"base": programs[0], "new": programs[1]}
        notes.append(phrase("different programs: base is of {base}, new of {new}", **words))
    a, b = base.capture.duration_s, new.capture.duration_s
    whole = {count, base.default_count, new.default_count} == {Count.PEAK}
    if not (paired or whole) and a and b and max(a, b) > 1.1 * min(a, b):
        notes.append(
            phrase(
                "base covers {base} s, new {new} s: part of the change is growth over time",
                base=f"{a:.1f}",
                new=f"{b:.1f}",
            )
        )
    ended = [n for n, p in (("base", base), ("new", new)) if not ended_midway(p.capture)]
    if count is Count.INUSE and len(ended) == 1 and base.capture.end and new.capture.end:
        which = {
            "base": phrase(
                "base's processes ended and new's went on: in use is what an end left over;"
                " --alloc compares all blocks"
            ),
            "new": phrase(
                "new's processes ended and base's went on: in use is what an end left over;"
                " --alloc compares all blocks"
            ),
        }
        notes.append(which[ended[0]])
    other = _rebuilt(base, new)
    if other:
        text = phrase("different builds of {files}", files=", ".join(other[:5]))
        moved = [phrase("lines may have moved")] if level is Level.LINE else []
        notes.append(joined("; ", [text, *moved]))
    without = [n for n, p in (("base", base), ("new", new)) if not p.errors_known]
    if without:
        which = {
            "base": phrase("the base file carries no errors"),
            "new": phrase("the new file carries no errors"),
        }
        both = phrase("these files carry no errors")
        text = both if len(without) == 2 else which[without[0]]
        notes.append(phrase("{files}: which of the changes are chance is not known", files=text))
    return notes
