"""Enter context managers in new threads: a PyTorch mode is per thread.

`threading.Thread.start` is replaced while there is one.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack
from typing import Any

_managers: list[AbstractContextManager[Any]] = []
_start: Any = None
_lock = threading.Lock()


def enter_in_new_threads(manager: AbstractContextManager[Any]) -> None:
    """Run every thread that starts from now on within ``manager``, which threads share."""
    global _start  # noqa: PLW0603 - one in a process
    with _lock:
        _managers.append(manager)
        if _start is None:
            _start = threading.Thread.start
            threading.Thread.start = _started  # type: ignore[method-assign, assignment]


def leave(manager: AbstractContextManager[Any]) -> None:
    """Let threads that start from now on be without ``manager``."""
    global _start  # noqa: PLW0603 - same
    with _lock:
        if manager in _managers:
            _managers.remove(manager)
        # Somebody may have replaced it on top of us: then ours stays, and does nothing.
        if not _managers and threading.Thread.start is _started:
            threading.Thread.start = _start  # type: ignore[method-assign]
            _start = None


def _started(thread: threading.Thread) -> None:
    managers = list(_managers)
    start = _start or threading.Thread.start
    if not managers:
        start(thread)
        return
    run = thread.run

    def within() -> None:
        del thread.run
        with ExitStack() as stack:
            for manager in managers:
                stack.enter_context(manager)
            run()

    thread.run = within  # type: ignore[method-assign]
    try:
        start(thread)
    except BaseException:
        # It did not begin, and may be started again.
        thread.__dict__.pop("run", None)
        raise
