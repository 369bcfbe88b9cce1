"""`tracer.start` and `tracer.stop`: a trace of the Python functions that run in between.

    from mem_profiler.memscope import tracer

    tracer.start()
    train()
    tracer.stop()

Times are CLOCK_MONOTONIC, as those of all other rows. `RecordFunction` makes one row of a part of a
program.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from mem_parser.memscope.form import stamp_of
from mem_profiler.memscope import collection
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
            calls = Calls(folder or collection.dump_folder(), stamp_of())
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


_Function = TypeVar("_Function", bound=Callable[..., Any])


class RecordFunction:
    """A row of the trace with the name that it is given, while a trace runs.

    with RecordFunction("forward"):
        model(x)

    @RecordFunction("step")
    def step(): ...
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise ValueError(f"name is a text that is not empty, not {name!r}")
        self._name = sys.intern(name)
        self._calls: list[Calls | None] = []

    def __enter__(self) -> RecordFunction:  # noqa: PYI034 - Python 3.9
        calls = running()
        self._calls.append(calls)
        if calls is not None:
            calls.entered(self._name)
        return self

    def __exit__(self, *_: object) -> None:
        calls = self._calls.pop()
        # The trace may have ended, which ended the row.
        if calls is not None and calls is running():
            calls.left(self._name)

    def __call__(self, function: _Function) -> _Function:
        """Make each call of a function such a row."""

        @functools.wraps(function)
        def recorded(*arguments: Any, **options: Any) -> Any:
            with RecordFunction(self._name):
                return function(*arguments, **options)

        return recorded  # type: ignore[return-value]
