"""Bytes that the controller may reserve in a segment, by the sampler's own rule.

The control page says how large the segment may become, but the target writes it. The rule is that
of sampler/process/segment_file.c: MEM_PROFILER_MAX_MEMORY (here the controller's), and a share of
the memory limit of the target's control groups, a larger one where that variable is set.
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
    asked = sizes.whole_or(os.environ.get(VARIABLE), 0)
    most = asked or DEFAULT_BYTES
    limit = cgroup.limit_bytes(pid) if pid else None
    share = layout.LIMIT_GROUP_ASKED_SHARE if asked else layout.LIMIT_GROUP_SHARE
    return max(layout.LIMIT_MIN_BYTES, min(most, most if limit is None else limit // share))
