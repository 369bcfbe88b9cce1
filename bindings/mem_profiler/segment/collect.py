"""Read the tables of a segment into arrays: sites, live blocks, threads, modules.

Model: the target goes on counting while we read, so the order of the copies matters. We copy freed
counters before allocated ones, so that in use (allocated - freed) is never negative, and live rows
last. A site row counts only if it belongs to the wanted capture in both copies. This module merges
rows that are the same site (the shard bits of the key differ, or two threads inserted it at once).

Every number is untrusted. A row whose counts or references make no sense is dropped and
counted. All checks are array operations: a million sites take about 1 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_parser.maps import undeleted
from mem_parser.model import ExecRange, Module, Thread
from mem_profiler.segment import births, layout, peaks
from mem_profiler.segment.file import Control, Level, Records, Segment, Words
from mem_profiler.segment.peaks import Peak, PeakCounts

Ints = NDArray[np.int64]

# No honest counter comes near these; sums of a million such rows still fit 64 bits.
BLOCKS_MAX = 1 << 40
BYTES_MAX = 1 << 43
# Of one device site: a training loop takes gigabytes a step. A refused request can have any size.
DEVICE_BYTES_MAX = 1 << 52
OWNERS_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Source:
    """The tables that hold the sites and live blocks of a kind of memory.

    `counts` are the columns of a site row without the births, first the four that every kind has;
    `freed` are those of them to copy before the others.
    """

    sites: str
    lost_sites: str
    site_row: str
    live: str
    live_row: str
    size: str
    counts: tuple[str, ...]
    freed: tuple[str, ...]


COMMON = ("alloc_blocks", "alloc_bytes", "freed_blocks", "freed_bytes")
HOST = Source(
    "sites", "lost_sites", "mp_site_row", "live", "mp_live_row", "size_bytes",
    COMMON, ("freed_blocks", "freed_bytes"),
)  # fmt: skip
DEVICES = Source(
    "device_sites", "device_lost_sites", "mp_device_site_row",
    "device_live", "mp_device_live_row", "asked_bytes",
    (*COMMON, "alloc_taken_bytes", "freed_taken_bytes", "failed_blocks", "failed_bytes"),
    ("freed_blocks", "freed_bytes", "freed_taken_bytes"),
)  # fmt: skip


@dataclass
class DeviceCounts:
    """Additional counts of device memory, one entry per site.

    Taken bytes are device memory used by the sampled blocks, 0 if unknown. Failed blocks are
    allocations that the device refused; each counts, sampled or not.
    """

    alloc_taken: Words
    freed_taken: Words
    failed_blocks: Words
    failed_bytes: Words

    def pick(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> DeviceCounts:
        """The entries that `index` selects."""
        return DeviceCounts(
            self.alloc_taken[index],
            self.freed_taken[index],
            self.failed_blocks[index],
            self.failed_bytes[index],
        )


@dataclass
class Sites:
    """Counts of one capture, one entry per (stack id, size class, domain), sorted by key.

    `keys` are site keys without capture and shard; `births` has shape (n, 8) and `scale`
    (`segment.births`); `skipped` rows were invalid. `device` is None for the host, `peak` if it was
    not tracked.
    """

    keys: Words
    alloc_blocks: Words
    alloc_bytes: Words
    freed_blocks: Words
    freed_bytes: Words
    births: Words
    scale: int
    skipped: int = 0
    device: DeviceCounts | None = None
    peak: PeakCounts | None = None

    @property
    def live_blocks(self) -> Words:
        """Sampled blocks in use."""
        return self.alloc_blocks - self.freed_blocks

    @property
    def live_bytes(self) -> Words:
        """Sampled bytes in use."""
        return self.alloc_bytes - self.freed_bytes


@dataclass
class LiveBlocks:
    """Live rows of one capture, in no order. `site` is a site key without capture and shard."""

    site: Words
    size_bytes: Words
    birth_ns: Words
    thread: NDArray[np.uint32]
    address: Words

    def pick(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> LiveBlocks:
        """The entries that `index` selects."""
        return LiveBlocks(
            self.site[index],
            self.size_bytes[index],
            self.birth_ns[index],
            self.thread[index],
            self.address[index],
        )


def capture_of(keys: Words) -> Words:
    """The capture number in site keys."""
    return (keys >> np.uint64(layout.CAPTURE_SHIFT)) & np.uint64(layout.CAPTURE_MASK)


def stack_ids(keys: Words) -> Ints:
    """The stack id in site keys."""
    return (keys & np.uint64((1 << layout.STACK_BITS) - 1)).astype(np.int64)


def domains(keys: Words) -> Words:
    """The domain in site keys."""
    return (keys >> np.uint64(layout.DOMAIN_SHIFT)) & np.uint64(layout.DOMAIN_MASK)


def _of_capture(keys: Words, capture: int) -> NDArray[np.bool_]:
    valid = (keys != 0) & (keys != np.uint64(layout.KEY_RECYCLING))
    return np.asarray(valid & (capture_of(keys) == capture))


def site_levels(control: Control, source: Source = HOST) -> list[Level]:
    """All levels that hold sites: those of the table, then the reserved sites."""
    lost = control.lost_level(source.lost_sites, source.site_row)
    return control.levels(source.sites, source.site_row) + ([lost] if lost else [])


def _merge(keys: Words, columns: Words) -> tuple[Words, Words]:
    """Sum the rows of `columns` (n, c) that share a key; keys come out sorted."""
    if len(keys) == 0:
        return keys, columns
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    firsts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    if len(firsts) == len(keys):
        return keys, columns[order]
    return keys[firsts], np.add.reduceat(columns[order], firsts, axis=0)


def whole_freed_blocks(alloc: Words, freed: Words) -> Words:
    """Freed blocks of host sites, of which a row has the low 32 bits.

    Fewer than 2^31 blocks are live, so the difference modulo 2^32 is the number of live ones. A
    larger one means a free that was read before its allocation: 0 live blocks.
    """
    live = (alloc - freed) & np.uint64(0xFFFFFFFF)
    live[live >= np.uint64(1 << 31)] = 0
    whole: Words = alloc - np.minimum(live, alloc)
    return whole


def _births(stored: Words, blocks: Words) -> Words:
    """(n, 8) births. A host row omits the last bucket, which gets the remainder."""
    if stored.shape[1] == layout.BUCKETS:
        return stored
    born = stored.sum(axis=1)
    return np.column_stack([stored, blocks - np.minimum(born, blocks)])


def _columns(source: Source, rows: Records, freed: Records) -> Words:
    """(n, c + 10) array: the counts of the source in their order, the births, their scale, the
    peak's word.
    """
    width = len(source.counts)
    table = np.empty((len(rows), width + layout.BUCKETS + 2), np.uint64)
    for i, name in enumerate(source.counts):
        table[:, i] = (freed if name in source.freed else rows)[name]
    table[:, 0], table[:, -2] = births.blocks_and_scale(table[:, 0])
    if source is HOST:
        table[:, 2] = whole_freed_blocks(table[:, 0], table[:, 2])
    table[:, width:-2] = _births(rows["births"].astype(np.uint64), table[:, 0])
    table[:, -1] = rows["peak"]
    return table


def _read_level(
    segment: Segment, level: Level, capture: int, source: Source
) -> tuple[Words, Words]:
    dtype = layout.dtype(source.site_row)
    early_keys = segment.keys(level)
    used = _of_capture(early_keys, capture)
    freed = segment.rows(level, dtype)
    keys = segment.keys(level)
    rows = segment.rows(level, dtype)
    now_used = _of_capture(keys, capture)
    # A row claimed between the copies has no frees of this capture in the first copy.
    freed[~used | (early_keys != keys)] = 0
    at = np.flatnonzero(now_used)
    return keys[at] & np.uint64(layout.SITE_MASK), _columns(source, rows[at], freed[at])


def _within(freed: Words, whole: Words, all_freed: NDArray[np.bool_]) -> Words:
    """Cut freed counts at the allocated. Blocks and bytes are separate counters: when no block is
    left, no byte is.
    """
    return np.where(all_freed, whole, np.minimum(freed, whole))


def read_sites(
    segment: Segment,
    control: Control,
    capture: int,
    source: Source = HOST,
    highest: dict[int, Peak] | None = None,
) -> Sites:
    """All sites of `capture`, with their counts at the peak of their domain if `highest` (by
    number) has it.
    """
    parts = [_read_level(segment, level, capture, source) for level in site_levels(control, source)]
    counts = len(source.counts)
    width = counts + layout.BUCKETS + 2
    keys = np.concatenate([part[0] for part in parts] or [np.empty(0, np.uint64)])
    table = np.concatenate([part[1] for part in parts] or [np.empty((0, width), np.uint64)])
    # `_within` cuts freed counts; the others must not exceed what an honest target could count.
    most = BYTES_MAX if source is HOST else DEVICE_BYTES_MAX
    sane = (table[:, 0] <= BLOCKS_MAX) & (table[:, 1] <= most)
    if source is not HOST:
        sane &= (table[:, 4] <= most) & (table[:, 6] <= BLOCKS_MAX)
        table[:, 7] = np.minimum(table[:, 7], np.uint64(DEVICE_BYTES_MAX))
    sane &= (table[:, 0] > 0) | ((table[:, 1] == 0) & (table[:, 2] == 0))
    keys, table = keys[sane], table[sane]
    scale = int(table[:, -2].max(initial=0))
    table[:, counts:-2] = births.rescaled(table[:, counts:-2], table[:, -2], scale)
    table = np.column_stack([table[:, :-2], peaks.columns(table, highest or {}, domains(keys))])
    keys, table = _merge(keys, table)
    some = table[:, 0] > 0
    if source is not HOST:
        some |= table[:, 6] > 0
    keys, table = keys[some], table[some]
    freed_blocks = np.minimum(table[:, 2], table[:, 0])
    all_freed = freed_blocks == table[:, 0]
    return Sites(
        keys=keys,
        alloc_blocks=table[:, 0].copy(),
        alloc_bytes=table[:, 1].copy(),
        freed_blocks=freed_blocks,
        freed_bytes=_within(table[:, 3], table[:, 1], all_freed),
        births=np.minimum(table[:, counts:-2], np.uint64(0xFFFFFFFF)),
        scale=scale,
        skipped=int(np.count_nonzero(~sane)),
        device=None if source is HOST else _device_counts(table, all_freed),
        peak=PeakCounts(table[:, -2].copy(), table[:, -1].copy()) if highest else None,
    )


def _device_counts(table: Words, all_freed: NDArray[np.bool_]) -> DeviceCounts:
    freed = _within(table[:, 5], table[:, 4], all_freed)
    return DeviceCounts(table[:, 4].copy(), freed, table[:, 6].copy(), table[:, 7].copy())


UNPACKED = np.dtype(
    [("size_bytes", "<u8"), ("birth_ns", "<u8"), ("site_key", "<u8"), ("thread", "<u4")]
)


def _unpacked(packed: Records, start_ns: int) -> Records:
    """Live rows of the host as columns. Births are the low bits of a count of 2^22 ns: they are
    right within 2^31 of these from the capture's start, 104 days.
    """
    rows = np.empty(len(packed), UNPACKED)
    rows["size_bytes"] = packed["size_thread"] & np.uint64((1 << layout.LIVE_SIZE_BITS) - 1)
    rows["thread"] = packed["size_thread"] >> np.uint64(layout.LIVE_SIZE_BITS)
    rows["site_key"] = packed["site_key"]
    start = start_ns >> layout.LIVE_BIRTH_SHIFT
    since = (packed["birth"] - np.uint32(start & 0xFFFFFFFF)).view(np.int32).astype(np.int64)
    moment = np.maximum(since + start, 0).astype(np.uint64)
    rows["birth_ns"] = moment << np.uint64(layout.LIVE_BIRTH_SHIFT)
    return rows


def read_live(
    segment: Segment, control: Control, capture: int, source: Source = HOST
) -> LiveBlocks:
    """Live rows of `capture`, without rows whose key changed between two copies."""
    parts: list[Records] = []
    addresses = [np.empty(0, np.uint64)]
    dtype = layout.dtype(source.live_row)
    for level in control.levels(source.live, source.live_row):
        keys = segment.keys(level)
        if not keys.any():
            continue
        rows = segment.rows(level, dtype)
        if source is HOST:
            rows = _unpacked(rows, int(control.capture["start_ns"]))
        settled = (keys != 0) & (keys & np.uint64(1) == 0) & (segment.keys(level) == keys)
        settled &= _of_capture(rows["site_key"], capture)
        settled &= rows[source.size] <= (BYTES_MAX if source is HOST else DEVICE_BYTES_MAX)
        settled &= rows["thread"] < layout.THREAD_ROWS
        if source is not HOST:
            settled &= rows["state"] & np.uint64(OWNERS_MASK) != 0
        parts.append(rows[settled])
        addresses.append((keys if source is HOST else rows["address"])[settled])
    rows = np.concatenate(parts) if parts else np.empty(0, UNPACKED if source is HOST else dtype)
    return LiveBlocks(
        site=rows["site_key"] & np.uint64(layout.SITE_MASK),
        size_bytes=rows[source.size].astype(np.uint64),
        birth_ns=rows["birth_ns"].astype(np.uint64),
        thread=rows["thread"].astype(np.uint32),
        address=np.concatenate(addresses),
    )


def read_threads(segment: Segment, control: Control) -> list[Thread]:
    """Every recorded thread, by row. Row 0 is for all threads without a row."""
    array = control.array(layout.THREADS, layout.THREAD.itemsize, layout.THREAD_ROWS)
    count = min(control.number("thread_count") + 1, array.usable_rows)
    rows = segment.array(array, count, layout.THREAD)
    return [Thread(k, int(row["tid"]), layout.text(row["name"])) for k, row in enumerate(rows)]


def _module(row: np.void) -> Module | None:
    start, end = int(row["start"]), int(row["end"])
    count = min(int(row["exec_ranges"]), len(row["exec"]))
    ranges = [
        ExecRange(int(part["start"]), int(part["end"]), int(part["file_offset"]))
        for part in row["exec"][:count]
    ]
    if int(row["published"]) != 1 or start >= end or any(r.start >= r.end for r in ranges):
        return None
    path, deleted = undeleted(layout.text(bytes(row["path"])))
    last = int(row["last_generation"])
    return Module(
        path=path,
        ranges=ranges or [ExecRange(start, end, 0)],
        build_id=bytes(row["build_id"])[: min(int(row["build_id_bytes"]), 32)].hex(),
        bias=int(row["bias"]),
        first_generation=int(row["first_generation"]),
        last_generation=None if last == 0xFFFFFFFF else last,
        deleted=deleted,
        start=start,
        end=end,
    )


def read_modules(segment: Segment, control: Control) -> list[Module]:
    """All published modules that make sense, in the order they were recorded."""
    array = control.array(layout.MODULES, layout.MODULE.itemsize, layout.MODULE_ROWS)
    count = min(control.number("module_count"), array.usable_rows)
    rows = segment.array(array, count, layout.MODULE)
    return [module for row in rows if (module := _module(row)) is not None]


@dataclass
class QuickCounts:
    """One quick reading of the site counters: rows in use, and all sampled allocations.

    Rows of one site are not merged; frees may be a moment ahead and are cut at the allocations.
    `without_room` of the samples have no stack, because a table was full.
    """

    blocks: Words
    bytes: Words
    samples: int
    without_room: int = 0


def read_quick(segment: Segment, control: Control, capture: int) -> QuickCounts:
    """Live counts of the host, read in one pass, for time series and progress."""
    parts: list[tuple[Words, Words]] = []
    samples = without_room = 0
    for level in site_levels(control):
        keys = segment.keys(level)
        at = np.flatnonzero(_of_capture(keys, capture))
        if len(at) == 0:
            continue
        rows = segment.rows(level, layout.SITE_ROW)[at]
        rows["alloc_blocks"], _ = births.blocks_and_scale(rows["alloc_blocks"])
        sane = (rows["alloc_blocks"] <= BLOCKS_MAX) & (rows["alloc_bytes"] <= BYTES_MAX)
        samples += int(rows["alloc_blocks"][sane].sum())
        full = np.isin(stack_ids(keys[at]), layout.STACKS_WITHOUT_ROOM)
        without_room += int(rows["alloc_blocks"][sane & full].sum())
        rows = rows[sane]
        alloc = rows["alloc_blocks"].astype(np.uint64)
        blocks = alloc - whole_freed_blocks(alloc, rows["freed_blocks"].astype(np.uint64))
        size = rows["alloc_bytes"] - np.minimum(rows["freed_bytes"], rows["alloc_bytes"])
        some = blocks > 0
        parts.append((blocks[some], size[some]))
    empty = np.empty(0, np.uint64)
    blocks, size = (np.concatenate([part[i] for part in parts] or [empty]) for i in range(2))
    return QuickCounts(blocks, size, samples, without_room)
