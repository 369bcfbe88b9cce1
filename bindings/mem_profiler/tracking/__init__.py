"""A program tracks its own memory: `Tracker`.

What runs in the program is this package. It needs no other package, and no more than Python 3.9, so
that it works where the rest of mem_profiler is not installed; the rest runs in a process beside
(`helper`), which may have another Python.
"""

from mem_profiler.helper.errors import LostSamplesWarning, TrackerError
from mem_profiler.tracking.tracker import Tracker

__all__ = ["LostSamplesWarning", "Tracker", "TrackerError"]
