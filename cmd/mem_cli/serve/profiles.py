"""Profiles for other tools: pprof's message, symbolized, and our own format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from mem_cli.serve.past import Had, Snapshot
from mem_parser.errors import TargetError
from mem_parser.frames import same_capture
from mem_parser.growth import StackIndex
from mem_parser.heapfile.form import Form
from mem_parser.heapfile.writer import heap_parts
from mem_parser.model import Count, Profile
from mem_parser.python.splice import spliced
from mem_parser.symbols.symbolizer import AddressNames
from mem_parser.writers.pprof import Earlier, write_pprof


def whole(snapshot: Snapshot) -> Profile:
    """Return the profile with all memories. Raises TargetError where there is none."""
    if snapshot.had is None:
        raise TargetError(
            f"pid {snapshot.pid} has had no capture", hint=f"mem_profiler start {snapshot.pid}"
        )
    return _whole(snapshot.had)


def _whole(had: Had) -> Profile:
    return had.domains or had.profile


def pprof(
    snapshot: Snapshot,
    name_addresses: Callable[[Profile], AddressNames],
    default: Count,
    before: Snapshot | None = None,
) -> bytes:
    """Return `profile.proto`, gzipped; ``default`` is what viewers show first, with ``before`` it
    is the difference. ``name_addresses`` names a profile. Raises TargetError.
    """
    profile = whole(snapshot)
    since = None if before is None else whole(before)
    if since is not None and not same_capture([since, profile]):
        raise TargetError(f"another capture of pid {snapshot.pid} began meanwhile")
    names = spliced(profile, name_addresses(profile)).names
    named = dataclasses.replace(profile, stacks=names.stacks)
    earlier = None if since is None else Earlier(since, StackIndex(profile).match(since))
    return write_pprof(named, names, default=default, earlier=earlier, scraped=True)


def heap_file(snapshot: Snapshot, domain: str | None = None) -> bytes:
    """Return a .heap file, gzipped, of the host's memory or another domain. Raises TargetError."""
    profile = whole(snapshot)
    parts = profile.parts or {profile.domains[0]: profile}
    if domain is not None and domain not in parts:
        raise TargetError(f"pid {snapshot.pid} has no domain {domain}: {', '.join(parts)}")
    chosen = parts[domain or next(iter(parts))]
    return b"".join(heap_parts(chosen, form=Form.GZIP))


def heap_text(snapshot: Snapshot) -> bytes:
    """Return the .heap file of the host's memory as text. Raises TargetError."""
    profile = whole(snapshot)
    return b"".join(heap_parts(next(iter(profile.parts.values()), profile), form=Form.PLAIN))
