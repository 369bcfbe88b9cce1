"""Reserve pages of a segment from outside, before the target needs them.

Model: the file is sparse, and a page without memory behind it would raise SIGBUS in the target
when the file system is full. So the target uses only reserved ranges. The controller reserves by
fallocate: the first pieces before a capture starts, then at every tick ahead of what is in use.
Target and controller may reserve the same range at once: what is reserved only grows.
"""

from __future__ import annotations

import errno
import os

import numpy as np

from mem_parser.errors import TargetError, TargetUnsupported
from mem_profiler.segment import layout
from mem_profiler.segment.file import FILE_MAX_BYTES, Array, Control, Level, Segment

TABLES = {"stack_index": None, "sites": "mp_site_row", "live": "mp_live_row"}
# Created when the target first needs them: most programs have no device.
DEVICE_TABLES = {"device_sites": "mp_device_site_row", "device_live": "mp_device_live_row"}
ROWS = TABLES | DEVICE_TABLES
# Arrays that every capture has: bytes of a row, most rows, and the first piece in bytes.
ARRAYS = {
    layout.THREADS: (layout.THREAD.itemsize, layout.THREAD_ROWS, 64 << 10),
    layout.MODULES: (layout.MODULE.itemsize, layout.MODULE_ROWS, 256 << 10),
    layout.STACKS: (8, FILE_MAX_BYTES // 8, 1 << 20),
}
ARENA_AHEAD_BYTES = 1 << 20
ARENA_AHEAD_LITTLE_BYTES = 128 << 10  # where the sampler can reserve by itself
ARENA_SHARE = 8  # of what is reserved up front, one part is for stacks
USUAL_ROWS = {"stack_index": 1, "sites": 1, "live": 4}
FILL_LIMIT = 0.25
_RINGS_MIN = 4
KEYS_SAMPLED = 32768


def _refused(segment: Segment, code: int) -> TargetError:
    if code in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM):
        return TargetError(
            f"no room for the capture: the file system of {segment.path} is full",
            hint="make room there, or restart the program with MEM_PROFILER_DIR=FOLDER elsewhere",
        )
    if code == errno.E2BIG:
        return TargetError(
            f"no room for the capture: {segment.path} may have at most"
            f" {segment.reserve_max_bytes >> 10} KiB",
            hint="the bound is a share of the memory limit of the process's control group",
        )
    return TargetUnsupported(
        f"the file system of {segment.path} cannot reserve space: {os.strerror(code)}",
        hint="restart the program with MEM_PROFILER_DIR on a tmpfs",
    )


def _extend(segment: Segment, control: Control, kind: int, want: int) -> int:
    """Reserve the first `want` bytes of an array; 0 or the errno."""
    row_bytes, most_rows, _ = ARRAYS[kind]
    array = control.array(kind, row_bytes, most_rows)
    want = min(want, array.total_bytes)
    if want <= array.reserved_bytes:
        return 0
    field = ("directory", kind, "reserved_bytes")
    have = segment.load(field)
    code = segment.allocate(array.offset + have, want - have) if have < want else 0
    while code == 0 and have < want and not segment.swap(field, have, want):
        have = segment.load(field)
    return code


def _publish_level(segment: Segment, control: Control, table: str, index: int) -> int:
    """Reserve level `index` of a table and let the target use it; 0 or the errno."""
    row_struct = ROWS[table]
    level = control.level(control[table]["level"][index], index, row_struct)
    if level is None:
        return errno.EINVAL
    code = segment.allocate(level.offset, level.total_bytes)
    if code == 0:
        segment.store((table, "level", index, "reserved_bytes"), level.total_bytes)
        segment.swap((table, "levels_ready"), index, index + 1, 32)
    return code


def first_pieces(segment: Segment) -> None:
    """Reserve what a capture needs from its first sample on.

    Raises TargetError when there is no space.
    """
    control = segment.control()
    codes = [_extend(segment, control, kind, first) for kind, (*_, first) in ARRAYS.items()]
    codes.append(_reserve_lost(segment, control, "lost_sites", "mp_site_row"))
    for table in TABLES:
        if int(control[table]["levels_ready"]) == 0:
            codes.append(_publish_level(segment, control, table, 0))  # noqa: PERF401
    for code in codes:
        if code != 0:
            raise _refused(segment, code)


def up_front(segment: Segment, budget_bytes: int) -> list[tuple[int, int]]:
    """Reserve tables of the host in about `budget_bytes`, including their present size, so that
    they need not grow: as many levels as fit, with rows in the proportions of `USUAL_ROWS`.

    Returns all ranges (offset, bytes) of these tables that have pages. Raises TargetError if there
    is no space for the first pieces.
    """
    first_pieces(segment)
    _extend(segment, segment.control(), layout.STACKS, budget_bytes // ARENA_SHARE)
    while True:
        control = segment.control()
        left = budget_bytes - reserved_bytes(control)
        next_ones = [(name, _next(control, name)) for name in TABLES]
        fitting = [
            (_rows(control, name) / USUAL_ROWS[name], name, level.index)
            for name, level in next_ones
            if level is not None and level.total_bytes <= left
        ]
        if not fitting:
            return _ranges(control)
        _, table, index = min(fitting)
        if _publish_level(segment, control, table, index):
            return _ranges(segment.control())


def reserved_bytes(control: Control) -> int:
    """Bytes of the host's tables that have pages."""
    return sum(size for _, size in _ranges(control))


def _rows(control: Control, table: str) -> int:
    return sum(level.rows for level in control.levels(table, ROWS[table]))


def _next(control: Control, table: str) -> Level | None:
    """The next level of a table; None if it has all."""
    ready = int(control[table]["levels_ready"])
    if ready >= min(int(control[table]["levels"]), layout.LEVELS):
        return None
    return control.level(control[table]["level"][ready], ready, ROWS[table])


def _ranges(control: Control) -> list[tuple[int, int]]:
    levels = [level for name in TABLES for level in control.levels(name, ROWS[name])]
    arrays = [control.array(kind, *sizes[:2]) for kind, sizes in ARRAYS.items()]
    reserved = [(one.offset, min(one.reserved_bytes, one.total_bytes)) for one in arrays]
    return [(level.offset, level.total_bytes) for level in levels] + reserved


def divide_events(most_bytes: int, wanted_bytes: int, processors: int) -> tuple[int, int]:
    """Rings, and events in each, in at most `wanted_bytes`; (0, 0) if not even one fits.

    As mp_events_begin() of sampler/core/events.c divides them.
    """

    def fits(rings: int, events: int) -> bool:
        need = layout.RING_HEADS_BYTES + rings * events * layout.EVENT.itemsize
        return need <= min(most_bytes, wanted_bytes)

    rings, events = 1, layout.RING_EVENTS_MIN
    if not fits(rings, events):
        return 0, 0
    wanted = min(layout.RING_ROWS, max(_RINGS_MIN, 2 * processors))
    while rings < wanted and fits(2 * rings, events):
        rings *= 2
    while fits(rings, 2 * events):
        events *= 2
    return rings, events


def rings(segment: Segment, number: int, wanted_bytes: int) -> None:
    """Let capture `number`, whose gate is shut, write events into rings of about `wanted_bytes`.

    Raises TargetError when there is no space.
    """
    control = segment.control()
    array = control.array(layout.EVENTS, layout.EVENT.itemsize, control.limit_bytes // 32)
    count, events = divide_events(array.total_bytes, wanted_bytes, os.cpu_count() or 1)
    if count == 0:
        raise TargetUnsupported(
            f"the segment {segment.path} of {control.limit_bytes >> 10} KiB has no room for events",
            hint="restart the program with a larger MEM_PROFILER_MAX_MEMORY (the default is 256M)",
        )
    heads = layout.RING_HEADS_BYTES
    need = heads + count * events * layout.EVENT.itemsize
    if array.reserved_bytes < need:
        have = array.reserved_bytes
        code = segment.allocate(array.offset + have, need - have)
        if code:
            raise _refused(segment, code)
        segment.store(("directory", layout.EVENTS, "reserved_bytes"), need)
    old = segment.read(array.offset, heads).view(layout.RING)
    for ring in range(layout.RING_ROWS):
        at = array.offset + ring * layout.RING.itemsize + layout.RING.fields["begun"][1]  # type: ignore[index]
        row = old[ring]
        begin = (int(row[name]).to_bytes(8, "little") for name in ("head", "lost", "head"))
        segment.write(at, b"".join(begin))
    segment.store(("events", "rings"), count, 32)
    segment.store(("events", "ring_events"), events, 32)
    segment.store(("events", "capture"), number, 32)


def _reserve_lost(segment: Segment, control: Control, name: str, row_struct: str) -> int:
    raw = control[name]
    level = control.level(raw, 15, row_struct)
    if level is None:
        return errno.EINVAL
    if int(raw["reserved_bytes"]) >= level.total_bytes:
        return 0
    code = segment.allocate(level.offset, level.total_bytes)
    if code == 0:
        segment.store((name, "reserved_bytes"), level.total_bytes)
    return code


def _reserve_whole(segment: Segment, array: Array) -> int:
    """Reserve an array of device memory; the target uses it whole or not at all."""
    if array.rows == 0:
        return errno.EINVAL
    if array.reserved_bytes >= array.total_bytes:
        return 0
    code = segment.allocate(array.offset, array.total_bytes)
    if code == 0:
        segment.store(("directory", array.kind, "reserved_bytes"), array.total_bytes)
    return code


def _first_of_devices(segment: Segment, control: Control) -> list[int]:
    """Reserve everything that the target cannot reserve by itself (a seccomp filter)."""
    marks = control.array(layout.MARKS, layout.MARK.itemsize, layout.MARK_ROWS_MAX)
    domains = control.array(layout.DOMAINS, layout.DOMAIN.itemsize, layout.DOMAIN_ROWS)
    codes = [
        _reserve_lost(segment, control, "device_lost_sites", "mp_device_site_row"),
        _reserve_whole(segment, marks),
        *(_publish_level(segment, control, table, 0) for table in DEVICE_TABLES),
        _reserve_whole(segment, domains),
    ]
    segment.store(("device_wanted",), 0, 32)
    return codes


def _fill(segment: Segment, level: Level) -> float:
    """Share of rows in use; for a large level, of its first keys (keys are hashed)."""
    count = min(level.rows, KEYS_SAMPLED)
    keys = segment.keys(level, count)
    return float(np.count_nonzero(keys)) / count


def _ahead_of_table(segment: Segment, control: Control, table: str) -> int:
    record = control[table]
    ready = int(record["levels_ready"])
    if not 0 < ready < min(int(record["levels"]), layout.LEVELS):
        return 0
    levels = control.levels(table, ROWS[table])
    wanted = int(record["wanted"]) > ready
    if wanted or (levels and _fill(segment, levels[-1]) > FILL_LIMIT):
        return _publish_level(segment, control, table, ready)
    return 0


def _began_small(control: Control) -> bool:
    """Whether the sampler chose small first pieces because it can reserve more on demand."""
    stacks = control.array(layout.STACKS, *ARRAYS[layout.STACKS][:2])
    filtered = control.number("controller_flags") & layout.FLAG_SECCOMP
    return not filtered and stacks.reserved_bytes < ARRAYS[layout.STACKS][2]


def ahead(segment: Segment, control: Control) -> bool:
    """Reserve ahead of what is in use; False when the file system refused something.

    Reserves nothing beyond our bound; the target does that.
    """
    codes = [_ahead_of_table(segment, control, table) for table in ROWS]
    if control.number("device_wanted"):
        codes += _first_of_devices(segment, control)
    used = control.number("arena_cursor")
    if used < 1 << 40:
        least = ARENA_AHEAD_LITTLE_BYTES if _began_small(control) else ARENA_AHEAD_BYTES
        free = max(least, used // 4)
        codes.append(_extend(segment, control, layout.STACKS, -(-(used + free) // least) * least))
    for kind, counter in ((layout.THREADS, "thread_count"), (layout.MODULES, "module_count")):
        need = control.number(counter) * ARRAYS[kind][0] * 2
        codes.append(_extend(segment, control, kind, -(-need >> 16) << 16))
    return all(code in (0, errno.E2BIG) for code in codes)
