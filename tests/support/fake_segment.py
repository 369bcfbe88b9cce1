"""Build segment files by hand, as the sampler would have left them, for tests of the reading side.

Model: a `FakeSegment` is an array of bytes with a valid control page and one level per table. Rows
are put where the test says, not where a hash would, because readers must not rely on that.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from mem_profiler.process import procfs
from mem_profiler.segment import births, layout

PAGE = 4096
SITE_ROWS = 256
LIVE_ROWS = 256
ARENA_BYTES = 1 << 20


def site_key(
    stack: int, size_class: int = 1, domain: int = 0, shard: int = 0, capture: int = 1
) -> int:
    """A site key as segment.h packs it."""
    return stack | size_class << 26 | domain << 38 | shard << 44 | capture << 47


class FakeSegment:
    """A segment in memory; `save` writes it to a file."""

    def __init__(self, site_rows: int = SITE_ROWS, live_rows: int = LIVE_ROWS) -> None:
        self.at = PAGE
        self._plan: list[tuple[str, int]] = []
        threads = self._take(layout.THREAD_ROWS * layout.THREAD.itemsize)
        modules = self._take(layout.MODULE_ROWS * layout.MODULE.itemsize)
        lost = self._take(64 * 72)
        index = self._take(4096 * 8)
        sites = self._take(site_rows * 72)
        next_sites = self._take(4 * site_rows * 72)
        live = self._take(live_rows * 32)
        arena = self._take(ARENA_BYTES)
        self.data = np.zeros(self.at, np.uint8)
        self.control: Any = self.data[: layout.CONTROL.itemsize].view(layout.CONTROL)[0]
        c = self.control
        c["magic"], c["version"] = layout.MAGIC, layout.VERSION
        c["header_bytes"], c["limit_bytes"] = layout.CONTROL.itemsize, self.at
        c["pid"], c["start_ticks"] = os.getpid(), procfs.start_ticks(os.getpid())
        c["uid"], c["pidns_inode"] = os.getuid(), procfs.pidns_inode() or 0
        c["page_bytes"], c["depth_limit"] = PAGE, 128
        c["gate"] = layout.GATE_OFF
        c["state"] = layout.STATE_READY
        c["comm"], c["exe"], c["command"] = b"prog", b"/usr/bin/prog", b"prog --flag=1"
        c["unwinder"], c["allocator"] = b"cfi", b"/usr/lib/libc.so.6"
        self.array(layout.THREADS, threads, layout.THREAD_ROWS, layout.THREAD.itemsize, 64 << 10)
        self.array(layout.MODULES, modules, layout.MODULE_ROWS, layout.MODULE.itemsize, 256 << 10)
        self.array(layout.STACKS, arena, ARENA_BYTES // 8, 8, ARENA_BYTES)
        c["arena_cursor"] = layout.STACK_LOST_MAX * 8
        c["thread_count"] = 0
        self._level(c["lost_sites"], lost, 64, 64)
        self._table("stack_index", [(index, 4096)], 0)
        self._table("sites", [(sites, site_rows), (next_sites, 4 * site_rows)], 64)
        self._table("live", [(live, live_rows)], 24)
        self.site_keys, self.site_rows = self._views(sites, site_rows, layout.SITE_ROW)
        self.lost_keys, self.lost_rows = self._views(lost, 64, layout.SITE_ROW)
        self.live_rows = self.data[live : live + live_rows * 32].view(layout.LIVE_ROW)
        self.threads = self.data[threads:][: 64 << 10].view(layout.THREAD)
        self.modules = self.data[modules:][: 256 << 10].view(layout.MODULE)
        self.arena = self.data[arena:].view(np.uint64)
        self._sites = self._lost = self._live = 0

    def array(self, kind: int, offset: int, rows: int, row_bytes: int, reserved: int) -> None:
        """Enter an array into the directory."""
        entry = self.control["directory"][kind]
        entry["kind"], entry["row_bytes"], entry["offset"] = kind, row_bytes, offset
        entry["rows"], entry["reserved_bytes"] = rows, reserved

    def offset_of(self, kind: int) -> int:
        return int(self.control["directory"][kind]["offset"])

    def _take(self, size: int) -> int:
        offset, self.at = self.at, self.at + -(-size // PAGE) * PAGE
        return offset

    @staticmethod
    def _level(level: Any, offset: int, rows: int, row_bytes: int) -> None:
        level["offset"], level["rows"], level["row_bytes"] = offset, rows, row_bytes
        level["reserved_bytes"] = -(-rows * (8 + row_bytes) // PAGE) * PAGE

    def _table(self, name: str, levels: list[tuple[int, int]], row_bytes: int) -> None:
        table = self.control[name]
        table["levels"], table["levels_ready"] = len(levels), 1
        for i, (offset, rows) in enumerate(levels):
            self._level(table["level"][i], offset, rows, row_bytes)
            if i:
                table["level"][i]["reserved_bytes"] = 0

    def _views(self, offset: int, rows: int, dtype: Any) -> tuple[Any, Any]:
        keys = self.data[offset : offset + 8 * rows].view(np.uint64)
        start = offset + 8 * rows
        return keys, self.data[start : start + rows * dtype.itemsize].view(dtype)

    def begin(self, rate: int = 1, number: int = 1, seconds: float | None = None) -> None:
        """Make `number` the running capture."""
        slot = self.control["capture"][number & 1]
        now = time.monotonic_ns()
        slot["number"], slot["rate_bytes"], slot["start_ns"] = number, rate, now
        slot["deadline_ns"] = layout.U64_MAX if seconds is None else now + int(seconds * 1e9)
        slot["stop_ns"], slot["start_realtime_ns"] = 0, time.time_ns()
        slot["birth_unit_ns"] = births.unit_ns(seconds)
        self.control["capture_number"] = number
        self.control["gate"] = number << layout.GATE_SHIFT

    def stack(self, frames: list[int], truncated: int = 0, generation: int = 0) -> int:
        """Store a stack; returns its id."""
        at = int(self.control["arena_cursor"]) // 8
        head = self.arena[at : at + 3].view(layout.STACK)[0]
        head["hash"], head["depth"] = 77, len(frames)
        head["truncated"], head["generation"] = truncated, generation
        self.arena[at + 3 : at + 3 + len(frames)] = frames
        self.control["arena_cursor"] = 8 * (at + 3 + len(frames))
        return at

    def site(self, key: int, alloc: tuple[int, int], freed: tuple[int, int] = (0, 0)) -> int:
        """Add a site row with (blocks, bytes) allocated and freed; all births in bucket 0."""
        lost = (key & ((1 << 26) - 1)) < layout.STACK_LOST_MAX
        keys, rows = (self.lost_keys, self.lost_rows) if lost else (self.site_keys, self.site_rows)
        at = self._lost if lost else self._sites
        self._lost, self._sites = self._lost + lost, self._sites + (not lost)
        keys[at] = key
        row = rows[at]
        row["alloc_blocks"], row["alloc_bytes"] = alloc
        row["freed_blocks"], row["freed_bytes"] = freed
        row["births"][0] = min(alloc[0], 0xFFFFFFFF)
        return at

    def live(self, address: int, key: int, size: int, age_s: float = 0.0, thread: int = 0) -> int:
        """Add a live row born `age_s` seconds after the capture's start."""
        at, self._live = self._live, self._live + 1
        start = int(self.control["capture"][int(self.control["capture_number"]) & 1]["start_ns"])
        row = self.live_rows[at]
        row["key"], row["site_key"] = address, key
        row["size_thread"] = size | thread << layout.LIVE_SIZE_BITS
        row["birth"] = (start + int(age_s * 1e9) >> layout.LIVE_BIRTH_SHIFT) & 0xFFFFFFFF
        return at

    def thread(self, tid: int, name: bytes) -> int:
        """Record a thread; returns its row."""
        row = int(self.control["thread_count"]) + 1
        self.threads[row]["tid"], self.threads[row]["name"] = tid, name
        self.control["thread_count"] = row
        return row

    def module(self, path: bytes, start: int, end: int, bias: int = 0) -> None:
        """Record a module that is one executable range."""
        count = int(self.control["module_count"])
        row = self.modules[count]
        row["published"], row["path"], row["path_bytes"] = 1, path, len(path)
        row["start"], row["end"], row["bias"], row["exec_ranges"] = start, end, bias, 1
        row["exec"][0]["start"], row["exec"][0]["end"] = start, end
        row["last_generation"] = 0xFFFFFFFF
        row["build_id"][:4] = [0xAB, 0xCD, 0, 1]
        row["build_id_bytes"] = 4
        self.control["module_count"] = count + 1

    def identity(self) -> str:
        """The name that the sampler would give the file."""
        c = self.control
        return f"{c['pid']}-{c['start_ticks']}-{c['exec_count']}"

    def save(self, base: Path) -> Path:
        """Write the file where a sampler would under `base`; returns its path."""
        folder = base / f"mem_profiler.{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / self.identity()
        path.write_bytes(self.data.tobytes())
        return path
