"""Several kinds of memory of one process, side by side in one profile.

A capture leaves a file for the host's memory and one for each domain of device memory. They share
threads, modules and clock, so `join` concatenates their columns; each site keeps its domain and its
own rate. Host and device bytes are different things: nothing here adds them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mem_parser.counts import PART_COLUMNS
from mem_parser.errors import UsageProblem
from mem_parser.model import (
    Profile,
    SiteTable,
    StackTable,
    Thread,
    ThreadBlocks,
)
from mem_parser.python.owners import MergedOwners, Owned

_REQUIRED = ("stack", "inuse_blocks", "inuse_bytes", "alloc_blocks", "alloc_bytes")


def join(profiles: Sequence[tuple[str, Profile]]) -> Profile:
    """Join profiles that are domains of one capture, each with its name for errors.

    Returns a single one unchanged. Raises `UsageProblem` for files of different captures, and for
    two of one domain.
    """
    if len(profiles) == 1:
        return profiles[0][1]
    _check(profiles)
    parts = {profile.domains[0]: profile for _, profile in profiles}
    every = list(parts.values())
    first = every[0]
    starts = np.cumsum([0, *(len(p.stacks) for p in every)])
    incomplete = next((p.incomplete for p in every if p.incomplete), None)
    owners = MergedOwners()
    owned = owners.split(np.concatenate([owners.intern(p) for p in every]))
    return Profile(
        format=first.format,
        rate_bytes=first.rate_bytes,
        stacks=_stacks(every, owned),
        sites=_sites(every, starts.tolist()),
        domains=list(parts),
        modules=first.modules,
        threads=_threads(every),
        thread_blocks=_thread_blocks(every),
        series=first.series,
        capture=first.capture,
        since_start=first.since_start,
        has_alloc=all(p.has_alloc for p in every),
        exact_samples=all(p.exact_samples for p in every),
        sampling=first.sampling,
        file_time_s=first.file_time_s,
        incomplete=incomplete,
        warnings=list(dict.fromkeys(text for p in every for text in p.warnings)),
        embedded=first.embedded,
        python=owned.python,
        labels=owned.labels,
        marks=first.marks,
        parts=parts,
    )


def as_part(joined: Profile, domain: str) -> Profile:
    """Return ``joined``, which has only one domain left, with the facts of that domain."""
    part = joined.parts[domain]
    absent: dict[str, Any] = {n: None for n in _ZERO_WHERE_ABSENT if getattr(part.sites, n) is None}
    return dataclasses.replace(
        joined,
        rate_bytes=part.rate_bytes,
        series=part.series,
        capture=part.capture,
        domains=[domain],
        sites=dataclasses.replace(
            joined.sites,
            domain=np.zeros(len(joined.sites), np.int32),
            rate_bytes=None if part.sites.rate_bytes is None else joined.sites.rate_bytes,
            **absent,
        ),
        parts={},
    )


def _check(profiles: Sequence[tuple[str, Profile]]) -> None:
    name, first = profiles[0]
    seen: dict[str, str] = {}
    for other, profile in profiles:
        if len(profile.domains) != 1:
            raise UsageProblem(f"{other} already holds several domains")
        a, b = first.capture, profile.capture
        if (a.pid, a.capture, a.started) != (b.pid, b.capture, b.started) or a.pid is None:
            raise UsageProblem(
                f"{name} and {other} are not files of one capture",
                hint="mem_parser merge adds up files of many processes, diff compares two",
            )
        domain = profile.domains[0]
        if domain in seen:
            raise UsageProblem(f"{seen[domain]} and {other} both hold the domain {domain}")
        seen[domain] = other


def _stacks(every: Sequence[Profile], owned: Owned) -> StackTable:
    tables = [p.stacks for p in every]
    ends = np.cumsum([0, *(len(t.frames) for t in tables)])
    offsets = [t.offsets[:-1] + end for t, end in zip(tables, ends[:-1], strict=True)]
    return StackTable(
        np.concatenate([*offsets, ends[-1:]]).astype(np.int64),
        np.concatenate([t.frames for t in tables]),
        np.concatenate([t.flags for t in tables]),
        np.concatenate([t.generation for t in tables]),
        leaf_exact=all(t.leaf_exact for t in tables),
        interpreter=owned.interpreter,
        label=owned.label,
    )


def _sites(every: Sequence[Profile], starts: list[int]) -> SiteTable:
    tables = [p.sites for p in every]
    columns = {name: np.concatenate([getattr(t, name) for t in tables]) for name in _REQUIRED}
    columns["stack"] += np.repeat(starts[:-1], [len(t) for t in tables])
    domain = np.repeat(np.arange(len(tables)), [len(t) for t in tables]).astype(np.int32)
    rates = [np.broadcast_to(np.asarray(p.rates, np.float64), len(p.sites)) for p in every]
    optional = {}
    for field in dataclasses.fields(SiteTable):
        if field.name in columns or field.name in ("domain", "rate_bytes"):
            continue
        found = [getattr(t, field.name) for t in tables]
        known = [c for c in found if c is not None]
        if not known:
            continue
        if len(known) < len(found) and field.name not in _ZERO_WHERE_ABSENT:
            continue
        optional[field.name] = np.concatenate(
            [
                np.zeros((len(t), *known[0].shape[1:]), known[0].dtype) if c is None else c
                for t, c in zip(tables, found, strict=True)
            ]
        )
    return SiteTable(**columns, domain=domain, rate_bytes=np.concatenate(rates), **optional)


_ZERO_WHERE_ABSENT = (
    "inuse_taken_bytes", "alloc_taken_bytes", "failed_blocks", "failed_bytes",
    *PART_COLUMNS,
)  # fmt: skip


def _threads(every: Sequence[Profile]) -> list[Thread]:
    by_row = {thread.row: thread for p in every for thread in p.threads}
    return [by_row[row] for row in sorted(by_row)]


def _thread_blocks(every: Sequence[Profile]) -> ThreadBlocks | None:
    starts = np.cumsum([0, *(len(p.sites) for p in every)]).tolist()
    found = [(p.thread_blocks, start) for p, start in zip(every, starts[:-1], strict=True)]
    known = [(blocks, start) for blocks, start in found if blocks is not None]
    if len(known) < len(found):
        return None
    return ThreadBlocks(
        np.concatenate([blocks.site + start for blocks, start in known]),
        np.concatenate([blocks.row for blocks, _ in known]),
        np.concatenate([blocks.blocks for blocks, _ in known]),
        np.concatenate([blocks.bytes for blocks, _ in known]),
    )
