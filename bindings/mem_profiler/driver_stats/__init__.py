"""Bytes in use by source line, of every block, before and after a leak.

    from mem_profiler.driver_stats import MemRecordType, get_mem_report, set_enable_mem_profiler

    set_enable_mem_profiler(MemRecordType.MEM_RECORD)
    kept = [work() for _ in range(10_000)]
    print(get_mem_report())

What runs in the program needs no other package, and no more than Python 3.9; the rest runs in a
process beside (`server`).
"""

from mem_profiler.driver_stats.logs import (
    get_all_time_size,
    get_mem_report_with_time,
    start_mem_log_profiler,
)
from mem_profiler.driver_stats.record_type import MemRecordType
from mem_profiler.driver_stats.stats import (
    get_mem_profiler_log_number,
    get_mem_profiler_room,
    get_mem_report,
    set_enable_mem_profiler,
    set_mem_profiler_log_number,
)
from mem_profiler.helper.errors import TrackerError

__all__ = [
    "MemRecordType",
    "TrackerError",
    "get_all_time_size",
    "get_mem_profiler_log_number",
    "get_mem_profiler_room",
    "get_mem_report",
    "get_mem_report_with_time",
    "set_enable_mem_profiler",
    "set_mem_profiler_log_number",
    "start_mem_log_profiler",
]
