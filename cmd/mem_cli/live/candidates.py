"""Processes that may be watched: those with a sampler first, then those that may be attached to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mem_cli.profiler.target import capturable
from mem_parser.errors import MemError
from mem_parser.sizes import short_size
from mem_profiler.capture import listing
from mem_profiler.process import procfs
from mem_profiler.process.tracing import user_name

ATTACHABLE = "may be attached to"


@dataclass(frozen=True)
class Candidate:
    """One process. ``live``: the numbers of its capture; empty without one."""

    pid: int
    user: str
    state: str
    live: str
    rss: str
    command: str


def candidates(asked_to_end: Callable[[], bool] = lambda: False) -> Iterator[Candidate]:
    """Yield them. ViewModel at one that has no sampler takes a while: ``asked_to_end`` ends it."""
    own = os.getpid()
    seen = {own, os.getppid()}
    for row in listing.listing().rows:
        if row.has_sampler and row.pid not in seen:
            seen.add(row.pid)
            live = "" if row.live_bytes is None else short_size(row.live_bytes)
            yield Candidate(row.pid, row.user, row.state, live, _rss(row.pid), _command(row.pid))
    sizes = ((_rss_bytes(pid), pid) for pid in procfs.pids() if pid not in seen)
    for size, pid in sorted(sizes, reverse=True):
        if asked_to_end():
            return
        if not size or procfs.exe(pid) is None:
            continue  # a thread of the kernel, or a process of another user
        try:
            fits = capturable(pid)
        except MemError:
            continue
        facts = procfs.status(pid)
        if fits and facts is not None:
            user = user_name(facts.uids[0])
            yield Candidate(pid, user, ATTACHABLE, "", short_size(size), _command(pid))


def _command(pid: int) -> str:
    return procfs.command(pid) or procfs.comm(pid) or "?"


def _rss(pid: int) -> str:
    return short_size(_rss_bytes(pid))


def _rss_bytes(pid: int) -> int:
    found = procfs.resident(pid)
    return found.rss_bytes if found is not None else 0
