"""Turn the site counters of a segment into a keyframe of a log."""

from __future__ import annotations

import numpy as np

from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.sizeclasses import CLASS_BITS
from mem_profiler.segment import collect, layout
from mem_profiler.segment.file import Segment


def counted(segment: Segment, time_ns: int) -> Keyframe:
    """The live blocks of the latest capture, host's and devices'; `time_ns` is about now."""
    control = segment.control()
    capture = control.number("capture_number")
    sources = (collect.HOST, collect.DEVICES)
    sites = [collect.read_sites(segment, control, capture, one) for one in sources]
    keys = np.concatenate([one.keys for one in sites])
    live = np.concatenate([one.alloc_blocks - one.freed_blocks for one in sites])
    size = np.concatenate([one.alloc_bytes - one.freed_bytes for one in sites])
    classes = keys >> np.uint64(layout.STACK_BITS) & np.uint64((1 << CLASS_BITS) - 1)
    return Keyframe(
        time_ns,
        collect.stack_ids(keys).astype(np.uint32),
        collect.domains(keys).astype(np.uint8),
        classes.astype(np.uint16),
        live.astype(np.int64),
        size.astype(np.int64),
        exact=False,
    )
