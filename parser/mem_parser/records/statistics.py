"""Statistics of a file, and its records as text."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mem_parser.escape import one_line
from mem_parser.model import Count
from mem_parser.records.kinds import FileFormat
from mem_parser.records.reader import FileReader, Metadata
from mem_parser.records.record import FREES, AllocationRecord
from mem_parser.records.stacks import Element
from mem_parser.tracked import Tracked

_PACKAGES = re.compile(r".*/(?:site|dist)-packages(?=/)")
_STDLIB = re.compile(r".*/lib/python3\.\d+(?=/)")
_NO_PLACE: Element = ("<unknown>", "<unknown>", 0)


@dataclass
class Stats:
    """What a capture allocated in all, freed or not; estimates, rounded.

    Sizes are those of the blocks, the mean size where blocks of a stack differ by less than 1/64.
    Modules are (name, allocations, bytes), by the innermost frame that is not in Python's standard
    library: the name of its package, or of its file.
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
        modules_of = Modules(reader.tracked)
        module_size: Counter[str] = Counter()
        module_count: Counter[str] = Counter()
        for record in records:
            place = _place(record)
            module = modules_of.of_stack(record.stack_trace())
            size[place] += record.size
            count[place] += record.n_allocations
            module_size[module] += record.size
            module_count[module] += record.n_allocations
            allocators[record.allocator.name] += record.n_allocations
        metadata = reader.metadata
        modules = [(name, module_count[name], total) for name, total in module_size.items()]
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


class Modules:
    """Which top-level package or module the files of a program belong to."""

    def __init__(self, tracked: Tracked | None) -> None:
        """Take the folders of the program's Python; without them a file is told by its path."""
        self._told = tracked if tracked is not None and tracked.stdlib else None
        self._known: dict[str, str] = {}

    def of_stack(self, stack: Sequence[Element]) -> str:
        """Return that of the innermost frame outside of the standard library, as memray does."""
        return next(filter(None, (self._of_file(file) for _, file, _ in stack)), "<root>")

    def _of_file(self, file: str) -> str:
        """Return the name; empty: it is in the standard library."""
        if file not in self._known:
            self._known[file] = self._found(file)
        return self._known[file]

    def _found(self, file: str) -> str:
        if file.startswith("<frozen "):
            return ""
        told = self._told
        packages = told.packages if told else _folders(_PACKAGES, file)
        stdlib = (told.stdlib,) if told else _folders(_STDLIB, file)
        for folders, in_stdlib in (
            (packages, False),
            (stdlib, True),
            (told.paths if told else (), False),
        ):
            for folder in folders:
                if file.startswith(f"{folder}/"):
                    inside = file[len(folder) + 1 :]
                    return "" if in_stdlib else _top(inside)
        return _top(os.path.basename(file))


def _folders(pattern: re.Pattern[str], file: str) -> tuple[str, ...]:
    found = pattern.match(file)
    return (found[0],) if found else ()


def _top(path: str) -> str:
    top = path.split("/", 1)[0].removesuffix(".py") or "unknown"
    return "<root>" if top == "mem_profiler" else top


def record_lines(file_name: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a line for each allocation and free, or where the file has none singly, for each call
    stack of all that was allocated, or of what was in use, if that is all it has. Raises OSError.
    """
    with FileReader(file_name) as reader:
        if reader.metadata.file_format is FileFormat.ALL_ALLOCATIONS:
            records = reader.get_allocation_records()
        elif reader.has_total:
            records = reader.get_total_allocation_records()
        else:
            records = reader.get_leaked_allocation_records()
        for record in records:
            stack = []
            if record.allocator not in FREES:
                stack = record.stack_trace() or record.native_stack_trace()
            where = " <- ".join(f"{name} {file}:{line}" for name, file, line in stack)
            at = f" address={record.address:#x}" if record.address else ""
            yield (
                f"ALLOCATION tid={record.tid}{at} n_allocations={record.n_allocations} "
                f"size={record.size} allocator={record.allocator.name} stack={one_line(where)}"
            )


def dump_all_records(file_name: str | os.PathLike[str]) -> None:
    """Print a line for each record. Raises OSError."""
    for line in record_lines(file_name):
        print(line)
