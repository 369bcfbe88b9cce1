"""Statistics of a file, and its records as text."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from mem_parser.model import Count
from mem_parser.records.reader import FileReader, Metadata
from mem_parser.records.record import AllocationRecord
from mem_parser.records.stacks import Element

_NO_PLACE: Element = ("<unknown>", "<unknown>", 0)


@dataclass
class Stats:
    """What a capture allocated in all, freed or not; estimates, rounded.

    Sizes are those of the blocks, the mean size where blocks of a stack differ by less than 1/64.
    Modules are (name, allocations, bytes).
    """

    metadata: Metadata
    total_num_allocations: int
    total_memory_allocated: int
    peak_memory_allocated: int
    allocation_count_by_size: dict[int, int]
    allocation_count_by_allocator: dict[str, int]
    top_locations_by_size: list[tuple[Element, int]]
    top_locations_by_count: list[tuple[Element, int]]
    top_modules_by_allocation_size: list[tuple[str, int, int]] = field(default_factory=list)
    top_modules_by_allocation_count: list[tuple[str, int, int]] = field(default_factory=list)


def compute_statistics(
    file_name: str | os.PathLike[str],
    *,
    report_progress: bool = False,
    num_largest: int = 5,
) -> Stats:
    """Return the statistics of a file. Raises OSError, NotInFile, ValueError."""
    if num_largest < 1:
        raise ValueError("num_largest must be a positive integer")
    with FileReader(file_name, report_progress=report_progress) as reader:
        records = list(reader.get_total_allocation_records())
        size: Counter[Element] = Counter()
        count: Counter[Element] = Counter()
        allocators: Counter[str] = Counter()
        for record in records:
            place = _place(record)
            size[place] += record.size
            count[place] += record.n_allocations
            allocators[record.allocator.name] += record.n_allocations
        metadata = reader.metadata
        modules = _modules(size, count)
        return Stats(
            metadata=metadata,
            total_num_allocations=sum(count.values()),
            total_memory_allocated=sum(size.values()),
            peak_memory_allocated=metadata.peak_memory,
            allocation_count_by_size=reader.count_by_size(Count.ALLOC),
            allocation_count_by_allocator=dict(allocators),
            top_locations_by_size=size.most_common(num_largest),
            top_locations_by_count=count.most_common(num_largest),
            top_modules_by_allocation_size=sorted(modules, key=lambda m: -m[2])[:num_largest],
            top_modules_by_allocation_count=sorted(modules, key=lambda m: -m[1])[:num_largest],
        )


def _place(record: AllocationRecord) -> Element:
    """The innermost Python frame, else the innermost native one."""
    stack = record.stack_trace(1) or record.native_stack_trace(1)
    return stack[0] if stack else _NO_PLACE


def _modules(size: Counter[Element], count: Counter[Element]) -> list[tuple[str, int, int]]:
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for place, number in size.items():
        name = os.path.splitext(os.path.basename(place[1]))[0]
        sizes[name] += number
        counts[name] += count[place]
    return [(name, counts[name], sizes[name]) for name in sizes]


def dump_all_records(file_name: str | os.PathLike[str]) -> None:
    """Print a line for each record of all that was allocated. Raises OSError, NotInFile."""
    with FileReader(file_name) as reader:
        for record in reader.get_total_allocation_records():
            where = " <- ".join(
                f"{name} {file}:{line}"
                for name, file, line in record.stack_trace() or record.native_stack_trace()
            )
            print(
                f"ALLOCATION n_allocations={record.n_allocations} size={record.size} "
                f"allocator={record.allocator.name} stack={where}"
            )
