"""`waste`: what blocks in use cost in RAM beyond what was asked for, one row per function.

saved   held and slop: what would be saved
held    free bytes on pages that they keep in RAM
pinned  of these those on pages where a block is the only one
slop    behind what was asked for, by the allocator's sizes
absent  of the blocks not in RAM, which costs none
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mem_parser.errors import InputFileError, one_line
from mem_parser.estimate import Estimate, Unseen
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.aggregate import GroupBy, rows_of
from mem_parser.reports.grid import (
    NAME,
    Block,
    Column,
    Record,
    amount,
    amounts,
    in_noise,
    marked,
    number_keys,
    numbers,
)
from mem_parser.reports.table import hidden_line
from mem_parser.reports.view import View
from mem_parser.units import format_value
from mem_parser.words import Phrase, phrase, shown

_PARTS = (Count.HELD, Count.PINNED, Count.SLOP, Count.ABSENT)
KEYS = (
    "function", *(key for name in ("saved", *_PARTS) for key in number_keys(name)),
    "reason", "cure", "noise",
)  # fmt: skip
"""Columns of the rows for programs."""
_SMALL_SHARE = 0.005
_PAGE_BYTES = 4096
ALONE, SHARED = phrase("last on page"), phrase("shared pages")
SLOP, ABSENT, NOTHING = phrase("slop"), phrase("not in RAM"), phrase("none")
CURES = {
    ALONE: phrase(
        "alone on pages whose other blocks were freed: allocate blocks that stay together, before "
        "those that go, or in an arena of their own; or copy them together afterwards"
    ),
    SHARED: phrase(
        "on pages with freed blocks, which their next blocks may fill: allocate together what is "
        "freed together"
    ),
    SLOP: phrase(
        "sizes just above a size of the allocator's: ask for less, or use all that "
        "malloc_usable_size tells; many small blocks may be one"
    ),
    ABSENT: phrase(
        "never written, given back or swapped: no RAM to save; ask for less, or grow as it fills"
    ),
    NOTHING: phrase("nothing to save"),
}
"""What to do, by reason."""
_NOT_SURE = phrase(
    "too few samples to tell what would help: capture longer, or at a finer rate (-c)"
)


@dataclass(frozen=True, slots=True)
class WasteRow:
    """One function; ``parts`` are its bytes by those of `_PARTS` that are known."""

    name: str
    saved: Estimate
    parts: dict[Count, Estimate]

    @property
    def reason(self) -> Phrase:
        """A key of `CURES`: of the largest part that can be saved."""
        held, pinned, slop, absent = (self.value(part) for part in _PARTS)
        if not self.saved.value:
            return ABSENT if absent else NOTHING
        if slop > held:
            return SLOP
        return ALONE if pinned > held / 2 else SHARED

    @property
    def cure(self) -> Phrase:
        """What to do; of a row inside the noise nobody knows."""
        return _NOT_SURE if in_noise(self.saved) else CURES[self.reason]

    def value(self, part: Count) -> float:
        """Return the bytes of a part, 0 if they are not known."""
        return self.parts[part].value if part in self.parts else 0.0


@dataclass(frozen=True, slots=True)
class Waste:
    """The rows to show, in order; ``left_out`` are hidden. ``cached`` is the memory of a heap's
    pages without a block of the capture; None: not known.
    """

    view: View
    rows: list[WasteRow]
    left_out: int
    saved: Estimate
    cached: Estimate | None


def like_its_own(estimate: Estimate, part: Count, objects: Estimate) -> Estimate:
    """Return an estimate of ``part`` whose next sample adds what those it has did on average, and
    of pages, where they did nothing, one page: the rule of bytes, at most T, holds for parts of a
    block alone, and a small block may hold a whole page. ``objects`` is the number of the blocks.
    """
    if math.isnan(estimate.std_error) or not estimate.samples or not estimate.unseen.weight:
        return estimate
    weight = estimate.unseen.weight
    if estimate.value:
        weight = max(weight, estimate.std_error**2 / abs(estimate.value))
    elif part in (Count.HELD, Count.PINNED):
        weight = max(weight, _PAGE_BYTES * objects.value / estimate.samples)
    return replace(estimate, unseen=Unseen(weight))


def _sum(held: Estimate | None, slop: Estimate) -> Estimate:
    """Return held and slop together: of the same blocks, so that errors add up at most."""
    if held is None:
        return slop
    both = held + slop
    return replace(both, std_error=held.std_error + slop.std_error, samples=held.samples)


def waste(view: View, limit: int | None = None, group: GroupBy = GroupBy.FUNCTION) -> Waste:
    """Return the rows; ``limit`` is the most, 0: all, None: those above a share of the total.
    Raises `InputFileError` for a file that does not say.
    """
    profile = view.profile
    if not profile.has(Count.SLOP):
        notes = [note for note in profile.capture.notes if note.startswith("waste by stack")]
        why = f": {one_line(notes[0])}" if notes else ""
        raise InputFileError(
            f"the file does not say what its blocks waste{why}",
            hint=None if notes else "mem_profiler --resident writes files that do",
        )
    found: dict[str, dict[Count, Estimate]] = {}
    known = [part for part in _PARTS if profile.has(part)]
    objects = {r.name: r.flat for r in rows_of(view.sums(group, unit=Unit.OBJECTS))}
    for part in known:
        for row in rows_of(view.sums(group, count=part, unit=Unit.SPACE)):
            if row.flat.samples:
                one = like_its_own(row.flat, part, objects[row.name])
                found.setdefault(row.name, {})[part] = one
    rows = [
        WasteRow(name, _sum(parts.get(Count.HELD), parts[Count.SLOP]), parts)
        for name, parts in found.items()
    ]
    rows.sort(key=lambda r: (-r.saved.value, -r.value(Count.ABSENT), r.name))
    totals = {part: _total(profile, part) for part in known}
    saved = _sum(totals.get(Count.HELD), totals[Count.SLOP])
    small = 0.0 if limit is not None else _SMALL_SHARE * saved.value
    kept = [r for r in rows if max(r.saved.value, r.value(Count.ABSENT)) >= small][: limit or None]
    cached = None if view.filters.narrows else _cached(profile)
    return Waste(view, kept, len(rows) - len(kept), saved, cached)


def _total(profile: Profile, part: Count) -> Estimate:
    objects = profile.total(Count.INUSE, Unit.OBJECTS)
    return like_its_own(profile.total(part, Unit.SPACE), part, objects)


def _cached(profile: Profile) -> Estimate | None:
    memory = profile.capture.memory
    if memory.heap_bytes is None or not profile.has(Count.PAGES):
        return None
    charged = _total(profile, Count.PAGES)
    heap = float(memory.heap_bytes + (memory.arena_bytes or 0))
    return replace(charged, value=heap - charged.value, signed=True)


def blocks(found: Waste) -> Iterator[Block]:
    """Yield the report for people."""
    yield from found.view.framed(_body(found), hidden_line(found.left_out, 0))
    if not found.view.total.samples:
        yield shown(
            phrase(
                "waste is that of sampled blocks still in use, and there are none: capture while "
                "the program allocates, or at a finer rate (-c)"
            )
        )


def _body(found: Waste) -> Iterator[Block]:
    noisy = in_noise(found.saved)
    total = phrase("held and slop together: {amount}", amount=amount(found.saved, Unit.SPACE))
    yield shown(phrase("~ {total}, inside the noise", total=total) if noisy else total)
    saved = amounts((row.saved for row in found.rows), Unit.SPACE)
    rows = [
        (text, *(_plain(row, part) for part in _PARTS), row.reason, row.name)
        for text, row in zip(saved, found.rows, strict=True)
    ]
    heads = (
        phrase("saved"),
        phrase("held"),
        phrase("pinned"),
        phrase("slop"),
        phrase("not in RAM"),
    )
    columns = (*map(Column, heads), Column(phrase("reason"), right=False), NAME)
    yield from marked(columns, rows, (row.saved for row in found.rows))
    sure = set() if noisy else {row.reason for row in found.rows if not in_noise(row.saved)}
    for reason, cure in CURES.items():
        if reason in sure and reason is not NOTHING:
            yield shown(phrase("{reason}: {cure}", reason=reason, cure=cure))
    if noisy:
        yield shown(_NOT_SURE)
    if found.cached is not None:
        older = phrase(", or older than the capture")
        profile = found.view.profile
        whole = profile.since_start or profile.capture.from_start
        yield shown(
            phrase(
                "the allocator's own: {amount} of [heap] and arenas, free (top, bins, tcache)"
                "{older}; malloc_trim(0) gives whole free pages back",
                amount=amount(found.cached, Unit.SPACE),
                older="" if whole else older,
            )
        )
    else:
        yield shown(phrase("pages and the allocator's own are not known"))


def _plain(row: WasteRow, part: Count) -> str:
    return format_value(row.value(part), Unit.SPACE) if part in row.parts else "-"


def records(found: Waste) -> list[Record]:
    """Return the rows for programs."""
    result = []
    for row in found.rows:
        record: Record = {"function": row.name} | numbers("saved", row.saved)
        for part in _PARTS:
            record |= _known(str(part), row.parts.get(part))
        about = {"reason": str(row.reason), "cure": str(row.cure)}
        result.append(record | about | {"noise": in_noise(row.saved)})
    return result


def record(found: Waste) -> Record:
    """Return the report for programs, but for its rows."""
    more = numbers("saved", found.saved) | _known("cached", found.cached)
    return {"left_out": found.left_out} | more


def _known(key: str, estimate: Estimate | None) -> Record:
    return dict.fromkeys(number_keys(key)) if estimate is None else numbers(key, estimate)
