"""How many bytes the controller may reserve for a segment: the sampler's own rule, from outside.

The control page says how large the segment may become, but the target writes it. The rule is that
of sampler/preload/segment_file.c: MEM_PROFILER_MAX_MEMORY (here the controller's), and a share of
the memory limit of the target's control groups.
"""

from __future__ import annotations

import os
import re

from mem_profiler.process import cgroup

VARIABLE = "MEM_PROFILER_MAX_MEMORY"
DEFAULT_BYTES = 256 << 20
SHARE_OF_GROUP = 16
LEAST_BYTES = 1 << 20
_SIZE = re.compile(r"(\d{1,15})([KMG]?)", re.IGNORECASE)
_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30}


def of_process(pid: int | None) -> int:
    """Most bytes that may be reserved for the segment of a process; `pid` None: not visible."""
    found = _SIZE.fullmatch(os.environ.get(VARIABLE, ""))
    most = int(found[1]) << _SHIFT[found[2].upper()] if found else DEFAULT_BYTES
    limit = cgroup.limit_bytes(pid) if pid else None
    return max(LEAST_BYTES, min(most, limit // SHARE_OF_GROUP if limit is not None else most))
