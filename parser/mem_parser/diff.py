"""The changes between two profiles: by function, line or stack, each with its error.

Two snapshots of one capture share their samples: those alive in both cancel, so the error of a
change is that of the births and deaths in between. Profiles of different runs are independent, and
errors add in squares. Names match the rows (see `places.Frame`): they stay the same when addresses
change, by ASLR or a new build; where one side has no source files, functions match by name alone.

    new, gone     significant, and no block of it in the base, or in the new file: none allocated
    grown, shrunk significant
    noise         as much as chance explains

`mem_parser.changed` tells which rows are more than chance.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np

from mem_parser.changed import Amounts, amounts_of, judged
from mem_parser.charge import charged_from
from mem_parser.estimate import Estimate, FloatArray, Unseen, added_up
from mem_parser.folds import unnamed_function
from mem_parser.frames import Frame, Spelled, frames_of, same_capture
from mem_parser.growth import StackIndex
from mem_parser.interning import Interner, StackInterner, StackParts
from mem_parser.leaks.watch import ended_midway
from mem_parser.model import SAMPLER_NAME, BoolArray, Count, IntArray, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.programname import captured_name
from mem_parser.symbols.table import Symbols
from mem_parser.units import format_change
from mem_parser.words import joined, phrase


class Change(enum.StrEnum):
    """The verdict on a row."""

    NEW = "new"
    GONE = "gone"
    GROWN = "grown"
    TURNOVER = "turnover"
    """Grown, but new blocks only replace older ones; see `Diff.verdict`."""
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

    def as_json(self, verdict: Change) -> dict[str, Any]:
        """Return the row with a `Diff.verdict` as JSON tools and pages take it."""
        first = self.frames[0] if self.frames else Frame("[no stack]", "", 0, "")
        row = {
            "verdict": str(verdict),
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
    ``turnover`` are keys of functions whose new blocks replace older ones.
    """

    rows: DiffRows
    unit: Unit
    total: Estimate
    paired: bool
    base_name: str = ""
    notes: list[str] = field(default_factory=list)
    errors_known: bool = True
    turnover: frozenset[tuple[str, str]] = frozenset()

    def verdict(self, row: DiffRow) -> Change:
        """Return what a reader is told of the row: its change, but of what grew, `TURNOVER` where
        that only replaces older blocks.
        """
        grew = row.change in (Change.GROWN, Change.NEW)
        old = grew and bool(row.frames) and row.frames[0].function_key in self.turnover
        return Change.TURNOVER if old else row.change

    def as_json(self) -> dict[str, Any]:
        """Return the block of `diff --json` and of the page's tab."""
        error = self.total.std_error
        lower, upper = self.total.known_ends
        return {
            "rows": [r.as_json(self.verdict(r)) for r in self.rows],
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
    came = variance_between(base, new, unit) if count is Count.INUSE else None
    between = None if came is None else added_up(matched[1].row, came.sum(axis=1), size)
    sums = (
        _sum(base, amounts_of(base, new, count, unit), matched[0].row, size),
        _sum(new, amounts_of(new, base, count, unit), matched[1].row, size),
    )
    exact = base.errors_known and new.errors_known
    unseen = max(base.unseen(unit), new.unseen(unit))
    variance, stands = judged(sums[0].of, sums[1].of, unseen, between, exact=exact)
    error = np.sqrt(variance)
    names = _Names(matched, sums, _changed_lines(matched, sums))
    result = DiffRows(names, sums, error, stands, unseen, exact=exact)
    total = Estimate(
        float(sums[1].of.value.sum() - sums[0].of.value.sum()),
        math.sqrt(float(variance.sum())) if exact else math.nan,
        int(sums[0].of.samples.sum() + sums[1].of.samples.sum()),
        unseen,
        signed=True,
    )
    return Diff(result, unit, total, between is not None, errors_known=exact)


@dataclass(slots=True)
class _Sums:
    """The amounts ``of`` each row, and the value ``held`` of each stack; ``heaviest`` is the stack
    that has most of a row, -1: none has any; ``met`` says that the file has blocks of it, of
    whatever count: a worker that ended holds none, and ran it.
    """

    of: Amounts
    held: FloatArray
    heaviest: IntArray
    met: BoolArray


@dataclass(frozen=True, slots=True)
class _Side:
    """The row of each stack of one profile, the line that its blocks are charged to, and the frames
    that stand for it.
    """

    row: IntArray
    line: IntArray
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
        line = np.array([f.line for f in own], dtype=np.int64)[spelled[low]]
        found.append(_Side(row, line, Spelled(own, spelled, low, high)))
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


def _sum(profile: Profile, amounts: Amounts, row: IntArray, rows: int) -> _Sums:
    sites = profile.sites
    at = row[sites.stack]
    held, seen = (added_up(sites.stack, x, len(row)) for x in (amounts.value, amounts.samples))
    order = np.argsort(held, kind="stable")
    order = order[seen[order] > 0]
    heaviest = np.full(rows, -1, dtype=np.int64)
    heaviest[row[order]] = order  # of several the last is kept
    met = np.zeros(rows, dtype=np.bool_)
    met[at[(sites.alloc_blocks > 0) | (sites.inuse_blocks > 0) | (amounts.samples > 0)]] = True
    return _Sums(amounts.added(lambda column: added_up(at, column, rows)), held, heaviest, met)


def _changed_lines(sides: tuple[_Side, _Side], sums: tuple[_Sums, _Sums]) -> IntArray:
    """Return the line of each row that has most of its change; 0 where none has. A side that knows
    no line of a row has no say.
    """
    row, line = (np.concatenate([getattr(s, name) for s in sides]) for name in ("row", "line"))
    width = 1 + int(line.max(initial=0))
    pairs, at = np.unique(row.astype(np.int64) * width + line, return_inverse=True)
    says = np.concatenate([np.bincount(s.row, s.line)[s.row] > 0 for s in sides])
    change = np.bincount(at, says * np.concatenate([-sums[0].held, sums[1].held]))
    row, line = pairs // width, pairs % width
    size = np.abs(change)
    order = np.argsort(size, kind="stable")
    most = np.zeros(len(sums[0].heaviest), dtype=np.int64)
    most[row[order]] = order  # of several the last is kept
    others = added_up(row, size, len(most)) - size[most]
    known = (2 * others < np.abs(added_up(row, change, len(most)))) | (np.bincount(row) == 1)
    return np.where(known, line[most], 0)


class _Names:
    """The frames of each row, the first at the ``line`` that changed; the callers are of the stack
    that has most of its bytes now, else of the one that had most, without a line where these two
    are at different ones.
    """

    def __init__(
        self, sides: tuple[_Side, _Side], sums: tuple[_Sums, _Sums], line: IntArray
    ) -> None:
        self._sides, self._heaviest = sides, [one.heaviest for one in sums]
        self._line = line

    def __getitem__(self, row: int) -> tuple[Frame, ...]:
        had, now = (
            None if at[row] < 0 else side.frames[int(at[row])]
            for side, at in zip(self._sides, self._heaviest, strict=True)
        )
        shown = now or had or ()
        if had and now:
            shown = tuple([_of_both(*both) for both in zip(had, now, strict=True)])
        return tuple([replace(one, line=int(self._line[row])) for one in shown[:1]]) + shown[1:]


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
        before, after = (one.of for one in sums)
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
        before, after = (one.of for one in self._sums)
        delta = float(self._delta[k])
        samples = int(before.samples[k] + after.samples[k])
        met = (bool(one.met[k]) for one in self._sums)
        known = float(self._error[k]) if self._exact else math.nan
        return DiffRow(
            _change(delta, *met, sure=bool(self._stands[k])),
            self._names[k],
            _estimate(before, k, self._unseen, exact=self._exact),
            _estimate(after, k, self._unseen, exact=self._exact),
            Estimate(delta, known, samples, self._unseen, signed=True),
        )


def _change(delta: float, before: bool, after: bool, *, sure: bool) -> Change:
    if not sure:
        return Change.NOISE
    if delta > 0:
        return Change.GROWN if before else Change.NEW
    return Change.SHRUNK if after else Change.GONE


def _estimate(sums: Amounts, k: int, unseen: Unseen, *, exact: bool) -> Estimate:
    return Estimate.of_sums(sums.value[k], sums.variance[k], sums.samples[k], unseen, exact=exact)


def _older(base: Profile, new: Profile) -> str:
    """Return that what grew may replace blocks which the capture did not see."""
    was, now = (p.capture.memory.anon_bytes for p in (base, new))
    if was is None or now is None:
        return phrase(
            "blocks older than the capture are in neither file: what grew may replace them, as in"
            " a full cache"
        )
    return phrase(
        "blocks older than the capture are in neither file: what grew may replace them, as in a"
        " full cache; anonymous memory changed by {change} meanwhile",
        change=format_change(now - was, Unit.SPACE),
    )


def _notes(
    profiles: tuple[Profile, Profile], level: Level, count: Count, *, paired: bool
) -> list[str]:
    base, new = profiles
    notes: list[str] = []
    if paired:
        notes.append(phrase("snapshots of one capture: blocks that are live in both cancel out"))
        if not (new.since_start or new.capture.from_start):
            notes.append(_older(base, new))
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
