"""Give a segment pages before the target needs them, from outside.

Model: the file is sparse, and a page without memory behind it would raise SIGBUS in the target
when the file system is full. So the target uses only what is marked as reserved. The controller
reserves by fallocate: the first pieces before a capture starts, then ahead of what is in use at
every tick. Each table's try-lock `growing` keeps target and controller apart; who finds it taken
just tries again later.
"""

from __future__ import annotations

import errno
import os

import numpy as np

from mem_parser.errors import TargetError, TargetUnsupported
from mem_profiler.segment import layout
from mem_profiler.segment.file import Control, Level, Segment

TABLES = {"stack_index": None, "sites": "mp_site_row", "live": "mp_live_row"}
# Made when the target wants them first: most programs have no device.
DEVICE_TABLES = {"device_sites": "mp_device_site_row", "device_live": "mp_device_live_row"}
ROWS = TABLES | DEVICE_TABLES
REGIONS_FIRST_BYTES = {"threads": 64 << 10, "modules": 256 << 10, "arena": 1 << 20}
ARENA_AHEAD_BYTES = 1 << 20
FILL_LIMIT = 0.25
KEYS_SAMPLED = 32768
GROWING_FREE, GROWING_CONTROLLER = 0, 2


def _region_limit(control: Control, region: str) -> int:
    """Bytes that a region may have."""
    if region == "arena":
        return control.number("arena_bytes")
    if region == "threads":
        return control.rows("thread_rows", layout.THREAD_ROWS) * layout.THREAD.itemsize
    return control.rows("module_rows", layout.MODULE_ROWS) * layout.MODULE.itemsize


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


def _extend(segment: Segment, control: Control, region: str, want: int) -> int:
    """Reserve the first `want` bytes of a region; 0 or the errno."""
    offset = control.number(f"{region}_offset")
    have = control.number(f"{region}_reserved_bytes")
    want = min(want, _region_limit(control, region), control.limit_bytes - offset)
    if want <= have:
        return 0
    if not segment.swap(("arena_growing",), GROWING_FREE, GROWING_CONTROLLER, 32):
        return errno.EAGAIN
    field = (f"{region}_reserved_bytes",)
    try:
        have = segment.load(field)
        if have < want:
            code = segment.allocate(offset + have, want - have)
            if code:
                return code
            segment.store(field, want)
    finally:
        segment.swap(("arena_growing",), GROWING_CONTROLLER, GROWING_FREE, 32)
    return 0


def _publish_level(segment: Segment, control: Control, table: str, index: int) -> int:
    """Reserve level `index` of a table and let the target use it; 0 or the errno."""
    row_struct = ROWS[table]
    level = control.level(control[table]["level"][index], index, row_struct)
    if level is None:
        return errno.EINVAL
    if not segment.swap((table, "growing"), GROWING_FREE, GROWING_CONTROLLER, 32):
        return errno.EAGAIN
    try:
        code = segment.allocate(level.offset, level.total_bytes)
        if code:
            return code
        segment.store((table, "level", index, "reserved_bytes"), level.total_bytes)
        segment.swap((table, "levels_ready"), index, index + 1, 32)
    finally:
        segment.swap((table, "growing"), GROWING_CONTROLLER, GROWING_FREE, 32)
    return 0


def release_stale_locks(segment: Segment) -> None:
    """Free the try-locks that a killed controller held. Only for the holder of the file lock."""
    for table in ROWS:
        segment.swap((table, "growing"), GROWING_CONTROLLER, GROWING_FREE, 32)
    segment.swap(("arena_growing",), GROWING_CONTROLLER, GROWING_FREE, 32)


def first_pieces(segment: Segment) -> None:
    """Reserve what a capture needs from its first sample on.

    Raises TargetError when there is no room.
    """
    control = segment.control()
    codes = [_extend(segment, control, name, size) for name, size in REGIONS_FIRST_BYTES.items()]
    codes.append(_reserve_lost(segment, control, "lost_sites", "mp_site_row"))
    for table in TABLES:
        if int(control[table]["levels_ready"]) == 0:
            codes.append(_publish_level(segment, control, table, 0))  # noqa: PERF401
    for code in codes:
        if code not in (0, errno.EAGAIN):
            raise _refused(segment, code)


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


def _reserve_whole(segment: Segment, control: Control, region: str, rows: int, row: int) -> int:
    """Reserve a region of device memory that is used whole or not at all."""
    offset, size = control.number(f"{region}_offset"), rows * row
    if not 0 < offset <= control.limit_bytes - size:
        return errno.EINVAL
    if control.number(f"{region}_reserved_bytes") >= size:
        return 0
    code = segment.allocate(offset, size)
    if code == 0:
        segment.store((f"{region}_reserved_bytes",), size)
    return code


def _first_of_devices(segment: Segment, control: Control) -> list[int]:
    """What the target could not reserve by itself (a seccomp filter): everything at once."""
    marks, row = control.number("mark_rows"), layout.MARK.itemsize
    codes = [
        _reserve_lost(segment, control, "device_lost_sites", "mp_device_site_row"),
        _reserve_whole(segment, control, "marks", marks, row),
        *(_publish_level(segment, control, table, 0) for table in DEVICE_TABLES),
        _reserve_whole(segment, control, "domains", layout.DOMAIN_ROWS, layout.DOMAIN.itemsize),
    ]
    segment.store(("device_wanted",), 0, 32)
    return codes


def _fill(segment: Segment, level: Level) -> float:
    """Share of rows in use; of a large level, its first keys stand for all (keys are hashed)."""
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


def ahead(segment: Segment, control: Control) -> bool:
    """Reserve ahead of what is in use; False when the file system refused something.

    What goes beyond our bound is left to the target.
    """
    codes = [_ahead_of_table(segment, control, table) for table in ROWS]
    if control.number("device_wanted"):
        codes += _first_of_devices(segment, control)
    used = control.number("arena_cursor")
    if used < 1 << 40:
        free = max(ARENA_AHEAD_BYTES, used // 4)
        if control.number("arena_reserved_bytes") < used + free:
            codes.append(_extend(segment, control, "arena", -(-(used + free) >> 20) << 20))
    for region, struct in (("thread", "mp_thread"), ("module", "mp_module_row")):
        need = control.number(f"{region}_count") * layout.dtype(struct).itemsize * 2
        if need > control.number(f"{region}s_reserved_bytes"):
            codes.append(_extend(segment, control, f"{region}s", -(-need >> 16) << 16))
    return all(code in (0, errno.EAGAIN, errno.E2BIG) for code in codes)
