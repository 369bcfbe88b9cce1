"""Start, stop and query the record of a program's memory."""

from __future__ import annotations

import os
from typing import Any

from mem_profiler.driver_stats import this_process
from mem_profiler.driver_stats.record_type import MemRecordType, as_record_type
from mem_profiler.helper.client import Helper

PID_MAX = (1 << 31) - 1
LOG_NUMBER_MAX = 100_000
_log_number = 10


def set_enable_mem_profiler(
    enable_type: int = MemRecordType.MEM_RECORD,
    *,
    pid: int | None = None,
    reserve_bytes: int | None = None,
    folder: str | None = None,
) -> bool:
    """Begin, change or end the record of a process's memory; True where the mode is on afterwards.

    A change between RECORD and FAST keeps the record; one between MEM and LOG begins it anew.
    CLOSED ends it and drops what it has, but for its log, and may come twice.

    Args:
        enable_type: A `MemRecordType`.
        pid: Another process; None: this one. It is attached to where that is needed.
        reserve_bytes: What a FAST mode reserves for its tables; None: a quarter of the process's
            heap, but 24 MiB at least. No more than fits in the process's segment.
        folder: Where a LOG mode writes its files; None: the current folder.

    Raises:
        ValueError: for a mode, a process or a size that is none.
        TrackerError: where the process cannot be recorded, in one line.
    """
    mode = as_record_type(enable_type)
    if reserve_bytes is not None:
        if not _is_number(reserve_bytes) or reserve_bytes < 1:
            raise ValueError(f"reserve_bytes is a number of bytes, not {reserve_bytes!r}")
        if not mode.is_fast:
            raise ValueError(f"reserve_bytes is for a FAST mode, not for {mode.name}")
    if folder is not None and not mode.is_log:
        raise ValueError(f"folder is for a LOG mode, not for {mode.name}")
    wanted = [int(mode), reserve_bytes, os.path.abspath(folder or "."), _log_number]
    if _is_own(pid):
        return this_process.close() if mode is MemRecordType.CLOSED else this_process.enable(wanted)
    if mode is MemRecordType.CLOSED:
        return not _ask(pid, "close_other")["on"]
    return bool(_ask(pid, "enable_other", *wanted)["on"])


def get_mem_report(*, pid: int | None = None) -> dict[str, Any]:
    """Return the bytes in use by line of source, of all that was allocated since the record began.

    The result has "total_size" (bytes) and "mem_report": a text for each line, such as
    `/test/test.gs   line:6   size:79558144`, the largest first. Lines whose blocks are all freed
    have size:0. What mem_profiler itself allocates is left out.

    Raises:
        ValueError: for a process that is none.
        TrackerError: where there is no record, or it cannot be read.
    """
    if _is_own(pid):
        return this_process.report()
    return this_process.checked(_ask(pid, "report_other"))


def get_mem_profiler_room(*, pid: int | None = None) -> int:
    """Return how many bytes the tables of the record have; for a FAST mode, what it reserved.

    Raises TrackerError where there is no record, ValueError for a process that is none.
    """
    return this_process.room_bytes() if _is_own(pid) else int(_ask(pid, "room_other")["bytes"])


def get_mem_profiler_log_number() -> int:
    """Return how many files of a log stay."""
    return _log_number


def set_mem_profiler_log_number(log_num: int) -> None:
    """Let so many files of a log stay, the latest ones: of those that begin from now on.

    Raises ValueError for a number that is none.
    """
    global _log_number  # noqa: PLW0603 - of this process
    if not _is_number(log_num) or not 1 <= log_num <= LOG_NUMBER_MAX:
        raise ValueError(f"log_num is a number from 1 to {LOG_NUMBER_MAX}, not {log_num!r}")
    _log_number = log_num


def _is_own(pid: int | None) -> bool:
    """Tell whether this process is meant. Raises ValueError."""
    if pid is not None and (not _is_number(pid) or not 1 <= pid <= PID_MAX):
        raise ValueError(f"pid is the number of a process, not {pid!r}")
    return pid is None or pid == os.getpid()


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ask(pid: int | None, *command: Any) -> Any:
    helper = Helper(this_process.KIND, pid)
    try:
        return helper.ask(*command)
    finally:
        helper.close()
