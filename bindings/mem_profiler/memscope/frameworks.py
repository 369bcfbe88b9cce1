"""Hooks around a window of the collection: PyTorch, watched blocks, Python calls."""

from __future__ import annotations

import os
import sys
from typing import Optional

from mem_profiler.memscope import collection, tracer, watcher
from mem_profiler.memscope.collection import Collection
from mem_profiler.memscope.operators import Listener
from mem_profiler.memscope.pytorch import TorchCollection, Wanted
from mem_profiler.memscope.watchfiles import WatchFiles
from mem_profiler.memscope.watching import Watching


class Window:
    """What runs in an open window."""

    def __init__(self) -> None:
        self._torch: Optional[TorchCollection] = None  # noqa: UP045 - Python 3.9 evaluates it
        self._watching: Optional[Watching] = None  # noqa: UP045 - same
        self._traces = False

    def begin(self, own: Collection) -> None:
        """Start the parts that the settings select; an open window is shut first."""
        self.end(own)
        settings = own.settings
        listeners: list[Listener] = []
        events = settings.all_events
        if settings.watch is not None or watcher.is_used():
            self._watching = Watching(WatchFiles(collection.run_folder()), settings.watch)
            watcher.use(self._watching)
            listeners.append(self._watching)
        wanted = Wanted(
            launch="launch" in events and "op" in settings.levels,
            access="access" in events,
            owners="decompose" in settings.analyses,
            stack_depth=settings.python_depth,
            all_frames=settings.python_all,
            listeners=tuple(listeners),
        )
        self._torch = TorchCollection(own.rows, wanted)
        self._torch.start()
        if "traceback" in settings.events:
            self._traces = self._trace()

    def _trace(self) -> bool:
        try:
            tracer.start()
        except (RuntimeError, OSError) as error:
            sys.stderr.write(f"mem_profiler: no trace of Python functions: {error}\n")
            return False
        return True

    def end(self, _: object = None) -> None:
        """End it, and say what changed in watched blocks."""
        if self._traces:
            self._traces = False
            tracer.stop()
        torch, self._torch = self._torch, None
        if torch is not None:
            torch.stop()
        watching, self._watching = self._watching, None
        if watching is not None:
            watcher.use(None)
            watching.finish()

    def leave(self) -> None:
        """In a fork child: what runs is the parent's."""
        self._traces = False
        watching, self._watching = self._watching, None
        if watching is not None:
            watcher.use(None)
        torch, self._torch = self._torch, None
        if torch is not None:
            torch.stop()


window = Window()


def begin_if_open() -> None:
    """Begin now, where the command has opened a window with the process."""
    own = collection.current()
    if own.by_command and own.open:
        window.begin(own)


collection.on_start.append(window.begin)
collection.on_stop.append(window.end)
os.register_at_fork(after_in_child=window.leave)
