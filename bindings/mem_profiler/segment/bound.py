"""Bytes that the controller may reserve in a segment, by the sampler's own rule.

The control page says how large the segment may become, but the target writes it. The rule is that
of sampler/process/segment_file.c: MEM_PROFILER_MAX_MEMORY (here the controller's), and a share of
the memory limit of the target's control groups.
"""

from __future__ import annotations

import os

from mem_parser import sizes
from mem_profiler.process import cgroup
from mem_profiler.segment import layout

VARIABLE = "MEM_PROFILER_MAX_MEMORY"
DEFAULT_BYTES = layout.LIMIT_DEFAULT_BYTES


def of_process(pid: int | None) -> int:
    """Upper bound of bytes reserved for a process's segment; `pid` None: not visible."""
    most = sizes.whole_or(os.environ.get(VARIABLE), DEFAULT_BYTES)
    limit = cgroup.limit_bytes(pid) if pid else None
    share = most if limit is None else limit // layout.LIMIT_GROUP_SHARE
    return max(layout.LIMIT_MIN_BYTES, min(most, share))
