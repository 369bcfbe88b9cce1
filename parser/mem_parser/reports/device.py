"""Additions to reports of device memory: bytes taken, untracked remainder, refusals.

untracked   memory in use on the whole device, or reserved by a pool, minus tracked memory
refused     requests that the driver refused: each is counted, by size and stack
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import without_allocators
from mem_parser.reports.grid import Record
from mem_parser.symbols.table import Symbols
from mem_parser.units import format_bytes

MOST_REFUSALS = 10
FRAMES_SHOWN = 4
STALE_S = 1.0
"""A reading of the device's use that is older than this says so."""


@dataclass(frozen=True, slots=True)
class Remainder:
    """Bytes in use that are not tracked."""

    bytes: float
    name: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Refused blocks of one stack and size; ``bytes`` is their sum, ``frames`` innermost first."""

    blocks: int
    bytes: int
    frames: tuple[str, ...]


def tracked_bytes(profile: Profile) -> float:
    """Return the estimate of the device memory of the blocks in use: taken bytes, or asked ones if
    those are unknown.
    """
    value, _, _ = profile.weigh(Count.INUSE, Unit.SPACE)
    taken = profile.weigh_taken(Count.INUSE)
    return float((value if taken is None else np.where(taken > 0, taken, value)).sum())


def remainder(profile: Profile) -> Remainder | None:
    """Return the memory of the device or pool beyond the blocks in use; None if unknown.

    A driver's answer is older than the file, which also holds the tracked bytes at that time.
    Without these (other writers' files), an answer below the tracked bytes is ignored.
    """
    device = profile.capture.device
    if device is None:
        return None
    if device.reserved_bytes is not None:
        rest = device.reserved_bytes - tracked_bytes(profile)
    elif device.actual_used_bytes is not None:
        tracked = device.actual_tracked_bytes
        rest = device.actual_used_bytes - (tracked_bytes(profile) if tracked is None else tracked)
    else:
        return None
    return Remainder(rest, device.remainder_name) if rest >= 0 else None


def refusals(profile: Profile, symbols: Symbols, rule: FrameRule) -> list[Refusal]:
    """Return the refused blocks by site, the most bytes first. ``symbols`` still has allocators."""
    s = profile.sites
    if s.failed_blocks is None or s.failed_bytes is None:
        return []
    offsets, locations = without_allocators(symbols, rule)
    found = []
    for k in np.flatnonzero(s.failed_blocks > 0).tolist():
        stack = int(s.stack[k])
        on_stack = locations[offsets[stack] : offsets[stack + 1]]
        names = [symbols.functions[symbols.locations[at].function].name for at in on_stack]
        found.append(Refusal(int(s.failed_blocks[k]), int(s.failed_bytes[k]), tuple(names)))
    return sorted(found, key=lambda r: (-r.bytes, r.frames))


def header_line(profile: Profile, count: Count) -> str:
    """Return the line below the total: kind and device of the memory, and the bytes taken."""
    device = profile.capture.device
    if device is None:
        return ""
    parts = [f"memory of {profile.domains[0]}"]
    taken = profile.weigh_taken(count)
    if taken is not None:
        parts.append(f"{format_bytes(float(taken.sum()))} taken by the device for it")
    if device.reserved_bytes is not None:
        parts.append(f"{format_bytes(device.reserved_bytes)} reserved by the pool")
    elif device.actual_used_bytes is not None and device.actual_total_bytes is not None:
        used, total = device.actual_used_bytes, device.actual_total_bytes
        whole = f"{format_bytes(used)} of {format_bytes(total)} in use on the whole device"
        parts.append(whole + _when(profile))
    return "; ".join(parts)


def _when(profile: Profile) -> str:
    """Return the time at which the device's use was read, if that was not the end."""
    device, duration = profile.capture.device, profile.capture.duration_s
    if device is None or device.actual_at_s is None or duration is None:
        return ""
    late = duration - device.actual_at_s
    return f" {late:.1f} s before the end" if late >= STALE_S else ""


def remainder_line(profile: Profile, count: Count, unit: Unit) -> str:
    """Return the untracked remainder as a line for reports without a row for it, or ""."""
    rest = remainder(profile) if count is Count.INUSE and unit is Unit.SPACE else None
    return f"{format_bytes(rest.bytes)}  {rest.name}" if rest is not None else ""


def refusal_lines(profile: Profile, symbols: Symbols, rule: FrameRule) -> Iterator[str]:
    """Yield the refused blocks; nothing where there are none."""
    found = refusals(profile, symbols, rule)
    if not found:
        return
    blocks, size = sum(r.blocks for r in found), sum(r.bytes for r in found)
    noun = "allocation" if blocks == 1 else "allocations"
    yield f"refused by the device: {blocks:,} {noun}, {format_bytes(size)}"
    for refusal in found[:MOST_REFUSALS]:
        each = format_bytes(refusal.bytes / refusal.blocks)
        where = " < ".join(refusal.frames[:FRAMES_SHOWN]) or "?"
        yield f"{refusal.blocks:>6} x {each:>10}  {where}"
    if len(found) > MOST_REFUSALS:
        yield f"{len(found) - MOST_REFUSALS} more stacks not shown"


def record(profile: Profile, symbols: Symbols, count: Count) -> Record:
    """Return the same for programs; empty for ordinary memory."""
    device = profile.capture.device
    if device is None:
        return {}
    taken, rest = profile.weigh_taken(count), remainder(profile)
    return {
        "domain": profile.domains[0],
        "device": {
            "family": device.family,
            "index": device.index,
            "kind": device.kind,
            "actual_used_bytes": device.actual_used_bytes,
            "actual_total_bytes": device.actual_total_bytes,
            "reserved_bytes": device.reserved_bytes,
        },
        "total_taken": round(float(taken.sum()), 3) if taken is not None else None,
        "untracked_bytes": round(rest.bytes, 3) if rest is not None else None,
        "refused": [
            {"blocks": r.blocks, "bytes": r.bytes, "stack": list(r.frames)}
            for r in refusals(profile, symbols, FrameRule.PROGRAM)
        ],
    }
