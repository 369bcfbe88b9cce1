"""Limit on the controller's own memory; above it the capture ends.

Model: a controller runs beside the service that it captures. `recorder` bounds how often it reads,
by the share of a core that readings may cost. This module bounds its memory, which many sites could
raise, and measures what the capture costs outside of the target; every file has these numbers.
"""

from __future__ import annotations

import os
import resource

from mem_parser import sizes
from mem_parser.processfacts import ControllerUse

VARIABLE = "MEM_PROFILER_CONTROLLER_MEMORY"
DEFAULT_BYTES = 2 << 30


def bound_bytes() -> int:
    """Resident memory that the controller may have."""
    return sizes.whole_or(os.environ.get(VARIABLE), DEFAULT_BYTES)


def rss_bytes() -> int:
    """Resident memory of this process now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def use() -> ControllerUse:
    """CPU time and highest resident memory of this process and the children it waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return ControllerUse(
        cpu_s=round(sum(one.ru_utime + one.ru_stime for one in both), 3),
        peak_rss_bytes=max(one.ru_maxrss for one in both) * 1024,
    )
