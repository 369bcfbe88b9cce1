"""Totals of each function of a running process, moment by moment.

`totals` adds up the profile of one moment; `rows` puts it beside an earlier one (how fast does each
function allocate?) and a mark (what has changed since?). What came before is always added up under
the names and filters of now, so that a function whose role has changed does not seem to grow.

**Errors.** Both counts of a capture, of blocks allocated and of blocks freed, only ever grow. So
what was allocated between two moments has the variance of the samples in between, and the change
of what is in use that of the births and frees in between: blocks that live at both moments are the
same blocks and cancel (see `mem_parser.diff`). Of one thread only the blocks in use are known;
then the two moments count as independent, and the error is too large rather than too small.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from mem_parser.estimate import Estimate, FloatArray, Unseen, added_up
from mem_parser.filters import Filters, of_threads
from mem_parser.frames import same_capture
from mem_parser.growth import StackIndex
from mem_parser.live.keptshown import KeptShown
from mem_parser.live.stacksums import (
    Names,
    ShownStacks,
    StackColumns,
    shown_stacks,
    stack_columns,
)
from mem_parser.model import BoolArray, Count, IntArray, Profile, Unit
from mem_parser.significance import beyond_chance, p_of_changes
from mem_parser.symbols.table import Symbols

_EQUAL = 1e-9
"""Differences below this share of the numbers are rounding."""


class Order(enum.StrEnum):
    """What is first among rows: the largest of this."""

    OWN = "own"
    TOTAL = "total"
    BLOCKS = "blocks"
    GROWTH = "growth"


@dataclass(frozen=True, slots=True)
class Totals:
    """What each function had at one moment: columns with one entry per function, by the name that
    reports show; ``modules`` and ``files`` are those of the first function of that name.

    ``own`` are estimated bytes in use that are charged to the function, ``total`` those and what
    was allocated below it; ``blocks`` are objects, of ``own``. ``allocated`` are bytes allocated
    since the capture began, by total; NaN where nobody counted them, as of one thread.
    ``t_s``: seconds since the capture began. ``part`` are the sites of ``profile`` that the filters
    of domains and threads leave; ``by_stack`` what its stacks have.
    """

    t_s: float
    names: list[str]
    modules: list[str]
    files: list[str]
    own: FloatArray
    own_variance: FloatArray
    own_samples: FloatArray
    total: FloatArray
    total_variance: FloatArray
    total_samples: FloatArray
    blocks: FloatArray
    allocated: FloatArray
    profile: Profile = field(repr=False)
    filters: Filters = field(repr=False)
    thread: int | None = field(repr=False)
    part: Profile = field(repr=False)
    shown: ShownStacks = field(repr=False)
    by_stack: StackColumns = field(repr=False)

    @property
    def sum(self) -> Estimate:
        """The estimate of all that the filters leave."""
        shown = self.shown.own >= 0
        sums = self.by_stack
        columns = (sums.value, sums.variance, sums.samples)
        value, variance, samples = (float(column[shown].sum()) for column in columns)
        return self.estimate(value, variance, samples)

    def together(self, functions: BoolArray) -> tuple[Estimate, Estimate]:
        """Return what some functions have together, a mask of them: own, and total, in which a
        stack with several of them counts once.
        """
        shown, sums = self.shown, self.by_stack
        own = np.append(functions, False)[shown.own]  # of a stack that is left out the last
        total = np.zeros(len(own), dtype=np.bool_)
        total[shown.stack[functions[shown.function]]] = True
        found = (
            [float(column[which].sum()) for column in (sums.value, sums.variance, sums.samples)]
            for which in (own, total)
        )
        first, second = (self.estimate(*columns) for columns in found)
        return first, second

    def estimate(self, value: float, variance: float, samples: float) -> Estimate:
        """Return the sum of estimates from the sums of their values, variances and samples."""
        known = self.profile.errors_known
        return Estimate.of_sums(value, variance, samples, self.unseen, exact=known)

    @property
    def unseen(self) -> Unseen:
        """What sums of bytes must allow for blocks of which no sample came."""
        return self.profile.unseen(Unit.SPACE)

    def same_blocks(self, other: Profile) -> Profile:
        """Return the part of another moment's profile that this one shows of its own."""
        return _part(other, self.filters, self.thread)


def totals(
    profile: Profile,
    symbols: Symbols,
    filters: Filters,
    *,
    thread: int | None = None,
    kept: KeptShown | None = None,
) -> Totals:
    """Add up ``profile`` by function. ``thread`` is the row of one of `Profile.threads`: only its
    blocks in use count; None: those of all. ``kept``: how stacks of the moments before are shown.

    ``filters`` choose stacks, frames, domains; rows always have bytes in use, whatever their
    ``count`` and ``unit``. Raises as `Filters.apply`.
    """
    filters = dataclasses.replace(filters, count=Count.INUSE, unit=Unit.SPACE)
    part = _part(profile, filters, thread)
    known = None if kept is None else kept.of(symbols, filters)
    names, shown = known or _shown(part, symbols, filters)
    sums = stack_columns(part)
    objects, _, _ = part.weigh(Count.INUSE, Unit.OBJECTS)
    stacks = len(part.stacks)
    allocated = shown.by_total(sums.allocated)
    return Totals(
        t_s=profile.capture.duration_s or 0.0,
        names=names.names,
        modules=names.modules,
        files=names.files,
        own=shown.by_own(sums.value),
        own_variance=shown.by_own(sums.variance),
        own_samples=shown.by_own(sums.samples),
        total=shown.by_total(sums.value),
        total_variance=shown.by_total(sums.variance),
        total_samples=shown.by_total(sums.samples),
        blocks=shown.by_own(added_up(part.sites.stack, objects, stacks)),
        allocated=allocated if part.has_alloc else np.full(len(names.names), np.nan),
        profile=profile,
        filters=filters,
        thread=thread,
        part=part,
        shown=shown,
        by_stack=sums,
    )


def _shown(part: Profile, symbols: Symbols, filters: Filters) -> tuple[Names, ShownStacks]:
    names = Names.of(symbols)
    return names, shown_stacks(symbols, filters, filters.stacks(part, symbols), names)


def _part(profile: Profile, filters: Filters, thread: int | None) -> Profile:
    part = filters.part(profile)
    return part if thread is None else of_threads(part, [thread])


@dataclass(frozen=True, slots=True)
class Row:
    """One function now. ``growth`` and ``total_growth`` are the changes of ``own`` and ``total``
    since the mark, which stand if chance alone does not explain them; ``rate`` are the bytes a
    second that it and what it called allocate since the moment before. None where nobody knows.
    """

    name: str
    module: str
    file: str
    own: Estimate
    total: Estimate
    blocks: float
    rate: Estimate | None = None
    growth: Estimate | None = None
    total_growth: Estimate | None = None
    growth_stands: bool = False
    total_growth_stands: bool = False


@dataclass(slots=True)
class _Change:
    """The change of each function, and which changes stand."""

    value: FloatArray
    variance: FloatArray
    samples: FloatArray
    stands: BoolArray


@dataclass(frozen=True, slots=True)
class Rows(Sequence[Row]):
    """The rows, in their order. A look-up builds them, because there may be many thousands.

    ``numbers`` has a line for each row: value, variance and samples of own and total, blocks, then
    where they are known those of the rate, over ``seconds``, and of both changes, each of which has
    whether it stands. ``order`` is the place of each row's function among all of the moment.
    """

    names: list[str]
    modules: list[str]
    files: list[str]
    numbers: FloatArray
    unseen: Unseen
    errors_known: bool
    seconds: float | None = None
    is_compared: bool = False
    order: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return 7 + 3 * (self.seconds is not None) + 8 * self.is_compared

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self._row(k) for k in range(len(self))[index]]
        return self._row(index)

    def where(self, functions: BoolArray) -> Rows:
        """Return the rows of these functions, a mask over the names of the moment."""
        return self._kept(np.flatnonzero(functions[self.order]))

    def owners(self) -> Rows:
        """Return the rows of functions that own something, or did at the mark."""
        owns = self.numbers[:, 2] > 0
        if self.is_compared:
            owns |= self.numbers[:, -6] > 0
        return self._kept(np.flatnonzero(owns))

    def _kept(self, kept: IntArray) -> Rows:
        texts = ([column[k] for k in kept.tolist()]
                 for column in (self.names, self.modules, self.files))  # fmt: skip
        names, modules, files = texts
        return dataclasses.replace(
            self, names=names, modules=modules, files=files, numbers=self.numbers[kept],
            order=self.order[kept],
        )  # fmt: skip

    def _row(self, k: int) -> Row:
        found = self.numbers[k].tolist()
        rate = own_change = total_change = None
        if self.seconds is not None:
            s, (value, variance, samples) = self.seconds, found[7:10]
            plain = self._estimate(value / s, variance / s**2, samples)
            rate = dataclasses.replace(plain, unseen=self.unseen.scaled(1 / s))
        if self.is_compared:
            own_change, total_change = (
                dataclasses.replace(self._estimate(*found[first:last]), signed=True)
                for first, last in ((-8, -5), (-4, -1))
            )
        return Row(
            self.names[k],
            self.modules[k],
            self.files[k],
            self._estimate(*found[:3]),
            self._estimate(*found[3:6]),
            found[6],
            rate,
            own_change,
            total_change,
            self.is_compared and bool(found[-5]),
            self.is_compared and bool(found[-1]),
        )

    def _estimate(self, value: float, variance: float, samples: float) -> Estimate:
        return Estimate.of_sums(value, variance, samples, self.unseen, exact=self.errors_known)


def rows(now: Totals, before: Totals | None, mark: Totals | None, order: Order) -> Rows:
    """Return a row for each function that has blocks now, had some at the ``mark``, or allocated
    since ``before``.

    Two moments of different captures have nothing in common: then there is no rate, no growth. By
    `Order.GROWTH` changes that stand are before and, if something shrank, behind those that do not.
    """
    earlier = None if before is None else _earlier(now, before)
    seconds = 0.0 if before is None else now.t_s - before.t_s
    rate = None if earlier is None or seconds <= 0 else _rate(now, earlier)
    past = None if mark is None else _earlier(now, mark)
    growth = None if past is None else _growth(now, past)
    shown = now.total_samples > 0
    if rate is not None:
        shown |= rate.samples > 0
    if growth is not None:
        shown |= growth[1].samples > 0
    found = np.flatnonzero(shown)
    by = _sorted_by(now, growth[0] if growth is not None else None, order)
    found = found[np.lexsort(tuple(-column[found] for column in reversed(by)))]
    return _rows(now, found, None if rate is None else (rate, seconds), growth)


def _rows(
    now: Totals,
    order: IntArray,
    rate: tuple[_Change, float] | None,
    growth: tuple[_Change, _Change] | None,
) -> Rows:
    """Return these functions in this order."""
    columns = [now.own, now.own_variance, now.own_samples]
    columns += [now.total, now.total_variance, now.total_samples, now.blocks]
    if rate is not None:
        columns += [rate[0].value, rate[0].variance, rate[0].samples]
    for change in growth or ():
        columns += [change.value, change.variance, change.samples, change.stands.astype(np.float64)]
    places = order.tolist()
    return Rows(
        names=[now.names[k] for k in places],
        modules=[now.modules[k] for k in places],
        files=[now.files[k] for k in places],
        numbers=np.stack([column[order] for column in columns], axis=1).astype(np.float64),
        unseen=now.unseen,
        errors_known=now.profile.errors_known,
        seconds=None if rate is None else rate[1],
        is_compared=growth is not None,
        order=order,
    )


def _sorted_by(now: Totals, growth: _Change | None, order: Order) -> list[FloatArray]:
    """Return the columns that rows are sorted by, the first one first."""
    if order is Order.TOTAL:
        return [now.total, now.own]
    if order is Order.BLOCKS:
        return [now.blocks, now.own]
    if order is Order.GROWTH and growth is not None:
        return [np.where(growth.stands, growth.value, 0.0), growth.value, now.own]
    return [now.own, now.total]


@dataclass(slots=True)
class _Earlier:
    """The columns of an earlier moment, for the stacks of now."""

    sums: StackColumns
    is_counted: bool


def _earlier(now: Totals, then: Totals) -> _Earlier | None:
    """Return what the stacks of ``now`` had then; None where that was another capture."""
    if not same_capture([now.profile, then.profile]):
        return None
    alike = (then.filters.domains, then.filters.threads, then.thread) == (
        now.filters.domains,
        now.filters.threads,
        now.thread,
    )
    part = then.part if alike else now.same_blocks(then.profile)
    sums = then.by_stack if alike else stack_columns(part)
    moved = _moved(sums.each(), then.profile, now.profile)
    return _Earlier(StackColumns(*moved), part.has_alloc and now.part.has_alloc)


def _moved(columns: list[FloatArray], then: Profile, now: Profile) -> Iterator[FloatArray]:
    """Yield columns of the stacks of ``then`` as columns of those of ``now``."""
    stacks = len(now.stacks)
    if now.stacks.series is not None and now.stacks.series is then.stacks.series:
        for column in columns:
            yield np.concatenate((column, np.zeros(max(stacks - len(column), 0))))[:stacks]
        return
    stack = StackIndex(now).match(then)
    known = np.flatnonzero(stack >= 0)
    for column in columns:
        yield added_up(stack[known], column[known], stacks)


def _rate(now: Totals, earlier: _Earlier) -> _Change | None:
    """Return what was allocated since, by total; None where allocations are not counted."""
    if not earlier.is_counted:
        return None
    after, before = now.by_stack, earlier.sums
    value, variance, samples = (
        now.shown.by_total(np.maximum(new - old, 0.0))
        for new, old in (
            (after.allocated, before.allocated),
            (after.allocated_variance, before.allocated_variance),
            (after.allocated_samples, before.allocated_samples),
        )
    )
    return _Change(value, variance, samples, np.zeros(len(value), dtype=np.bool_))


def _growth(now: Totals, earlier: _Earlier) -> tuple[_Change, _Change]:
    """Return how what is in use has changed: own, and total."""
    after, before = now.by_stack, earlier.sums
    columns = [
        after.value - before.value,
        after.variance + before.variance,
        after.samples + before.samples,
        after.value + before.value,
    ]
    if earlier.is_counted:
        born = np.maximum(after.allocated_variance - before.allocated_variance, 0.0)
        freed = np.maximum(after.freed_variance - before.freed_variance, 0.0)
        columns.append(born + freed)
    weight, is_exact = now.unseen.weight, now.profile.errors_known
    own, total = (
        _judged([add(column) for column in columns], weight, is_exact=is_exact)
        for add in (now.shown.by_own, now.shown.by_total)
    )
    return own, total


def _judged(columns: list[FloatArray], weight: float, *, is_exact: bool) -> _Change:
    """Tell which changes stand, as in `mem_parser.changed`. Without errors every change does."""
    value, variance, samples, size, *paired = columns
    # Independent moments bound the error of paired ones: common samples only cancel.
    for less in paired:
        variance = np.minimum(variance, less)
    moved = np.abs(value) > _EQUAL * size
    stands = moved.copy()
    tested = np.flatnonzero(samples > 0)
    if is_exact and len(tested):
        p = p_of_changes(value[tested], variance[tested], weight)
        stands[:] = False
        stands[tested] = beyond_chance(p)
    return _Change(value, variance, samples, stands & moved)
