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
from mem_parser.units import counted, format_bytes
from mem_parser.words import joined, phrase

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
    parts = [phrase("memory of {domain}", domain=profile.domains[0])]
    if device.kind == "heap":
        parts.append(phrase("inside blocks of malloc, so do not add it to theirs"))
    taken = profile.weigh_taken(count)
    if taken is not None:
        size = format_bytes(float(taken.sum()))
        parts.append(phrase("{size} taken by the device for it", size=size))
    if device.reserved_bytes is not None:
        size = format_bytes(device.reserved_bytes)
        parts.append(phrase("{size} reserved by the pool", size=size))
    elif device.actual_used_bytes is not None and device.actual_total_bytes is not None:
        whole = phrase(
            "{used} of {total} in use on the whole device{when}",
            used=format_bytes(device.actual_used_bytes),
            total=format_bytes(device.actual_total_bytes),
            when=_when(profile),
        )
        parts.append(whole)
    return joined(phrase("; "), parts)


def _when(profile: Profile) -> str:
    """Return the time at which the device's use was read, if that was not the end."""
    device, duration = profile.capture.device, profile.capture.duration_s
    if device is None or device.actual_at_s is None or duration is None:
        return ""
    late = duration - device.actual_at_s
    if late < STALE_S:
        return ""
    return phrase(" {seconds} s before the end", seconds=f"{late:.1f}")


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
    told = {"blocks": counted(blocks, "allocation"), "size": format_bytes(size)}
    yield phrase("refused by the device: {blocks}, {size}", **told)
    for refusal in found[:MOST_REFUSALS]:
        each = format_bytes(refusal.bytes / refusal.blocks)
        where = " < ".join(refusal.frames[:FRAMES_SHOWN]) or "?"
        yield f"{refusal.blocks:>6} x {each:>10}  {where}"
    if len(found) > MOST_REFUSALS:
        yield phrase("{number} more stacks not shown", number=len(found) - MOST_REFUSALS)


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
