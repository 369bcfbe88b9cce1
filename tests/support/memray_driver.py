"""Run a script under a tracker and print its records: with memray, or with what stands in for it.

    memray_driver.py MODULE FILE SETUP BODY [AGGREGATED_ALLOCATIONS]

Both get the same calls, so that this program also says whether scripts written for one run with the
other. Prints one JSON object.
"""

import importlib
import json
import sys
from collections.abc import Iterable
from typing import Any

FAMILY = {
    "MALLOC", "CALLOC", "REALLOC", "POSIX_MEMALIGN", "ALIGNED_ALLOC", "MEMALIGN", "VALLOC",
    "PVALLOC",
}  # fmt: skip
ARENA_MAP_BYTES = 1 << 17
"""A node of pymalloc's map of its arenas (Objects/obmalloc.c, 3.10 and later). An arena that is the
first one in its 16 GiB of addresses needs a new one: chance says which line that is.
"""

Sums = dict[tuple[Any, ...], list[int]]
"""Allocations and bytes by (allocator, function, line)."""


def key_of(tool: Any, record: Any) -> tuple[Any, ...] | None:
    """What a record is counted under; None: it is of another kind, or the tool's own."""
    name = tool.AllocatorType(record.allocator).name
    if name not in FAMILY or (name == "CALLOC" and record.size % ARENA_MAP_BYTES == 0):
        return None
    stack = record.stack_trace()
    if (stack and stack[0][1] == __file__) or any("/memray/" in frame[1] for frame in stack):
        return None
    return (name, *(stack[0][::2] if stack else ("", 0)))


def added(tool: Any, records: Iterable[Any]) -> Sums:
    """The sums of records that are sums themselves."""
    found: Sums = {}
    for record in records:
        if (key := key_of(tool, record)) is not None:
            entry = found.setdefault(key, [0, 0])
            entry[0] += record.n_allocations
            entry[1] += record.size
    return found


def replayed(tool: Any, events: Iterable[Any]) -> tuple[Sums, Sums, Sums]:
    """What was live at the peak of the malloc family, what is at the end, what was allocated.

    memray's own sums mix allocators of one line, and its peak counts regions of mmap too.
    """
    live: dict[int, tuple[Any, int]] = {}
    total: Sums = {}
    held, most, peak = 0, -1, dict(live)
    for event in events:
        name = tool.AllocatorType(event.allocator).name
        if name in {"MMAP", "MUNMAP"}:
            continue
        if name == "FREE":
            _, size = live.pop(event.address, (None, 0))
            held -= size
            continue
        if (key := key_of(tool, event)) is not None:
            live[event.address] = key, event.size
            held += event.size
            entry = total.setdefault(key, [0, 0])
            entry[0] += 1
            entry[1] += event.size
        if held > most:
            most, peak = held, dict(live)
    return summed(peak.values()), summed(live.values()), total


def in_order(tool: Any, events: Iterable[Any]) -> list[list[Any]]:
    """Each allocation of the malloc family and each free of one, in their order: allocator,
    function, line and bytes.
    """
    live: dict[int, list[Any]] = {}
    found: list[list[Any]] = []
    for event in events:
        name = tool.AllocatorType(event.allocator).name
        if name == "FREE":
            if event.address in live:
                found.append(["FREE", *live.pop(event.address)[1:]])
            continue
        if (key := key_of(tool, event)) is not None:
            assert event.n_allocations == 1
            live[event.address] = [*key, event.size]
            found.append(live[event.address])
    return found


def temporary(tool: Any, reader: Any, **how: Any) -> list[list[Any]]:
    """Temporary blocks by function and line. memray's sums mix allocators of one line."""
    by_line: Sums = {}
    for key, sums in added(tool, reader.get_temporary_allocation_records(**how)).items():
        entry = by_line.setdefault(key[1:], [0, 0])
        entry[0] += sums[0]
        entry[1] += sums[1]
    return sorted([*key, *entry] for key, entry in by_line.items())


def singly(tool: Any, reader: Any) -> dict[str, Any]:
    """What depends on the order of allocations."""
    return {
        "events": in_order(tool, reader.get_allocation_records()),
        "temporary": temporary(tool, reader),
        "temporary by thread": temporary(tool, reader, merge_threads=False),
        "temporary of 5": temporary(tool, reader, threshold=5),
        "regions": any(
            tool.AllocatorType(event.allocator).name == "MMAP"
            for event in reader.get_allocation_records()
        ),
        "format": tool.FileFormat(reader.metadata.file_format).name,
        "threads": [
            len({record.tid for record in records(merge_threads=False) if key_of(tool, record)})
            for records in (
                reader.get_leaked_allocation_records,
                reader.get_high_watermark_allocation_records,
            )
        ],
    }


def summed(blocks: Iterable[tuple[Any, int]]) -> Sums:
    found: Sums = {}
    for key, size in blocks:
        entry = found.setdefault(key, [0, 0])
        entry[0] += 1
        entry[1] += size
    return found


def shown(sums: Sums) -> dict[str, list[Any]]:
    """The sums as lists: by allocator, and by allocator, function and line."""
    by_allocator: Sums = {}
    for key, (count, size) in sums.items():
        entry = by_allocator.setdefault(key[:1], [0, 0])
        entry[0] += count
        entry[1] += size
    return {
        "by allocator": sorted([*key, *entry] for key, entry in by_allocator.items()),
        "by line": sorted([*key, *entry] for key, entry in sums.items()),
    }


def main() -> None:
    module, path, setup, body, *form = sys.argv[1:]
    tool = importlib.import_module(module)
    space: dict[str, Any] = {"__name__": "script"}
    exec(compile(setup, "setup.py", "exec"), space)
    code = compile(body, "body.py", "exec")
    options = {"file_format": tool.FileFormat[form[0]]} if form else {}
    with tool.Tracker(path, **options):
        exec(code, space)
    with tool.FileReader(path) as reader:
        try:
            peak, left, total = replayed(tool, reader.get_allocation_records())
            single = {} if form else singly(tool, reader)
        except NotImplementedError:
            single = {}
            peak = added(tool, reader.get_high_watermark_allocation_records(merge_threads=True))
            left = added(tool, reader.get_leaked_allocation_records(merge_threads=True))
            total = added(tool, reader.get_total_allocation_records())
        found = {
            "peak": shown(peak),
            "left": shown(left),
            "total": shown(total),
            "pid": reader.metadata.pid,
            "allocator": reader.metadata.python_allocator,
            "snapshots": all(one.rss > 0 < one.time for one in reader.get_memory_snapshots()),
            "single": single,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
