"""Growth since a baseline: of the whole, of sites, and function by function.

Functions match by name and source file (build-id and offset where they have no name). A second pass
matches the rest: a function of the same name in another file was moved; one with the same callers,
in the same file or of a similar size, was renamed. Which changes are more than chance
`significance.beyond_chance` says, as in `diff`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from dataclasses import dataclass

import numpy as np

from mem_parser.budget.baseline import (
    Allocating,
    Amount,
    FunctionRow,
    Program,
    amount_for,
    amount_of,
    functions_of,
    key_of,
    least_of,
)
from mem_parser.budget.bounds import Bounded, difference_lower, difference_upper
from mem_parser.budget.measure import Measured, reading_note
from mem_parser.budget.rules import FEW_BLOCKS, Budget, Limit, Measure, Site
from mem_parser.budget.spots import grown_line
from mem_parser.budget.subject import Subject
from mem_parser.diff import Change
from mem_parser.estimate import Estimate
from mem_parser.frames import Frame
from mem_parser.model import Count, Profile, Unit
from mem_parser.significance import beyond_chance, p_of_estimate
from mem_parser.units import format_change, format_estimate, format_margin, format_value

_SIMILAR = 0.6
_CALLERS_WEIGHT = 0.5
_FILE_WEIGHT = 0.25
_SIZE_WEIGHT = 0.25
_MOST_OF_ROOM = 0.5
"""Of what a limit allows, the part that the error of the baseline may take."""
_AIM_OF_ROOM = 0.4
_FINEST_STEP = 1 / 64
_UNLIKE = 0.5


@dataclass(frozen=True, slots=True)
class Grown:
    """The new total and its limit: ``factor`` times the baseline's."""

    new: Bounded
    base: Bounded
    factor: float

    @property
    def value(self) -> float:
        """The new estimate."""
        return self.new.value

    @property
    def estimate(self) -> Estimate:
        """The new estimate with the error of both."""
        error = math.hypot(self.new.estimate.std_error, self.factor * self.base.estimate.std_error)
        new = self.new.estimate
        return Estimate(new.value, error, new.samples, new.unseen)

    def lower(self, alpha: float) -> float:
        """Return the allowed amount plus the lower bound of the difference."""
        return self.allowed + difference_lower(self.new, self.base, self.factor, alpha)

    def upper(self, alpha: float) -> float:
        """Return the allowed amount plus the upper bound of the difference."""
        return self.allowed + difference_upper(self.new, self.base, self.factor, alpha)

    @property
    def allowed(self) -> float:
        """The amount that the baseline allows."""
        return self.factor * self.base.value

    def blurred(self, amount: float, alpha: float) -> bool:
        """Tell whether the baseline's own error would leave the limit undecided even if the new
        value were exact, at any point within its bounds. ``amount`` is the limit.
        """
        more = amount - self.allowed
        low, high = self.base.lower(alpha), self.base.upper(alpha)
        below = self.new.lower(alpha) <= self.factor * low + more
        above = self.new.upper(alpha) >= self.factor * high + more
        return not (below or above)


@dataclass(frozen=True, slots=True)
class FunctionChange:
    """One function before and after; ``was`` is its old name where it was renamed or moved.
    ``old_lines`` are what its lines held; none: unknown, or it is new.
    """

    change: Change
    now: Allocating
    base: Estimate
    delta: Estimate
    was: str = ""
    old_lines: tuple[Amount, ...] = ()

    @property
    def row(self) -> FunctionRow:
        """The function as it is."""
        return self.now.row

    @property
    def line(self) -> int | None:
        """Which of its lines grew; None: nobody knows."""
        lines = self.row.lines
        if lines and self.change is Change.NEW:  # so each of them is
            return max(range(len(lines)), key=lambda k: lines[k].value)
        return grown_line(lines, self.old_lines) if lines else None

    @property
    def stacks(self) -> tuple[tuple[Frame, ...], ...]:
        """The stacks of the line that grew, the largest first; where nobody knows which did, those
        of all lines, without the line.
        """
        if (k := self.line) is not None:
            return self.now.stacks(k)
        count = len(self.now.by_line)
        every = [self.now.frames, *(one for j in range(count) for one in self.now.stacks(j))]
        unplaced = ((dataclasses.replace(first, line=0), *rest) for first, *rest in every)
        return tuple(dict.fromkeys(unplaced))


def measure_growth(
    profile: Profile, part: Profile | None, site: Site | None, program: Program, limit: Limit
) -> Measured:
    """Measure a ``part`` of a capture, that of ``site``, against what its baseline allows by
    ``limit``. Raises nothing.
    """
    if part is None:
        return Measured(None, "the file has no counts by thread")
    is_of_held = limit.measure is Measure.GROWTH
    if is_of_held:
        kept = site is None and program.measure is Count.PEAK and profile.capture.kept_peak_bytes
        if not profile.has(program.measure) and not kept:
            return Measured(None, f"the baseline has the {program.measure}, which the file lacks")
        new: Bounded = amount_of(profile, part, program.measure)
        name = "peak" if program.measure is Count.PEAK else "in use"
    else:
        found = amount_for(limit.measure, profile, part)
        if found.what is None:
            return found
        new, name = found.what, "allocated"
    stored = program.amount(key_of(limit.measure, site))
    if stored is None:
        of = "limit" if site is None else "site"
        return Measured(
            None, f"the baseline has no line for this {of}: renew it with --update-baseline"
        )
    base = stored.bounded(program.rate, limit.measure.unit)
    notes = [_since_baseline(name, limit.measure.unit, new.estimate, base.estimate)]
    if is_of_held and program.measure is Count.PEAK:
        notes += filter(
            None, [reading_note(profile, amount_of(profile, profile, Count.PEAK).value)]
        )
    return Measured(Grown(new, base, allowed_factor(limit)), notes=notes)


def _since_baseline(name: str, unit: Unit, new: Estimate, base: Estimate) -> str:
    """Return `peak against the baseline: 28.18 MiB then, +2.62 MiB ± 1.2 MiB (+9.3 %) since`; of
    blocks that only have a lower bound what they are now: `224 then, 219 (≥ 216) now`.
    """
    delta = new - base
    if math.isinf(delta.interval95[1]):
        then, now = format_estimate(base, unit), format_estimate(new, unit)
        return f"{name} against the baseline: {then} then, {now} now"
    change = f"{format_change(delta.value, unit)} {format_margin(delta, unit)}".strip()
    share = f" ({100 * delta.value / base.value:+.1f} %)" if base.value else ""
    then = format_value(base.value, unit)
    return f"{name} against the baseline: {then} then, {change}{share} since"


def allowed_factor(limit: Limit) -> float:
    """Return the factor of a limit on growth to its baseline."""
    return (1 + limit.growth.share) * (1 + limit.tolerance.share)


def allowed_more(limit: Limit) -> float:
    """Return what it allows beyond that, whatever the baseline; a tolerance in bytes is none of
    blocks.
    """
    return limit.growth.bytes + (0.0 if limit.measure.counts_blocks else limit.tolerance.bytes)


def needed_baseline_rate(program: Program, budget: Budget, tries: int) -> float:
    """Return the bytes per sample at which ``program`` as a baseline is precise enough to decide
    its limits on growth in ``tries`` tries; its own rate where that is precise enough.

    The error falls with the root of the rate. One step never goes below a 64th of the rate, but for
    blocks that are few enough to sample each.
    """
    rate = program.rate
    for site, limit in budget.every_limit:
        stored = program.amount(key_of(limit.measure, site)) if limit.measure.is_growth else None
        is_of_blocks = limit.measure.counts_blocks
        if stored is None or not (stored.std_error or is_of_blocks):
            continue
        width = _missing(stored, program.rate, limit, budget.error / tries)
        room = (allowed_factor(limit) - 1) * stored.value
        room += allowed_more(limit)
        if width > _MOST_OF_ROOM * room:
            if is_of_blocks and stored.value <= FEW_BLOCKS:
                return min(program.rate, 1.0)
            rate = min(rate, program.rate * max((_AIM_OF_ROOM * room / width) ** 2, _FINEST_STEP))
    return max(rate, min(program.rate, 1.0))


def _missing(stored: Amount, rate: float, limit: Limit, alpha: float) -> float:
    """Return what may be missing for a pass; of blocks, which small ones unseen may be many times,
    for a failure.
    """
    bounds = stored.bounded(rate)
    missing = stored.value - bounds.lower(alpha)
    if limit.measure.counts_blocks:
        missing = max(missing, bounds.upper(alpha) - stored.value)
    return allowed_factor(limit) * missing


def changes(subject: Subject, program: Program, key: str = "") -> list[FunctionChange]:
    """Return the change of every function by ``key`` since the baseline, the largest growth first.

    An amount too small for a baseline is noise, even with a small error; and of a function that a
    baseline lacks so much more, since it may have held as much.
    """
    least = least_of(program, key)
    rate = max(program.rate, subject.profile.rate_bytes)
    count, unit = program.counted(key)
    rows = functions_of(subject, count, unit)
    pairs = _match([one.row for one in rows], program.functions_by(key) or [])
    found = []
    for one, base in zip(rows, pairs, strict=True):
        before = base.amount.estimate(rate, unit) if base else Estimate(0.0)
        was = "" if base is None or base.key == one.row.key else _old_name(base, one.row)
        delta = one.row.amount.estimate(rate, unit) - before
        old_lines = base.lines if base else ()
        found.append(FunctionChange(Change.NOISE, one, before, delta, was, old_lines))
    sure = beyond_chance(np.array([p_of_estimate(one.delta) for one in found])).tolist()
    result = []
    for each, is_sure in zip(found, sure, strict=True):
        enough = abs(each.delta.value) >= (1 if each.base.samples else 2) * least
        kind = _change(each.base, each.delta, sure=bool(is_sure) and enough)
        result.append(dataclasses.replace(each, change=kind))
    result.sort(key=lambda c: -c.delta.value)
    return result


def unlike_names(subject: Subject, program: Program) -> str | None:
    """Say that functions seem new because one of the two builds has no names; None: both are alike.

    Where most of what the program's file holds has a name in one only, the builds were made or
    stripped differently.
    """
    file = os.path.basename(subject.profile.capture.exe)
    now = _nameless_share([one.row for one in functions_of(subject, program.measure)], file)
    then = _nameless_share(program.functions, file)
    if abs(now - then) < _UNLIKE:
        return None
    lacking = "this build" if now > then else "the build of the baseline"
    return (
        f"functions of {file} have no names in {lacking}, so they cannot be matched, and what is"
        " called new may be old: keep the symbols of both (-g, no strip), or renew the baseline"
    )


def _nameless_share(rows: list[FunctionRow], file: str) -> float:
    total = sum(row.amount.value for row in rows)
    return sum(r.amount.value for r in rows if r.file.startswith(f"{file}@")) / max(total, 1.0)


def _change(base: Estimate, delta: Estimate, *, sure: bool) -> Change:
    if not sure:
        return Change.NOISE
    if delta.value <= 0:
        return Change.SHRUNK
    return Change.GROWN if base.samples else Change.NEW


def _old_name(base: FunctionRow, row: FunctionRow) -> str:
    return base.function if base.function != row.function else base.file


def _match(rows: list[FunctionRow], base: list[FunctionRow]) -> list[FunctionRow | None]:
    """Return for each of ``rows`` its match in ``base``."""
    known = {row.key: row for row in base}
    result = [known.pop(row.key, None) for row in rows]
    left = list(known.values())
    open_rows = [k for k, found in enumerate(result) if found is None]
    by_name: dict[str, list[FunctionRow]] = {}
    for row in left:
        by_name.setdefault(row.function, []).append(row)
    names = [rows[k].function for k in open_rows]
    for k in list(open_rows):
        same = by_name.get(rows[k].function, [])
        if len(same) == 1 and names.count(rows[k].function) == 1:
            result[k] = same[0]
            left.remove(same[0])
            open_rows.remove(k)
    _match_renamed(rows, left, open_rows, result)
    return result


def _match_renamed(
    rows: list[FunctionRow],
    left: list[FunctionRow],
    open_rows: list[int],
    result: list[FunctionRow | None],
) -> None:
    scored = sorted(
        ((_similarity(rows[k], row), k, j) for k in open_rows for j, row in enumerate(left)),
        reverse=True,
    )
    used: set[int] = set()
    for score, k, j in scored:
        if score < _SIMILAR:
            break
        if result[k] is None and j not in used:
            result[k] = left[j]
            used.add(j)


def _similarity(a: FunctionRow, b: FunctionRow) -> float:
    """Return from 0 to 1 how alike two functions of different names are."""
    callers = difflib.SequenceMatcher(None, a.callers, b.callers).ratio()
    larger = max(a.amount.value, b.amount.value)
    size = min(a.amount.value, b.amount.value) / larger if larger else 1.0
    same_file = float(a.file.split("@")[0] == b.file.split("@")[0])
    return _CALLERS_WEIGHT * callers + _FILE_WEIGHT * same_file + _SIZE_WEIGHT * size
