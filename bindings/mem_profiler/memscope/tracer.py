"""`tracer.start` and `tracer.stop`: a trace of the Python functions that run in between.

    from mem_profiler.memscope import tracer

    tracer.start()
    train()
    tracer.stop()

Times are CLOCK_MONOTONIC, as those of all other rows.
"""

from __future__ import annotations

import os
import sys
import threading

from mem_parser.memscope.form import stamp_of
from mem_profiler.memscope import place
from mem_profiler.memscope.calls import Calls

_lock = threading.Lock()
_calls: Calls | None = None


def start(folder: str | None = None) -> None:
    """Begin a trace, unless one runs. ``folder`` None: that of this process's dumps.

    Raises:
        RuntimeError: where another profiler runs.
        OSError: where the folder cannot be made.
    """
    global _calls  # noqa: PLW0603 - one in a process
    with _lock:
        if _calls is None:
            calls = Calls(folder or place.dump_folder(), stamp_of())
            calls.start()
            _calls = calls


def stop() -> list[str]:
    """End the trace, and return its files; none, if none runs."""
    global _calls
    with _lock:
        calls, _calls = _calls, None
    if calls is None:
        return []
    for line in calls.stop():
        sys.stderr.write(f"mem_profiler: {line}\n")
    return calls.paths


def running() -> Calls | None:
    """Return the trace that runs."""
    return _calls


def _after_fork_in_child() -> None:
    """The trace, and its files, are the parent's."""
    global _calls, _lock  # noqa: PLW0603 - same
    _lock = threading.Lock()
    calls, _calls = _calls, None
    if calls is not None:
        calls.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
