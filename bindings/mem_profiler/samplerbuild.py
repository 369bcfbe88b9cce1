"""The build of this installation's sampler, by which a process tells one from another."""

from __future__ import annotations

import mem_profiler
from mem_parser import elfrows

_HEAD_BYTES = 4096
"""Linkers put headers and notes there."""
_DIGITS = 8


def own_build_id() -> str:
    """The build-id of this installation's sampler; empty where it cannot be read."""
    try:
        with mem_profiler.library_path().open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return ""
    header = elfrows.header(head)
    if header is None:
        return ""
    rows = elfrows.segments(
        header.layout, head[header.segments_at :][: header.segment_bytes * header.segment_count]
    )
    notes = [head[one.offset :][: one.file_bytes] for one in rows if one.kind == elfrows.PT_NOTE]
    ids = (found for raw in notes for found in elfrows.build_ids(header.layout, raw))
    return next(ids, b"").hex()


def build_name(build_id: str) -> str:
    """What people call a build of the sampler: the begin of its build-id."""
    return build_id[:_DIGITS] or "unknown"
