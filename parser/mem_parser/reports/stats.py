"""`stats`: totals, sizes, and the largest functions, modules, threads and domains.

Blocks are charged as `mem_parser.charge` says, and to the module of that function.
Sizes are those that the program requested, in powers of two. Threads are known only for blocks in
use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mem_parser.counts import PRESENCE
from mem_parser.estimate import Estimate, FloatArray, Unsampled, unsample
from mem_parser.filters import Filters
from mem_parser.marks import group_marks
from mem_parser.model import Count, IntArray, PeakSource, Profile, Unit
from mem_parser.names import FrameRule, allocator_functions
from mem_parser.reports.aggregate import in_both_units
from mem_parser.reports.device import refusal_lines, remainder_line
from mem_parser.reports.grid import Block, Column, Grid, Record, amounts, numbers
from mem_parser.reports.header import WHICH, header_lines
from mem_parser.reports.view import View
from mem_parser.units import format_bytes, percent
from mem_parser.words import phrase, shown

BAR_WIDTH = 20
_OF = WHICH | {Count.PEAK: phrase("peak")}


@dataclass(frozen=True, slots=True)
class Group:
    """A named group: a function, a module, a size."""

    name: str
    bytes: Estimate
    objects: Estimate


@dataclass(frozen=True, slots=True)
class Stats:
    """All tables; the groups are sorted as they are shown, all of them."""

    view: View
    most: int
    totals: list[Group]
    sizes: list[Group]
    by_size: list[Group]
    by_count: list[Group]
    calls: list[Group]
    modules: list[Group]
    threads: list[Group]
    domains: list[Group]


@dataclass(frozen=True, slots=True)
class _Weights:
    """Five columns of equal length: the estimates of entries of ``profile``."""

    bytes: FloatArray
    bytes_variance: FloatArray
    objects: FloatArray
    objects_variance: FloatArray
    samples: IntArray
    profile: Profile

    def grouped(self, group: npt.NDArray[np.integer], names: Sequence[str]) -> list[Group]:
        """Add up by ``group``, which indexes ``names``; the largest first."""
        columns = (
            self.bytes,
            self.bytes_variance,
            self.objects,
            self.objects_variance,
            self.samples,
        )
        sums = [np.bincount(group, weights=c, minlength=len(names)) for c in columns]
        found = [
            Group(names[k], *in_both_units(self.profile, sums, k))
            for k in np.flatnonzero(sums[4]).tolist()
        ]
        return sorted(found, key=lambda g: (-g.bytes.value, g.name))


def stats(view: View, most: int = 5) -> Stats:
    """Return the statistics of ``view``; ``most`` rows of each table are shown, 0: all."""
    profile, count = view.profile, view.filters.count
    blocks, size = profile.counts(count)
    weights = _weights(profile.unsampled(count), blocks, profile)
    leaf = _leaf(view)[profile.sites.stack]
    functions = view.symbols.functions
    names, of_function = _index([f.name for f in functions])
    modules, of_module = _index([f.module or "?" for f in functions])
    by_size = weights.grouped(of_function[leaf], names)
    return Stats(
        view=view,
        most=most,
        totals=_totals(profile),
        sizes=_sizes(weights, blocks, size),
        by_size=by_size,
        by_count=sorted(by_size, key=lambda g: (-g.objects.value, g.name)),
        calls=_calls(view, weights),
        modules=weights.grouped(of_module[leaf], modules),
        threads=_threads(profile) if count is Count.INUSE else [],
        domains=weights.grouped(profile.sites.domain, profile.domains),
    )


def _weights(e: Unsampled, blocks: IntArray, profile: Profile) -> _Weights:
    return _Weights(
        e.bytes,
        e.bytes_variance,
        e.objects,
        e.objects_variance,
        blocks,
        profile,
    )


def _totals(profile: Profile) -> list[Group]:
    order = (Count.ALLOC, Count.FREED, Count.INUSE, *PRESENCE, Count.PEAK)
    return [
        Group(_OF[c], profile.total(c, Unit.SPACE), profile.total(c, Unit.OBJECTS))
        for c in order
        if profile.has(c)
    ]


def _named(totals: Sequence[Group], filters: Filters) -> list[Group]:
    """Return totals with names for people: what filters leave may have its own peak at another time
    than the whole, and more in use now than at that of the whole.
    """
    if not filters.narrows:
        return list(totals)
    peak = _OF[Count.PEAK]
    return [replace(g, name="at that peak") if g.name == peak else g for g in totals]


def _sizes(weights: _Weights, blocks: IntArray, size: IntArray) -> list[Group]:
    """Return the histogram: every power of two between the smallest and the largest size."""
    present = blocks > 0
    if not present.any():
        return []
    mean = np.divide(size, blocks, out=np.ones(len(blocks)), where=present)
    step = np.floor(np.log2(np.maximum(mean, 1))).astype(np.int64)
    last = int(step[present].max())
    found = {g.name: g for g in weights.grouped(step, [str(k) for k in range(int(step.max()) + 1)])}
    nothing = Estimate(0.0)
    return [
        Group(_size_text(k), *((g.bytes, g.objects) if g else (nothing, nothing)))
        for k in range(int(step[present].min()), last + 1)
        for g in [found.get(str(k))]
    ]


def _size_text(step: int) -> str:
    return f"{_plain(2**step if step else 0)} to {_plain(2 ** (step + 1) - 1, 2 ** (step + 1))}"


def _plain(value: int, shown: int | None = None) -> str:
    """Return `512 B`, `4 KiB`; ``shown`` replaces the value where it has a prefix."""
    if value < 1024:
        return f"{value:,} B"
    text = format_bytes(shown or value)
    number, _, prefix = text.partition(" ")
    return f"{float(number):.0f} {prefix}"


def _leaf(view: View) -> IntArray:
    """Return for each stack the function that its blocks are charged to."""
    symbols = view.symbols
    first = symbols.locations_of_stack[symbols.offsets[:-1]]
    return symbols.function_of_location[first].astype(np.int64)


def _index(texts: Sequence[str]) -> tuple[list[str], IntArray]:
    known: dict[str, int] = {}
    numbers_ = [known.setdefault(text, len(known)) for text in texts]
    return list(known), np.array(numbers_, dtype=np.int64)


def _calls(view: View, weights: _Weights) -> list[Group]:
    """Return the allocation functions of the blocks (malloc, calloc ...), if stacks have them."""
    raw = view.raw
    inlined = np.array([x.inlined for x in raw.locations], dtype=np.bool_)
    whole = np.flatnonzero(~inlined[raw.locations_of_stack])
    if not len(whole):
        return []
    # The function of the innermost frame itself, not what is inlined into it.
    place = whole[np.minimum(np.searchsorted(whole, raw.offsets[:-1]), len(whole) - 1)]
    function = raw.function_of_location[raw.locations_of_stack[place]]
    of_site = function[view.profile.sites.stack]
    known = np.array([f.known for f in raw.functions], dtype=np.bool_)
    if not (known & allocator_functions(raw.functions, FrameRule.OWN))[of_site].any():
        return []
    names, of_function = _index([f.name for f in raw.functions])
    return weights.grouped(of_function[of_site], names)


def _threads(profile: Profile) -> list[Group]:
    blocks = profile.thread_blocks
    if blocks is None or not profile.threads:
        return []
    rates = profile.rates
    rates = rates if isinstance(rates, float) else rates[blocks.site]
    weights = _weights(unsample(blocks.blocks, blocks.bytes, rates), blocks.blocks, profile)
    position = {t.row: k for k, t in enumerate(profile.threads)}
    names = [f"{t.name} ({t.tid})" if t.tid else "unnamed thread" for t in profile.threads]
    names.append("unknown thread")
    group = np.array([position.get(r, len(names) - 1) for r in blocks.row.tolist()], dtype=np.int64)
    return weights.grouped(group, names) if len(group) else []


def blocks(found: Stats) -> Iterator[Block]:
    """Yield the report for people."""
    view = found.view
    count = view.filters.count
    total = view.profile.total(count, Unit.SPACE)
    yield from shown(header_lines(view.profile, total, count, Unit.SPACE))
    capture = view.profile.capture
    if capture.peak_bytes is not None and capture.peak_at_s is not None:
        yield _peak_line(view, capture.peak_bytes, capture.peak_at_s)
    yield _grid(phrase("Totals"), "", _named(found.totals, view.filters), None)
    rest = "" if view.filters.narrows else remainder_line(view.profile, count, Unit.SPACE)
    refused = refusal_lines(view.profile, view.raw, view.filters.rule)
    yield from shown([*filter(None, [rest]), *refused])
    yield from _marks(view.profile, found.most)
    if not total.samples:
        yield shown(phrase("0 samples: nothing more to show"))
        return
    yield _histogram(found.sizes, _OF[count])
    most = found.most
    yield from _top(phrase("By size"), phrase("function"), found.by_size, total, most)
    yield from _top(phrase("By count"), phrase("function"), found.by_count, total, most)
    yield from _top(phrase("By call"), phrase("call"), found.calls, total, most)
    yield from _top(phrase("By module"), phrase("module"), found.modules, total, most)
    yield from _top(phrase("By thread (in use)"), phrase("thread"), found.threads, total, most)
    yield from _top(phrase("By domain"), phrase("domain"), found.domains, total, most)


def _marks(profile: Profile, most: int) -> Iterator[Block]:
    """Yield the program's marks, if it made any."""
    groups = group_marks(profile.marks)
    if profile.capture.marks_lost:
        yield f"{profile.capture.marks_lost:,} marks of the program lost"
    if not groups:
        return
    rows = [
        (
            str(g.count),
            f"{g.range_s:.3f} s" if g.ranges else "",
            f"{g.first_s:.3f} s",
            f"{g.last_s:.3f} s",
            " ".join(filter(None, (g.domain, g.text))),
        )
        for g in groups[: most or None]
    ]
    heads = map(Column, ("marks", "in ranges", "first", "last"))
    yield Grid((*heads, Column("mark", right=False, flexible=True)), list(rows), "Marks")
    if len(rows) < len(groups):
        yield shown(_hidden(len(groups) - len(rows)))


def _hidden(number: int) -> str:
    return phrase("{number} more hidden. Use -n 0 to show all.", number=number)


def _peak_line(view: View, peak_bytes: float, at_s: float) -> str:
    """Return the highest total, and why the sum of all sites at the peak is another number."""
    source = view.profile.capture.peak_source
    what = "highest reading" if source is PeakSource.READING else "peak"
    whole = " of the whole profile" if view.filters.narrows else ""
    peak, sites = format_bytes(peak_bytes), view.profile.total(Count.PEAK, Unit.SPACE).value
    differs = source is PeakSource.SAMPLER and not whole and peak != format_bytes(sites)
    why = "; sites are of a moment at most 1/1024 lower" if differs else ""
    return f"{what}{whole}: {peak} after {at_s:.1f} s{why}"


def _grid(title: str, what: str, groups: Sequence[Group], total: Estimate | None) -> Grid:
    size = amounts((g.bytes for g in groups), Unit.SPACE)
    objects = amounts((g.objects for g in groups), Unit.OBJECTS)
    share = [percent(g.bytes.value, total.value) if total else "" for g in groups]
    rows = [
        (size[k], *([share[k]] if total else []), objects[k], g.name) for k, g in enumerate(groups)
    ]
    heads = (phrase("bytes"), *(["%"] if total else []), phrase("blocks"))
    name = Column(what, right=False, flexible=True)
    return Grid((*map(Column, heads), name), list(rows), title)


def _top(title: str, what: str, groups: list[Group], total: Estimate, most: int) -> Iterator[Block]:
    if not groups:
        return
    few = groups[:most] if most else groups
    yield _grid(title, what, few, total)
    if len(few) < len(groups):
        yield shown(_hidden(len(groups) - len(few)))


def _histogram(sizes: Sequence[Group], what: str) -> Grid:
    most = max((g.objects.value for g in sizes), default=0.0)
    objects = amounts((g.objects for g in sizes), Unit.OBJECTS)
    size = amounts((g.bytes for g in sizes), Unit.SPACE)
    rows = [(g.name, objects[k], size[k], _bar(g.objects.value, most)) for k, g in enumerate(sizes)]
    columns = (
        Column(phrase("size of a block")),
        Column(phrase("blocks")),
        Column(phrase("bytes")),
        Column(phrase("share of blocks"), right=False, flexible=True),
    )
    return Grid(columns, list(rows), phrase("Sizes ({what})", what=what))


def _bar(value: float, most: float) -> str:
    length = round(BAR_WIDTH * value / most) if most else 0
    return "█" * max(length, 1) if value else ""


def record(found: Stats) -> Record:
    """Return all tables for programs, every group of them."""
    capture = found.view.profile.capture
    tables = {
        "totals": found.totals,
        "sizes": found.sizes,
        "functions": found.by_size,
        "calls": found.calls,
        "modules": found.modules,
        "threads": found.threads,
        "domains": found.domains,
    }
    result: Record = {
        name: [
            {"name": g.name}
            | numbers("bytes", g.bytes)
            | numbers("blocks", g.objects)
            | {"samples": g.bytes.samples}
            for g in groups
        ]
        for name, groups in tables.items()
    }
    marks = [
        {
            "domain": g.domain,
            "text": g.text,
            "count": g.count,
            "ranges": g.ranges,
            "range_s": round(g.range_s, 6),
            "first_s": g.first_s,
            "last_s": g.last_s,
        }
        for g in group_marks(found.view.profile.marks)
    ]
    return result | {
        "marks": marks,
        "marks_lost": capture.marks_lost,
        "peak_bytes": capture.peak_bytes,
        "peak_at_s": capture.peak_at_s,
        "peak_source": capture.peak_source,
    }
