"""Memory that may be over a limit and is in no count of the file: what the sampler did not see, a
child process that is in no file, and the program's own mappings, which have files of their own.

Pages of private mappings are anonymous memory, so that bounds them: a program touches a part of
what it maps, and what an allocator maps is counted as its blocks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from mem_parser import unseen
from mem_parser.budget.measure import measure
from mem_parser.budget.rules import Budget, Kind, Limit, Measure, Site
from mem_parser.budget.subject import Subject
from mem_parser.model import Count, Profile, Unit
from mem_parser.units import format_bytes

Asked = tuple[Subject, Budget]
_HELD = (Measure.PEAK, Measure.INUSE, Measure.RSS)
_KINDS = ("mapped", "mapped-shared")
"""Those that are memory of the program: no reserved addresses, and no pages of files."""
_DOMAINS = ("mmap", "mmap-shared")
_LEFT_OUT = "limits in [target.NAME] alone, none in [budget], leave it out"
_CURE = 'limit them by a site with match = "domain:mmap"'


@dataclass(frozen=True, slots=True)
class Pass:
    """A limit that the counts of ``subject`` pass: ``upper`` is at most ``amount``. ``beside`` are
    the captures of the same process's mappings, with their budgets.
    """

    subject: Subject
    budget: Budget
    site: Site | None
    limit: Limit
    amount: float
    upper: float
    count: Count
    alpha: float
    beside: Sequence[Asked] = ()

    def doubt(self) -> str:
        """Why it is none; empty: it is one."""
        seen = "" if self.limit.measure is Measure.RSS else self._unseen() or self._mapped()
        return seen or self._in_child()

    def _unseen(self) -> str:
        profile, room_bytes = self.subject.profile, self.amount - self.upper
        notes = [
            note for note in unseen.missing(profile.capture) if not unseen.is_of_children(note)
        ]
        if not notes or unseen.unseen_bytes(profile, self.count) <= room_bytes:
            return ""
        return notes[0] if self.limit.where else notes[0].removesuffix(f"; {unseen.MMAP_CURE}")

    def _mapped(self) -> str:
        profile = self.subject.profile
        if self.site is not None or self.limit.measure not in (Measure.PEAK, Measure.INUSE):
            return ""
        if not self.subject.is_of_host:
            return ""
        free = [one for one, budget in self.beside if not self._limits(budget)]
        mapped, shared = ([one for one in free if _is_of(one, kind)] for kind in _KINDS)
        size, files = sum(map(self._most, mapped)), [one.path for one in mapped]
        if not self.beside and (sizes := _sizes(profile)):
            size = max(sizes) if self.count is Count.PEAK else sizes[-1]
        touched = min(size, _most_private(profile, self.count))
        more = touched + sum(map(self._most, shared))
        files += [one.path for one in shared]
        known = [one for one, _ in self.beside if not _is_of(one, _KINDS[1])]
        every = max(size, sum(map(self._most, known)))
        private, of_shared = unseen.beside_heap(profile, self.count, every)
        if profile.capture.memory.mapped_shared_bytes is not None:
            of_shared = profile.capture.memory.mapped_shared_bytes
        of_shared = 0 if self.beside else of_shared
        if more + private + of_shared <= self.amount - self.upper:
            return ""
        if more <= self.amount - self.upper:
            what = f"{format_bytes(of_shared)} of shared"
            if private:  # between two readings nobody knows of which kind
                what = f"up to {format_bytes(private + of_shared)} of anonymous or shared"
            beside = f"{what} memory beside it, which is in no file"
            return self._with_cure(beside, "mem_profiler run --device mmap captures it")
        where = ", ".join(map(os.path.basename, files)) or "their file is not among these"
        most = format_bytes(more) if touched == size else f"up to {format_bytes(more)}"
        return f"{most} more in mappings ({where}): {_CURE}"

    def _limits(self, budget: Budget) -> bool:
        """Whether a budget of mappings bounds all of them as this limit bounds the heap."""
        enough = (Measure.PEAK, self.limit.measure)
        return any(
            limit.measure in enough and all(m.kind is Kind.DOMAIN for m in site.matches)
            for site in budget.sites
            for limit in site.limits
        )

    def _most(self, mapped: Subject) -> float:
        what = measure(mapped.profile, mapped.profile, self.limit.measure).what
        return 0.0 if what is None else what.upper(self.alpha)

    def _in_child(self) -> str:
        if not bounds_children(self.site, self.limit) or not self.budget.is_for_all:
            return ""
        profile = self.subject.profile
        if self.limit.measure is Measure.INUSE and unseen.strays_ended(profile.capture):
            return ""
        who, held = "a child process, in no file, may have had", unseen.held_by_child(profile)
        if self.limit.measure is Measure.RSS and held <= self.amount:
            held = profile.capture.memory.tree_peak_rss_bytes or 0
            who = "it, or a child process in no file, had"
        if held <= self.amount:
            return ""
        size = format_bytes(held)
        if unseen.has_strays(profile.capture):
            stray = f"a child process without the sampler may have had {size} resident"
            return self._with_cure(stray, _LEFT_OUT)
        if alone := unseen.without_file(profile.capture):
            return self._with_cure(alone, _LEFT_OUT)
        return f"{who} {size} resident; mem_profiler run --children captures it too"

    def _with_cure(self, reason: str, cure: str) -> str:
        """Add what a file of a budget can do about it, and no mark on a test."""
        return f"{reason}; {cure}" if self.limit.where else reason


def bounds_children(site: Site | None, limit: Limit) -> bool:
    """Whether what a child process had resident is an answer for a limit."""
    return site is None and limit.measure in _HELD


def mappings_of(subject: Subject, asked: Sequence[Asked]) -> list[Asked]:
    """Those captures that are of mappings of the same process."""
    if not subject.is_of_host:
        return []
    mine = subject.profile.capture
    return [
        (one, budget)
        for one, budget in asked
        if one.profile.capture.device is not None
        and one.profile.capture.device.is_mapped
        and (one.profile.capture.pid, one.profile.capture.started) == (mine.pid, mine.started)
    ]


def without_mappings(
    asked: Sequence[Asked], given: Sequence[Budget]
) -> dict[str, tuple[Site, str]]:
    """The sites of mappings that are in no capture, by their keys, and why that tells nothing."""
    if any(mappings_of(subject, asked) for subject, _ in asked):
        return {}
    every = [_sizes(subject.profile) for subject, _ in asked if subject.is_of_host]
    if every and all(sizes and not any(sizes) for sizes in every):
        return {}  # they made none
    why = "no capture of mappings: mem_profiler run --device mmap makes one"
    if any(map(any, every)):
        why = "the file of the program's mappings is not among these"
    known = {site.key for _, budget in asked for site in budget.sites}
    sites = [site for budget in given for site in budget.sites if site.is_about(_DOMAINS)]
    return {one.key: (one, why) for one in sites if one.key not in known}


def _is_of(subject: Subject, kind: str) -> bool:
    device = subject.profile.capture.device
    return device is not None and device.kind == kind


def _sizes(profile: Profile) -> list[int]:
    """The sizes of private mappings; empty: nobody looked for those."""
    return [one.mapped_bytes for one in profile.series if one.mapped_bytes is not None]


def _most_private(profile: Profile, count: Count) -> float:
    """The most anonymous memory beside what was counted, between readings too."""
    most = unseen.unseen_bytes(profile, count)
    memory = profile.capture.memory
    # A program that ends without its destructors may have had more after the last reading.
    highest = memory.rss_bound_bytes or memory.peak_rss_bytes
    if count is not Count.PEAK or highest is None:
        return most
    of_files = (memory.file_bytes or 0) + (memory.shmem_bytes or 0)
    known = count if profile.has(count) else Count.INUSE
    held = profile.total(known, Unit.SPACE).value
    return max(most, highest - of_files - held)
