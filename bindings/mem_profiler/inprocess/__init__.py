"""A process captures itself, or parts of its own run.

    from mem_profiler import inprocess

    with inprocess.capture("out/step", rate_bytes=1024) as captured:
        work()
    print(captured.path)

The sampler must be in the process (`is_loaded`): by `mem_profiler run`, by the variables of
`environment`, or by an attach. A process beside this one does the work (`sidecar`), so that the
capture counts nothing of its own.
"""

from __future__ import annotations

from mem_parser.heapfile.form import Form
from mem_profiler.inprocess.loading import captured_by, environment, is_loaded, why_not
from mem_profiler.inprocess.sidecar import Captured, Sidecar, capture

__all__ = [
    "Captured",
    "Form",
    "Sidecar",
    "capture",
    "captured_by",
    "environment",
    "is_loaded",
    "why_not",
]
