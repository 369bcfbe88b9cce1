"""Read the tables of a segment into arrays: sites, live blocks, stacks, threads, modules.

Model: the target goes on counting while we read, so the order of the copies matters. Freed
counters are copied before allocated ones, so that in use (allocated - freed) is never negative;
live rows come last. A site row counts only if it belongs to the wanted capture in both copies. Rows
that are the same site (the shard bits of the key differ, or two threads inserted it at once) are
merged here.

Every number is untrusted. Rows whose counts or references make no sense are dropped, or pointed at
a reserved stack, and counted; all checks are array operations, a million sites take about a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mem_profiler import layout
from mem_profiler.segment import Control, Level, Records, Segment, Words

Ints = NDArray[np.int64]

# No honest counter comes near these; sums of a million such rows still fit 64 bits.
BLOCKS_MAX = 1 << 40
BYTES_MAX = 1 << 43


@dataclass
class Sites:
    """Counts of one capture, one entry per (stack id, size class, domain), sorted by key.

    `keys` are site keys without capture and shard; `births` has shape (n, 8); `skipped` rows
    made no sense.
    """

    keys: Words
    alloc_blocks: Words
    alloc_bytes: Words
    freed_blocks: Words
    freed_bytes: Words
    births: Words
    skipped: int = 0

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


@dataclass
class Stacks:
    """Stacks back to back: stack i has `depth[i]` frames from `first[i]` on in `frames`.

    `flags`: bit 0 cut at the depth limit, bit 1 ended early, bits 8-15 the lost cause (0: a real
    stack).
    """

    depth: NDArray[np.uint32]
    flags: NDArray[np.uint32]
    generation: NDArray[np.uint32]
    first: Ints
    frames: Words


@dataclass(frozen=True)
class Module:
    """One recorded module.

    Addresses are those of the target; `last_generation` None: still loaded.
    """

    path: str
    build_id: str
    start: int
    end: int
    bias: int
    exec: list[tuple[int, int, int]] = field(default_factory=list)
    first_generation: int = 0
    last_generation: int | None = None


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


def site_levels(control: Control) -> list[Level]:
    """All levels that hold sites: those of the table, then the reserved sites."""
    lost = control.lost_level()
    return control.levels("sites", "mp_site_row") + ([lost] if lost else [])


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


def _columns(rows: Records, freed: Records) -> Words:
    """(n, 12) array: allocated blocks and bytes, freed blocks and bytes, births."""
    table = np.empty((len(rows), 4 + layout.BUCKETS), np.uint64)
    table[:, 0] = rows["alloc_blocks"]
    table[:, 1] = rows["alloc_bytes"]
    table[:, 2] = freed["freed_blocks"]
    table[:, 3] = freed["freed_bytes"]
    table[:, 4:] = rows["births"]
    return table


def _read_level(segment: Segment, level: Level, capture: int) -> tuple[Words, Words]:
    early_keys = segment.keys(level)
    used = _of_capture(early_keys, capture)
    freed = segment.rows(level, layout.SITE_ROW)
    keys = segment.keys(level)
    rows = segment.rows(level, layout.SITE_ROW)
    now_used = _of_capture(keys, capture)
    # A row that was claimed between the copies had freed nothing of this capture in the first.
    freed[~used | (early_keys != keys)] = 0
    at = np.flatnonzero(now_used)
    return keys[at] & np.uint64(layout.SITE_MASK), _columns(rows[at], freed[at])


def read_sites(segment: Segment, control: Control, capture: int) -> Sites:
    """All sites of `capture`."""
    parts = [_read_level(segment, level, capture) for level in site_levels(control)]
    width = 4 + layout.BUCKETS
    keys = np.concatenate([part[0] for part in parts] or [np.empty(0, np.uint64)])
    table = np.concatenate([part[1] for part in parts] or [np.empty((0, width), np.uint64)])
    sane = (table[:, 0] <= BLOCKS_MAX) & (table[:, 1] <= BYTES_MAX)
    sane &= (table[:, 0] > 0) | ((table[:, 1] == 0) & (table[:, 2] == 0))
    keys, table = _merge(keys[sane], table[sane])
    some = table[:, 0] > 0
    keys, table = keys[some], table[some]
    freed_blocks = np.minimum(table[:, 2], table[:, 0])
    # Blocks and bytes are two counters: when no block is left, no byte is.
    freed_bytes = np.where(
        freed_blocks == table[:, 0], table[:, 1], np.minimum(table[:, 3], table[:, 1])
    )
    return Sites(
        keys=keys,
        alloc_blocks=table[:, 0].copy(),
        alloc_bytes=table[:, 1].copy(),
        freed_blocks=freed_blocks,
        freed_bytes=freed_bytes,
        births=np.minimum(table[:, 4:], np.uint64(0xFFFFFFFF)),
        skipped=int(np.count_nonzero(~sane)),
    )


def read_live(segment: Segment, control: Control, capture: int) -> LiveBlocks:
    """Live rows of `capture`. A row that changed hands between two looks at its key is left out."""
    parts: list[Records] = []
    for level in control.levels("live", "mp_live_row"):
        keys = segment.keys(level)
        if not keys.any():
            continue
        rows = segment.rows(level, layout.LIVE_ROW)
        settled = (keys != 0) & (keys & np.uint64(1) == 0) & (segment.keys(level) == keys)
        settled &= _of_capture(rows["site_key"], capture)
        settled &= rows["size_bytes"] <= BYTES_MAX
        settled &= rows["thread"] < layout.THREAD_ROWS
        parts.append(rows[settled])
    rows = np.concatenate(parts) if parts else np.empty(0, layout.LIVE_ROW)
    return LiveBlocks(
        site=rows["site_key"] & np.uint64(layout.SITE_MASK),
        size_bytes=rows["size_bytes"].astype(np.uint64),
        birth_ns=rows["birth_ns"].astype(np.uint64),
        thread=rows["thread"].astype(np.uint32),
    )


def _arena(segment: Segment, control: Control) -> Words:
    used = min(control.number("arena_cursor"), control.number("arena_bytes"))
    start = control.number("arena_offset")
    if start % 8 or not 0 < start <= control.limit_bytes:
        return np.empty(0, np.uint64)
    used = min(used, control.limit_bytes - start) // 8 * 8
    return segment.read(start, used).view(np.uint64)


def read_stacks(segment: Segment, control: Control, ids: Ints) -> Stacks:
    """The stacks with the given ids (arena offset / 8; below 16: a lost cause), in that order.
    A lost stack has the one frame 1; so has a record outside the arena or not published.
    """
    arena = _arena(segment, control)
    words = layout.STACK.itemsize // 8
    real = (ids >= layout.STACK_LOST_MAX) & (ids + words <= len(arena))
    at = np.where(real, ids, 0)
    heads = np.zeros(len(ids), layout.STACK)
    if len(arena) >= words:
        index = at[:, None] + np.arange(words)
        heads = np.ascontiguousarray(arena[index]).view(layout.STACK).reshape(-1)
    depth = heads["depth"].astype(np.int64)
    real &= (heads["hash"] != 0) & (depth > 0) & (depth <= layout.DEPTH_MAX)
    real &= at + words + depth <= len(arena)
    depth = np.where(real, depth, 1)
    first = np.concatenate(([0], np.cumsum(depth)))[:-1].astype(np.int64)
    frames = np.ones(int(depth.sum()), np.uint64)
    inner = np.arange(len(frames)) - np.repeat(first, depth)
    source = np.repeat(np.where(real, at + words, -1), depth)
    known = source >= 0
    frames[known] = arena[(source + inner)[known]]
    cause = np.where(ids < layout.STACK_LOST_MAX, ids, layout.STACK_UNREADABLE)
    flags = np.where(real, heads["truncated"].astype(np.int64) & 3, cause << 8)
    return Stacks(
        depth=depth.astype(np.uint32),
        flags=flags.astype(np.uint32),
        generation=np.where(real, heads["generation"], 0).astype(np.uint32),
        first=first,
        frames=frames,
    )


def read_threads(segment: Segment, control: Control) -> list[tuple[int, str]]:
    """(tid, name) of every recorded thread, by row. Row 0 stands for all that had no row."""
    size = layout.THREAD.itemsize
    count = min(control.number("thread_count") + 1, layout.THREAD_ROWS)
    count = min(count, control.number("threads_reserved_bytes") // size)
    offset = control.number("threads_offset")
    if not 0 < offset <= control.limit_bytes - count * size:
        return []
    rows = segment.read(offset, count * size).view(layout.THREAD)
    return [(int(row["tid"]), layout.text(row["name"])) for row in rows]


def _module(row: np.void) -> Module | None:
    start, end = int(row["start"]), int(row["end"])
    count = min(int(row["exec_ranges"]), len(row["exec"]))
    ranges = [
        (int(part["start"]), int(part["end"]), int(part["file_offset"]))
        for part in row["exec"][:count]
    ]
    if int(row["published"]) != 1 or start >= end or any(a >= b for a, b, _ in ranges):
        return None
    raw = bytes(row["path"])
    last = int(row["last_generation"])
    return Module(
        path=layout.text(raw),
        build_id=bytes(row["build_id"])[: min(int(row["build_id_bytes"]), 32)].hex(),
        start=start,
        end=end,
        bias=int(row["bias"]),
        exec=ranges,
        first_generation=int(row["first_generation"]),
        last_generation=None if last == 0xFFFFFFFF else last,
    )


def read_modules(segment: Segment, control: Control) -> list[Module]:
    """All published modules that make sense, in the order they were recorded."""
    size = layout.MODULE.itemsize
    count = min(control.number("module_count"), layout.MODULE_ROWS)
    count = min(count, control.number("modules_reserved_bytes") // size)
    offset = control.number("modules_offset")
    if not 0 < offset <= control.limit_bytes - count * size:
        return []
    rows = segment.read(offset, count * size).view(layout.MODULE)
    return [module for row in rows if (module := _module(row)) is not None]


@dataclass
class QuickCounts:
    """What one quick reading of the site counters gives: rows in use, and all sampled allocations.

    Rows of one site are not merged; frees may run a moment ahead and are cut at the allocations.
    """

    keys: Words
    blocks: Words
    bytes: Words
    samples: int


def read_quick(segment: Segment, control: Control, capture: int) -> QuickCounts:
    """Live counts of the host domain, read in one pass, for time series and progress."""
    parts: list[tuple[Words, Words, Words]] = []
    samples = 0
    host = np.uint64(layout.DOMAIN_MASK << layout.DOMAIN_SHIFT)
    for level in site_levels(control):
        keys = segment.keys(level)
        at = np.flatnonzero(_of_capture(keys, capture) & (keys & host == 0))
        if len(at) == 0:
            continue
        rows = segment.rows(level, layout.SITE_ROW)[at]
        sane = (rows["alloc_blocks"] <= BLOCKS_MAX) & (rows["alloc_bytes"] <= BYTES_MAX)
        samples += int(rows["alloc_blocks"][sane].sum())
        sane &= rows["alloc_blocks"] > rows["freed_blocks"]
        rows, at = rows[sane], at[sane]
        size = rows["alloc_bytes"] - np.minimum(rows["freed_bytes"], rows["alloc_bytes"])
        parts.append(
            (
                keys[at] & np.uint64(layout.SITE_MASK),
                rows["alloc_blocks"] - rows["freed_blocks"],
                size,
            )
        )
    empty = np.empty(0, np.uint64)
    columns = [np.concatenate([part[i] for part in parts] or [empty]) for i in range(3)]
    return QuickCounts(columns[0], columns[1], columns[2], samples)
