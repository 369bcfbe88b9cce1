"""Read logs of a record: bytes in use over time, and by line at a time.

A helper reads the files (`mem_profiler.driver_stats.server`) and keeps their content until the next
log is read, or this process ends.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from typing import Any

from mem_profiler.driver_stats import this_process
from mem_profiler.helper.client import Helper
from mem_profiler.helper.errors import TrackerError

MS_MAX = 1e13
_state = threading.RLock()
_reader: Helper | None = None


def start_mem_log_profiler(
    workers: int | None = None, *, folder: str | None = None, coroutine_num: int | None = None
) -> None:
    """Read the newest log of a folder, and print how it goes.

    The files of one capture are read, from the last missing one on. They may be copies.

    Args:
        workers: How many processes read; None: one for each file.
        folder: Where the files are; None: the current folder.
        coroutine_num: Another name of ``workers``.

    Raises:
        ValueError: for a number of workers that is none.
        TrackerError: where there is no log, or it cannot be read, in one line.
    """
    global _reader
    workers = coroutine_num if workers is None else workers
    if workers is not None and (
        not isinstance(workers, int) or isinstance(workers, bool) or workers < 1
    ):
        raise ValueError(f"workers is a number of processes, not {workers!r}")
    with _state:
        helper = Helper(this_process.KIND)
        try:
            helper.ask("log_open", os.path.abspath(folder or "."))
            print("Processing, please wait a minute", flush=True)
            helper.ask("log_begin", workers)
            while True:
                file = helper.ask("log_next")["file"]
                if file is None:
                    break
                print(f"Parse {os.path.basename(file)} complete", flush=True)
            facts = helper.ask("log_facts")
        except BaseException:
            helper.close()
            raise
        old, _reader = _reader, helper
        if old is not None:
            old.close()
    for warning in facts["warnings"]:
        warnings.warn(warning, RuntimeWarning, stacklevel=2)
    print(complete_line(facts["duration_ms"], facts["started_s"]), flush=True)


def complete_line(duration_ms: int, started_s: float) -> str:
    """What is printed of a log that has been read: its length, and its begin in local time."""
    t = time.localtime(started_s)
    start = f"{t.tm_year}-{t.tm_mon:02}-{t.tm_mday:02} {t.tm_hour}:{t.tm_min}:{t.tm_sec}"
    return f"Process complete, profiler contains record for {duration_ms} ms, start from {start}"


def get_all_time_size() -> list[list[int]]:
    """Return `[[ms, bytes], ...]`: for each 100 ms since the record began, its begin and the most
    bytes that were in use in it.

    Raises TrackerError where no log has been read.
    """
    with _state:
        return list(_read().ask("log_sizes")["sizes"])


def get_mem_report_with_time(time_ms: float) -> dict[str, Any]:
    """Return what was in use, by line, at the moment of the 100 ms around ``time_ms`` at which most
    was: as `get_mem_report`.

    Raises TrackerError where no log has been read, or it does not have that moment; ValueError for
    a time that is none.
    """
    is_time = isinstance(time_ms, (int, float)) and not isinstance(time_ms, bool)
    if not is_time or not 0 <= time_ms < MS_MAX:
        raise ValueError(f"time_ms is a number of milliseconds, not {time_ms!r}")
    with _state:
        return this_process.checked(_read().ask("log_at", time_ms))


def _read() -> Helper:
    if _reader is None:
        raise TrackerError("no log has been read", "start_mem_log_profiler() reads one")
    return _reader


def _after_fork_in_child() -> None:
    """The content read belongs to the parent."""
    global _reader, _state  # noqa: PLW0603 - one in a process
    _state = threading.RLock()
    helper, _reader = _reader, None
    if helper is not None:
        helper.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
