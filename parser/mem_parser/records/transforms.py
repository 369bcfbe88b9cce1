"""Records for other programs, in the forms of memray's `transform`. Its third, speedscope, is
`mem_parser.writers.speedscope`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from mem_parser.escape import json_text
from mem_parser.records.record import AllocationRecord
from mem_parser.records.stacks import Element


def _stack(record: AllocationRecord) -> list[Element]:
    """The Python frames, else the native ones, innermost first."""
    return record.stack_trace() or record.native_stack_trace()


def gprof2dot(records: Iterable[AllocationRecord]) -> str:
    """Return gprof2dot's JSON: functions, and bytes for each call chain, innermost first."""
    numbers: dict[tuple[str, str], int] = {}
    events = []
    for record in records:
        chain = [numbers.setdefault(place[:2], len(numbers)) for place in _stack(record)]
        if chain:
            events.append({"callchain": chain, "cost": [record.size]})
    return json_text(
        {
            "version": 0,
            "costs": [{"description": "Memory", "unit": "bytes"}],
            "events": events,
            "functions": [{"name": function, "module": file} for function, file in numbers],
        }
    )


def csv_text(records: Iterable[AllocationRecord]) -> str:
    """Return a row for each record; frames are `function;file;line`, with `|` in between."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["allocator", "num_allocations", "size", "tid", "thread_name", "stack_trace"])
    for one in records:
        stack = "|".join(f"{function};{file};{line}" for function, file, line in _stack(one))
        writer.writerow(
            [one.allocator.name, one.n_allocations, one.size, one.tid, one.thread_name, stack]
        )
    return out.getvalue()
