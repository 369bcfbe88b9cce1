"""Logs as the profiles that reports show.

`read_part` is a profile for each kind of memory: births in the part, live blocks at its end, and
live blocks at its peak.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Sequence

import numpy as np

from mem_parser.errors import UsageProblem
from mem_parser.memlog.gaps import unknown_lines
from mem_parser.memlog.lifetimes import lifetimes
from mem_parser.memlog.livesites import Sites
from mem_parser.memlog.moments import known_span, live_at
from mem_parser.memlog.part import WHOLE, Part
from mem_parser.memlog.run import Run, read_log
from mem_parser.memlog.window import window
from mem_parser.model import Profile, SiteTable

_MANY_EVENTS = 1 << 22
_NS = 1e9


def read_part(paths: Sequence[str | os.PathLike[str]], part: Part = WHOLE) -> list[Profile]:
    """Return the profiles of a part of a log, given by files of one run. Raises InputFileError, and
    UsageProblem for a part or a memory that it does not have.
    """
    with read_log(paths) as run:
        return profiles_of(run, part)


def profiles_of(run: Run, part: Part = WHOLE) -> list[Profile]:
    """Return the profiles of a part of a run, one for each memory. Raises as `read_part`."""
    first, last = part.times_ns(run)
    profiles = []
    for domain in domains_of(run, part):
        if part.temporary is None:
            profile = window(run, first, last, domain=domain, jobs=jobs_of(run))
        else:
            profile = _temporary(run, (first, last), domain, part.temporary)
        profiles.append(_settled(run, profile, part, (first, last), domain))
    return profiles


def domains_of(run: Run, part: Part = WHOLE) -> list[int]:
    """Return the memories that a part names. Raises UsageProblem for one that is not there."""
    names = run.file_facts.domains
    for name in part.domains:
        if name not in names:
            raise UsageProblem(f"the log has no domain {name}", hint=f"it has {', '.join(names)}")
    if part.domains:
        return [k for k, name in enumerate(names) if name in part.domains]
    return list(range(len(names))) if part.every_domain else [0]


def jobs_of(run: Run) -> int:
    """Return how many processes are worth their start: one for all but a long log."""
    events = sum(block.entry.head.rows for block in run.blocks)
    return len(os.sched_getaffinity(0)) if events > _MANY_EVENTS else 1


def bare_profile(run: Run, domain: int) -> Profile:
    """Return the profile of one memory with its facts and stacks, and nothing that counts."""
    last = known_span(run)[1]
    profile = window(run, last, last, domain=domain)
    profile.capture.notes[:] = [] if run.facts is None else run.facts.capture.notes
    profile.file_uid, profile.file_time_s = _owner(run)
    return profile


def as_live(run: Run, like: Profile, sites: Sites) -> Profile:
    """Return ``like`` with other sites of the same domain, which are all in use."""
    none = np.zeros(len(sites.keys), dtype=np.int64)
    return dataclasses.replace(
        like,
        stacks=run.stacks,
        sites=SiteTable(
            sites.stack, none.astype(np.int32), sites.blocks, sites.bytes, none, none.copy()
        ),
        has_alloc=False,
    )


def _temporary(run: Run, times: tuple[int, int], domain: int, most_between: int) -> Profile:
    first, last = times
    found = lifetimes(run, first, last, domain=domain)
    sites = found.temporary(most_between)
    profile = window(run, last, last, domain=domain)
    none = np.zeros(len(sites.keys), dtype=np.int64)
    capture = dataclasses.replace(
        profile.capture,
        duration_s=(last - first) / _NS,
        samples=int(sites.blocks.sum()),
        peak_bytes=None,
        peak_at_s=None,
        peak_source=None,
        bucket_end_s=[],
    )
    at_most = ", at most so many: only some blocks are sampled" if found.temporary_is_bound else ""
    others = "allocation" if most_between == 1 else "allocations"
    capture.notes.append(
        f"only temporary blocks, freed within {most_between} {others} of their thread{at_most}"
    )
    return dataclasses.replace(
        profile,
        sites=SiteTable(
            sites.stack, none.astype(np.int32), none, none.copy(), sites.blocks, sites.bytes
        ),
        capture=capture,
    )


def _settled(
    run: Run, profile: Profile, part: Part, times: tuple[int, int], domain: int
) -> Profile:
    """Complete what `window` says with what reports say above their numbers."""
    first, last = times
    whole = times == known_span(run)
    (before,) = live_at(run, [first])
    older = bool(len(before.sites.of_domain(domain).keys)) and part.temporary is None
    capture = profile.capture
    known = [] if run.facts is None else run.facts.capture.notes
    own = [] if part.temporary is None else capture.notes[-1:]
    rss = [r.rss_bytes for r in run.readings if r.t_s <= last / _NS and r.rss_bytes is not None]
    memory = capture.memory
    if rss and memory.rss_bytes is None and domain == 0:
        memory = dataclasses.replace(memory, rss_bytes=rss[-1], peak_rss_bytes=max(rss))
    other = [n for k, n in enumerate(run.file_facts.domains) if k != domain]
    if other and not part.domains and not part.every_domain:
        own.append(f"the log has other memory too: --domain {other[0]} shows it")
    profile.capture = dataclasses.replace(
        capture,
        memory=memory,
        part_s=None if whole and not older else (first / _NS, last / _NS),
        holds_older=older,
        notes=[*known, *own, *unknown_lines(run, first, last)],
    )
    profile.incomplete = next((f"{f.name} is cut" for f in run.files if f.is_cut), None)
    profile.file_uid, profile.file_time_s = _owner(run)
    return profile


def _owner(run: Run) -> tuple[int | None, float | None]:
    """Return the owner of all files, None if others can write one, and the latest file time."""
    found = [file.status for file in run.files]
    owners = {None if s.st_mode & stat.S_IWOTH else s.st_uid for s in found}
    return owners.pop() if len(owners) == 1 else None, max(s.st_mtime for s in found)
