"""The tables of profiles: sites, captures, marks and the readings of `.heap` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mem_parser.counts import PARTS
from mem_parser.model import Count, Profile, Reading
from mem_parser.tables.columns import (
    Column,
    Columns,
    Maybe,
    ThreadWords,
    maybe,
    same,
    words,
)

_COUNTS = (Count.INUSE, Count.ALLOC, Count.PEAK)
_NS = 1e9


def sites(profile: Profile, file: str) -> Columns:
    """Return the sites of a profile."""
    table = profile.sites
    rows = len(table)
    names = [profile.domains[k] for k in table.domain.tolist()]
    found: dict[str, Column] = {
        "file": same(file, rows),
        "domain": words(names),
        "stack": table.stack.astype(np.uint32),
    }
    for count in _COUNTS:
        found |= _counted(profile, count)
    for part in PARTS:
        known = np.full(rows, table.part_in_use(part) is not None)
        estimates = profile.unsampled(part)
        found[f"{part}_bytes"] = Maybe(estimates.bytes, known)
        error = known & profile.errors_known
        found[f"{part}_bytes_variance"] = Maybe(estimates.bytes_variance, error)
    for name, values in (
        ("refused_blocks", table.failed_blocks), ("refused_bytes", table.failed_bytes),
    ):  # fmt: skip
        found[name] = np.zeros(rows, dtype=np.int64) if values is None else values
    return found


def _counted(profile: Profile, count: Count) -> dict[str, Column]:
    blocks, size = profile.counts(count)
    known = np.full(len(blocks), profile.has(count))
    estimates = profile.unsampled(count)
    error = np.full(len(blocks), profile.errors_known) & known
    return {
        f"{count}_samples": Maybe(blocks.astype(np.int64), known),
        f"{count}_sampled_bytes": Maybe(size.astype(np.int64), known),
        f"{count}_objects": Maybe(estimates.objects, known),
        f"{count}_objects_variance": Maybe(estimates.objects_variance, error),
        f"{count}_bytes": Maybe(estimates.bytes, known),
        f"{count}_bytes_variance": Maybe(estimates.bytes_variance, error),
    }


def captures(profiles: Sequence[Profile], file: str, part_ns: tuple[int, int] | None) -> Columns:
    """Return a row for each memory of a file, of a log with the moments of its part."""
    rows = len(profiles)
    every = [p.capture for p in profiles]
    peaks = [c.peak_at_s for c in every]
    from_ns = 0 if part_ns is None else part_ns[0]
    times = [None, None] if part_ns is None else list(part_ns)
    return {
        "file": same(file, rows),
        "domain": words(p.domains[0] for p in profiles),
        "format": words(p.format for p in profiles),
        "pid": maybe((c.pid for c in every), np.int64),
        "host": words(c.host for c in every),
        "command": words(c.command for c in every),
        "started_s": maybe((c.started for c in every), np.float64),
        "duration_s": maybe((c.duration_s for c in every), np.float64),
        "from_ns": maybe(times[:1] * rows, np.int64),
        "to_ns": maybe(times[1:] * rows, np.int64),
        "rate_bytes": np.array([p.rate_bytes for p in profiles], dtype=np.float64),
        "errors_known": np.array([p.errors_known for p in profiles], dtype=np.bool_),
        "peak_at_ns": maybe(
            (None if s is None else from_ns + round(s * _NS) for s in peaks), np.int64
        ),
    }


def marks(profile: Profile, file: str, part_ns: tuple[int, int] | None) -> Columns:
    """Return the marks of a capture, of a log those from the first moment of its part to the last;
    their numbers are those that events have.
    """
    threads = ThreadWords((t.row, t.tid, t.name) for t in profile.threads)
    numbered = [
        (k, mark)
        for k, mark in enumerate(profile.marks)
        if part_ns is None or part_ns[0] <= round(mark.time_s * _NS) <= part_ns[1]
    ]
    found = [mark for _, mark in numbered]
    return {
        "file": same(file, len(found)),
        "mark": np.array([k for k, _ in numbered], dtype=np.uint32),
        "time_ns": np.array([round(m.time_s * _NS) for m in found], dtype=np.int64),
        "kind": words(m.kind for m in found),
        "id": np.array([m.id for m in found], dtype=np.int64),
        "library": words(m.domain for m in found),
        "text": words(m.text for m in found),
        **threads.columns(np.array([m.thread for m in found], dtype=np.int64)),
    }


def readings(profile: Profile, file: str) -> Iterator[Columns]:
    """Yield the readings of a `.heap` file."""
    yield _readings(profile.series, file, profile.domains[0])


def _readings(found: Sequence[Reading], file: str, domain: str) -> Columns:
    rows = len(found)
    error = maybe((r.std_error_bytes for r in found), np.float64)
    return {
        "file": same(file, rows),
        "domain": same(domain, rows),
        "time_ns": np.array([round(r.t_s * _NS) for r in found], dtype=np.int64),
        "rss_bytes": maybe((r.rss_bytes for r in found), np.int64),
        "live_bytes": np.array([r.estimate_bytes for r in found], dtype=np.float64),
        "live_bytes_variance": error._replace(values=error.values**2),
        "samples": np.array([r.samples for r in found], dtype=np.int64),
        "device_used_bytes": maybe((r.actual_used_bytes for r in found), np.int64),
        "device_total_bytes": maybe((r.actual_total_bytes for r in found), np.int64),
        "reserved_bytes": maybe((r.reserved_bytes for r in found), np.int64),
    }
