"""From the tables of a segment to the tables of a profile.

Model: a site of a profile is one (stack, size class) of one capture and domain. Stacks that the
sampler stored twice (two threads met, or a table level was full) become one; live rows count for
their site, by time bucket of their birth and by thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mem_parser.errors import MemError
from mem_parser.model import STACK_CUT, STACK_LOST_SHIFT, Count, SiteTable, StackTable, ThreadBlocks
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonStacks
from mem_parser.sharedstacks import SharedStacks
from mem_profiler.process.heappages import HeapPages, Waste
from mem_profiler.process.pagemap import CUT_NOTE, Pagemap, Presence
from mem_profiler.process.stillmapped import Pieces, StillMapped
from mem_profiler.profile import ages
from mem_profiler.profile.moments import Held, Moments, held_at_peak
from mem_profiler.profile.pythonstacks import python_stacks
from mem_profiler.segment import arena, births, collect, layout, pyframes, pylabels
from mem_profiler.segment.collect import DeviceCounts, LiveBlocks, Sites
from mem_profiler.segment.file import Control, Segment, Words
from mem_profiler.segment.peaks import Peak, PeakCounts

HOST_DOMAIN = 0
_REST_BITS = layout.SITE_MASK.bit_length() - layout.STACK_BITS  # class and domain


@dataclass
class Tables:
    """The tables of one domain of a capture.

    `skipped` rows of the segment made no sense; the counts end at `end_ns`; `before_end_at_s` is
    the moment of the columns `before_end_*`; `page_notes` say what of the blocks' pages is not
    known; `resident_shared_bytes` is what of mappings is resident in shared memory;
    `bucket_ends_ns` are the upper ends of the time buckets, since the start.
    """

    sites: SiteTable
    stacks: StackTable
    thread_blocks: ThreadBlocks
    skipped: int
    end_ns: int
    bucket_ends_ns: Words
    before_end_at_s: float | None = None
    python: PythonStacks | None = None
    labels: Labels | None = None
    page_notes: tuple[str, ...] = ()
    resident_shared_bytes: int = 0

    @property
    def samples(self) -> int:
        """Sampled allocations."""
        return int(self.sites.alloc_blocks.sum())

    def lost_stacks(self) -> dict[str, int]:
        """Samples whose stack was lost, by cause; every cause is present."""
        cause = (self.stacks.flags >> STACK_LOST_SHIFT)[self.sites.stack]
        return {
            name: int(self.sites.alloc_blocks[cause == number].sum())
            for number, name in layout.STACK_LOST_NAMES.items()
        }


def end_of(control: Control, now_ns: int | None, newest_birth_ns: int = 0) -> int:
    """When the counts of the latest capture end; `now_ns` as in `Ending`. `newest_birth_ns` is that
    of the youngest live block since the start.
    """
    slot = control.capture
    start = int(slot["start_ns"])
    if int(slot["stop_ns"]):
        return max(start, int(slot["stop_ns"]))
    if now_ns is None:
        now_ns = control.number("exited_ns") or start + newest_birth_ns
    return max(start, min(now_ns, int(slot["deadline_ns"])))


def no_tables(control: Control, now_ns: int | None) -> Tables:
    """Tables of the latest capture without a site."""
    none = np.zeros(0, np.int64)
    small = none.astype(np.uint32)
    stacks = StackTable(np.zeros(1, np.int64), none.astype(np.uint64), small, small, True)
    sites = SiteTable(none, none.astype(np.int32), none, none, none, none)
    no_blocks = ThreadBlocks(none, none, none, none)
    end_ns = end_of(control, now_ns)
    scale = births.scale_at(control, end_ns - int(control.capture["start_ns"]))
    return Tables(sites, stacks, no_blocks, 0, end_ns, births.ends_ns(control, scale))


def cut_stacks(sites: SiteTable, stacks: StackTable) -> int:
    """Samples whose stack ends at the depth limit."""
    cut = (stacks.flags & STACK_CUT)[sites.stack] != 0
    return int(sites.alloc_blocks[cut].sum())


def _of_domain(sites: Sites, domain: int) -> Sites:
    at = collect.domains(sites.keys) == domain
    return Sites(
        sites.keys[at],
        sites.alloc_blocks[at],
        sites.alloc_bytes[at],
        sites.freed_blocks[at],
        sites.freed_bytes[at],
        sites.births[at],
        sites.scale,
        sites.skipped,
        None if sites.device is None else sites.device.pick(at),
        None if sites.peak is None else sites.peak.pick(at),
    )


def _fingerprints(stacks: StackTable) -> NDArray[np.uint64]:
    """64-bit content hashes of stacks: a sum of mixed (frame, position) words."""
    first = stacks.offsets[:-1]
    position = np.arange(len(stacks.frames), dtype=np.uint64) - np.repeat(
        first.astype(np.uint64), stacks.depths
    )
    words = stacks.frames ^ (position * np.uint64(0x9E3779B97F4A7C15))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    words ^= words >> np.uint64(31)
    sums: NDArray[np.uint64] = np.add.reduceat(words, first)
    return sums


def _numbered(*columns: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are equal in all columns get one number, in the order in which they come first:
    where each number's first row is, and the number of every row.
    """
    number = np.zeros(len(columns[0]), np.int64)
    first = number
    for column in columns:
        # Both halves fit: there are fewer than 2^32 rows.
        _, of = np.unique(column, return_inverse=True)
        both = number << 32 | np.asarray(of, np.int64).reshape(-1)
        _, first, of = np.unique(both, return_index=True, return_inverse=True)
        number = np.asarray(of, np.int64).reshape(-1)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[number]


def merge_equal_stacks(stacks: SharedStacks) -> tuple[SharedStacks, NDArray[np.int64]]:
    """The distinct stacks, and for every given stack its index among them. Stacks with the same
    frames come together, in the order in which these come first.
    """
    if len(stacks) == 0:
        return stacks, np.empty(0, np.int64)
    natives = stacks.distinct
    chosen, number = _numbered(
        _fingerprints(natives), natives.depths, natives.generation, natives.flags
    )
    distinct = natives.take(_at(chosen, len(natives))) if len(chosen) < len(natives) else natives
    of = number[stacks.of]
    order = np.argsort(of, kind="stable")
    of = of[order]
    interpreter, label = stacks.interpreters[order], stacks.label_numbers[order]
    chosen, number = _numbered(of, interpreter, label)
    back = np.empty(len(stacks), np.int64)
    back[order] = number
    some_label = None if stacks.label is None else label[chosen]
    return SharedStacks(distinct, of[chosen], interpreter[chosen], some_label), back


def _at(rows: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """A mask of `count` rows that selects these."""
    mask = np.zeros(count, np.bool_)
    mask[rows] = True
    return mask


def _sum_by(group: NDArray[np.int64], columns: Words, size: int) -> Words:
    """Sum the rows of `columns` (n, c) into `size` groups."""
    total = np.zeros((size, columns.shape[1]), np.uint64)
    if len(group):
        # `np.add.at` takes several times as long.
        order = np.argsort(group, kind="stable")
        ordered = group[order]
        firsts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        total[ordered[firsts]] = np.add.reduceat(columns[order], firsts, axis=0)
    return total


def _regroup(sites: Sites, group: NDArray[np.int64], size: int) -> Sites:
    """Sites summed into `size` groups; keys are those of the first member."""
    keys = np.zeros(size, np.uint64)
    keys[group[::-1]] = sites.keys[::-1]
    plain = np.column_stack(
        [sites.alloc_blocks, sites.alloc_bytes, sites.freed_blocks, sites.freed_bytes]
    )
    total = _sum_by(group, plain, size)
    born = _sum_by(group, sites.births, size)
    device = None if sites.device is None else _regroup_device(sites.device, group, size)
    peak = None if sites.peak is None else _regroup_peak(sites.peak, group, size)
    alloc_blocks, alloc_bytes, freed_blocks, freed_bytes = total.T
    return Sites(
        keys, alloc_blocks, alloc_bytes, freed_blocks, freed_bytes, born,
        sites.scale, sites.skipped, device, peak,
    )  # fmt: skip


def _regroup_peak(counts: PeakCounts, group: NDArray[np.int64], size: int) -> PeakCounts:
    total = _sum_by(group, np.column_stack([counts.blocks, counts.bytes]), size)
    return PeakCounts(total[:, 0], total[:, 1])


def _regroup_device(counts: DeviceCounts, group: NDArray[np.int64], size: int) -> DeviceCounts:
    columns = (counts.alloc_taken, counts.freed_taken, counts.failed_blocks, counts.failed_bytes)
    total = _sum_by(group, np.column_stack(columns), size)
    return DeviceCounts(*(total[:, i] for i in range(4)))


def _by_thread(live: LiveBlocks, record: NDArray[np.int64]) -> ThreadBlocks:
    """Live blocks and bytes by (record, thread)."""
    pair = record * layout.THREAD_ROWS + live.thread
    pairs, inverse, blocks = np.unique(pair, return_inverse=True, return_counts=True)
    size = np.zeros(len(pairs), np.uint64)
    np.add.at(size, inverse.reshape(-1), live.size_bytes)
    return ThreadBlocks(
        site=pairs // layout.THREAD_ROWS,
        row=pairs % layout.THREAD_ROWS,
        blocks=blocks.astype(np.int64),
        bytes=size.view(np.int64),
    )


def _site_table(
    sites: Sites, stack: NDArray[np.int64], live_births: NDArray[np.uint32]
) -> SiteTable:
    """The sites without ages. Counts are below 2^62, so they fit signed numbers."""
    table = SiteTable(
        stack=stack,
        domain=np.zeros(len(stack), np.int32),
        inuse_blocks=sites.live_blocks.view(np.int64),
        inuse_bytes=sites.live_bytes.view(np.int64),
        alloc_blocks=sites.alloc_blocks.view(np.int64),
        alloc_bytes=sites.alloc_bytes.view(np.int64),
        births=sites.births.astype(np.uint32),
        live_births=live_births,
    )
    if sites.peak is not None:
        table.peak_blocks = sites.peak.blocks.view(np.int64)
        table.peak_bytes = sites.peak.bytes.view(np.int64)
    if sites.device is not None:
        taken = sites.device.alloc_taken
        table.alloc_taken_bytes = taken.view(np.int64)
        table.inuse_taken_bytes = (taken - sites.device.freed_taken).view(np.int64)
        table.failed_blocks = sites.device.failed_blocks.view(np.int64)
        table.failed_bytes = sites.device.failed_bytes.view(np.int64)
    return table


def _put_before_end(table: SiteTable, held: Held, record: NDArray[np.int64], scale: int) -> None:
    """Add the columns of an earlier moment. `record` is that of each of its keys; -1: none.
    `scale`: of the table's buckets.
    """
    known = record >= 0
    to, count = record[known], len(table)
    plain = np.column_stack([held.blocks[known], held.bytes[known]])
    total = _sum_by(to, plain, count).view(np.int64)
    table.before_end_blocks, table.before_end_bytes = total[:, 0], total[:, 1]
    table.before_end_births, table.before_end_live_births = (
        births.rescaled(
            _sum_by(to, column[known].astype(np.uint64), count), held.scale, scale
        ).astype(np.uint32)
        for column in (held.births, held.live_births)
    )
    table.before_end_oldest_s = np.full(count, np.nan)
    np.fmin.at(table.before_end_oldest_s, to, held.oldest_s[known])


def _put_part(
    table: SiteTable, count: Count, sizes: NDArray[np.int64] | None, record: NDArray[np.int64]
) -> None:
    """Add the columns of a part of blocks."""
    if sizes is None:
        return
    exact, sites = sizes.astype(np.float64), len(table)
    total = np.bincount(record, weights=exact, minlength=sites)
    setattr(table, f"{count}_bytes", total.astype(np.int64))
    squares = np.bincount(record, weights=exact * exact, minlength=sites)
    setattr(table, f"{count}_squares", squares.astype(np.float64))


def _put_presence(table: SiteTable, presence: Presence, record: NDArray[np.int64]) -> str:
    """Add the columns of resident, huge and swapped bytes of blocks; returns a note on what is
    missing.

    Live rows are read after the counters, so a program that goes on may have more of them: no more
    is resident or swapped than in use.
    """
    _put_part(table, Count.RESIDENT, presence.resident_bytes, record)
    _put_part(table, Count.SWAPPED, presence.swapped_bytes, record)
    _put_part(table, Count.HUGE, presence.huge_bytes, record)
    assert table.resident_bytes is not None
    assert table.swapped_bytes is not None
    table.resident_bytes = np.minimum(table.resident_bytes, table.inuse_bytes)
    table.swapped_bytes = np.minimum(table.swapped_bytes, table.inuse_bytes - table.resident_bytes)
    if table.huge_bytes is not None:
        table.huge_bytes = np.minimum(table.huge_bytes, table.resident_bytes)
    return CUT_NOTE if presence.is_cut else ""


def _put_pages(
    table: SiteTable,
    live: LiveBlocks,
    record: NDArray[np.int64],
    pages: Pagemap | None,
    heap: HeapPages | None,
) -> Iterator[str]:
    """Add what is known of the pages of blocks; yields notes on what is missing. Raises MemError
    where the process has ended, or nothing can be told.
    """
    if pages is not None:
        yield _put_presence(table, pages.look(live.address, live.size_bytes), record)
    if heap is not None:
        yield _put_waste(table, heap.look(live.address, live.size_bytes), record)


def _put_waste(table: SiteTable, waste: Waste, record: NDArray[np.int64]) -> str:
    """Add the columns of what blocks cost beyond themselves; returns a note on what is missing."""
    _put_part(table, Count.SLOP, waste.slop, record)
    _put_part(table, Count.PAGES, waste.pages, record)
    _put_part(table, Count.HELD, waste.held, record)
    _put_part(table, Count.PINNED, waste.pinned, record)
    return waste.note


@dataclass(frozen=True)
class Mappings:
    """What is asked of a domain of mappings: its kind, and the lists of a process that lives."""

    kind: str
    lists: StillMapped | None


@dataclass(frozen=True)
class _Left:
    """What the kernel still has of recorded mappings: bytes of each, and where these are; `record`
    is that of each.
    """

    recorded: LiveBlocks
    record: NDArray[np.int64]
    size_bytes: Words
    pieces: Pieces

    def live(self) -> tuple[LiveBlocks, NDArray[np.int64]]:
        """Those of which anything is left, with what that is, and their records."""
        some = self.size_bytes > 0
        found = self.recorded.pick(some)
        found.size_bytes = self.size_bytes[some]
        return found, self.record[some]


def _left(
    live: LiveBlocks, record: NDArray[np.int64], mapped: Mappings | None
) -> tuple[_Left | None, str]:
    """What is left of mappings; None with why it is not known, or where nothing is asked."""
    if mapped is None or mapped.lists is None:
        return None, ""
    try:
        found = mapped.lists.pieces(mapped.kind, live.address, live.size_bytes, live.birth_ns)
    except MemError as error:
        return None, str(error)
    size = np.bincount(found.row, weights=found.high - found.low, minlength=len(live.site))
    return _Left(live, record, size.astype(np.uint64), found), ""


def _put_mapped(table: SiteTable, left: _Left | None, mapped: Mappings | None) -> tuple[str, int]:
    """Bytes that went on in another mapping (sampler/device/device_ranges.h) count once, and what
    is gone is not in use. Adds what is resident; returns a note on what is missing, and how much of
    it is shared memory. Raises MemError where the process has ended.
    """
    if mapped is None:
        return "", 0
    carried, table.alloc_taken_bytes, table.inuse_taken_bytes = table.alloc_taken_bytes, None, None
    if carried is not None:
        table.alloc_bytes = np.maximum(table.alloc_bytes - carried, table.inuse_bytes)
    if left is None or mapped.lists is None:
        return "", 0
    count, record = len(table), left.record
    gone = (left.recorded.size_bytes - left.size_bytes).astype(np.float64)
    ended = np.bincount(record[left.size_bytes == 0], minlength=count)
    lost = np.bincount(record, weights=gone, minlength=count).astype(np.int64)
    table.inuse_blocks = np.maximum(table.inuse_blocks - ended, 0)
    table.inuse_bytes = np.maximum(table.inuse_bytes - lost, 0)
    table.inuse_bytes[table.inuse_blocks == 0] = 0
    if mapped.lists.pagemap is None:
        return "", 0
    low, high = (bound.astype(np.uint64) for bound in (left.pieces.low, left.pieces.high))
    presence = mapped.lists.pagemap.look(low, high - low)
    note = _put_presence(table, presence, record[left.pieces.row])
    return note, int(presence.resident_bytes[left.pieces.shared].sum())


class StackSource(Protocol):
    """How stacks are read: all each time, or only new ones (`keptstacks`)."""

    def read(self, control: Control, ids: NDArray[np.int64]) -> Stacks:
        """The stacks with these ids, which are distinct."""
        ...


@dataclass(frozen=True)
class Stacks:
    """Distinct stacks, the Python frames on top of them, and their labels; `place` is the index of
    each id among them.
    """

    table: SharedStacks
    place: NDArray[np.int64]
    python: PythonStacks | None
    labels: Labels | None


class ReadOnce:
    """Reads all stacks that it is asked for."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def read(self, control: Control, ids: NDArray[np.int64]) -> Stacks:
        """As `StackSource.read`."""
        stored, python, labels = _read_stacks(self._segment, control, ids)
        table, place = merge_equal_stacks(stored)
        return Stacks(table, place, python, labels)


def _read_stacks(
    segment: Segment, control: Control, ids: NDArray[np.int64]
) -> tuple[SharedStacks, PythonStacks | None, Labels | None]:
    words = arena.read_arena(segment, control)
    stacks = arena.read_stacks(words, ids)
    wanted = stacks.interpreters.astype(np.int64)
    frames = pyframes.read_frames(words, wanted)
    python, numbers = python_stacks(frames)
    at = frames.index_of(wanted)
    found = np.zeros(len(stacks), np.uint32)
    found[at >= 0] = numbers[at[at >= 0]]
    stacks.interpreter = found
    labels, stacks.label = pylabels.read_labels(words, stacks.label_numbers.astype(np.int64))
    return stacks, python, labels


def _held(
    sites: Sites, control: Control, domain: int, peak: Peak | None, moments: Moments | None
) -> Held | None:
    """What the domain held before the target began to end, as far as it is known."""
    found = most = None
    if moments is not None:
        if peak is not None and sites.peak is not None:
            since_ns = peak.at_ns - int(control.capture["start_ns"])
            most = since_ns / 1e9, int(sites.peak.bytes.sum())
        left = int(sites.live_bytes.sum())
        found = moments.before_end(control.number("capture_number"), domain, left, most)
    if found is None and peak is not None:  # no reader, or it had no time before the end
        found = held_at_peak(sites, peak, control)
    return found


def read_tables(
    segment: Segment,
    control: Control,
    peak: Peak | None = None,
    domain: int = HOST_DOMAIN,
    moments: Moments | None = None,
    *,
    now_ns: int | None = None,
    ended: bool = True,
    source: StackSource | None = None,
    pages: Pagemap | None = None,
    heap: HeapPages | None = None,
    mapped: Mappings | None = None,
) -> Tables:
    """Read one domain of the latest capture of a segment. `now_ns`: as in `Ending`. `peak` adds
    the peak columns, `moments`, where the target has `ended`, those of the time before it began to;
    `pages` adds those of the blocks'
    pages, `heap` those of what else is on these. `source` None: all stacks are read anew.
    `mapped`: it is a domain of mappings; takes out what is gone, and says what of the rest is
    resident. Raises MemError.
    """
    capture = control.number("capture_number")
    kind = collect.HOST if domain == HOST_DOMAIN else collect.DEVICES
    peaks = None if peak is None else {domain: peak}
    sites = _of_domain(collect.read_sites(segment, control, capture, kind, peaks), domain)
    live = collect.read_live(segment, control, capture, kind)
    fresh = segment.control()  # the sampler stores stacks before the sites that name them
    ids, of_site = np.unique(collect.stack_ids(sites.keys), return_inverse=True)
    found = (source or ReadOnce(segment)).read(fresh, ids)
    stack_of_site = found.place[of_site.reshape(-1)]

    # Class and domain distinguish the records of one stack.
    rest = (sites.keys >> np.uint64(layout.STACK_BITS)).astype(np.int64)
    identity = stack_of_site << _REST_BITS | rest
    _, chosen, group = np.unique(identity, return_index=True, return_inverse=True)
    group = np.asarray(group, np.int64).reshape(-1)
    count = len(chosen)

    at = ages.position_of(sites.keys, live.site)
    known = at >= 0
    live = live.pick(known)
    record = group[at[known]]
    left, presence_note = _left(live, record, mapped)
    if left is not None:
        live, record = left.live()
    start_ns = int(control.capture["start_ns"])
    held = _held(sites, control, domain, peak, moments) if ended else None
    end_ns = end_of(control, now_ns, int(ages.since(live.birth_ns, start_ns).max(initial=0)))
    scale = births.scale_at(control, end_ns - start_ns)
    scale = max(scale, sites.scale, held.scale if held is not None else 0)
    live_births, oldest = ages.count_live(live, record, count, control, scale)
    sites.births = births.rescaled(sites.births, sites.scale, scale)
    table = _site_table(_regroup(sites, group, count), stack_of_site[chosen], live_births)
    table.oldest_birth_s = oldest
    in_shared, notes = 0, [presence_note]
    try:
        notes += _put_pages(table, live, record, pages, heap)
        note, in_shared = _put_mapped(table, left, mapped)
        notes.append(note)
    except MemError as error:
        notes.append(str(error))
    if held is not None:
        at = ages.position_of(sites.keys, held.keys)
        _put_before_end(table, held, np.where(at >= 0, group[at], -1), scale)
    return Tables(
        sites=table,
        stacks=found.table,
        thread_blocks=_by_thread(live, record),
        skipped=sites.skipped,
        end_ns=end_ns,
        before_end_at_s=held.at_s if held is not None else None,
        python=found.python,
        labels=found.labels,
        page_notes=tuple(filter(None, notes)),
        resident_shared_bytes=in_shared,
        bucket_ends_ns=births.ends_ns(control, scale),
    )
