"""memray's Python interface on this project's captures: scripts run after a change of the import.

    from mem_profiler import memray_api as memray

    with memray.Tracker("out.bin"):
        work()
    with memray.FileReader("out.bin") as reader:
        for record in reader.get_high_watermark_allocation_records():
            print(record.size, record.n_allocations, record.stack_trace())

Every block is captured (`rate=1`), unless a tracker gets another rate. As memray's, a tracker
writes all allocations, unless it is told `file_format=FileFormat.AGGREGATED_ALLOCATIONS`: they are
in a log beside the file. What memray has and our files have not (sockets, intervals, objects)
raises `NotImplementedError` with the reason.
`Tracker` needs Python 3.9; what reads files needs the Python of mem_profiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mem_parser.records.kinds import AllocatorType, FileFormat
from mem_parser.version import __version__
from mem_profiler.memray_api.tracker import (
    Destination,
    FileDestination,
    SocketDestination,
    Tracker,
)

if TYPE_CHECKING:
    from mem_parser.records.reader import FileReader, MemorySnapshot, Metadata, NotInFile
    from mem_parser.records.record import AllocationRecord
    from mem_parser.records.statistics import Stats, compute_statistics, dump_all_records

__all__ = [
    "AllocationRecord",
    "AllocatorType",
    "Destination",
    "FileDestination",
    "FileFormat",
    "FileReader",
    "MemorySnapshot",
    "Metadata",
    "NotInFile",
    "SocketDestination",
    "Stats",
    "Tracker",
    "__version__",
    "compute_statistics",
    "dump_all_records",
]
_OF_READERS = {
    "AllocationRecord": "record",
    "FileReader": "reader",
    "MemorySnapshot": "reader",
    "Metadata": "reader",
    "NotInFile": "reader",
    "Stats": "statistics",
    "compute_statistics": "statistics",
    "dump_all_records": "statistics",
}


def __getattr__(name: str) -> Any:
    """What reads files: it needs packages that a tracker does not."""
    if name not in _OF_READERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"mem_parser.records.{_OF_READERS[name]}")
    except ImportError as error:
        needed = "Python 3.11 or later, and what mem_profiler is installed with"
        raise ImportError(f"{name} needs {needed}: {error}") from None
    return getattr(module, name)
