"""Add up profiles of many processes and hosts, one file at a time.

The identity of a frame is its module's build-id (or its path) and its offset in
that file, so equal stacks of different hosts or load addresses merge. Every module gets its own
range in a new address space of the result; programs linked to fixed addresses keep theirs. Frames
outside modules keep their address, or the names that the file gives them.

Python's frames are the same by function, line and callers, labels by their names.

Sampled counts add up per (stack, size class, rate): each record later gets the weight of its own
rate, so estimates and variances of the result are the sums of those of the files. The number of
distinct records bounds memory, not the number of files; they are columns
(`mem_parser.mergedframes`, `mem_parser.mergedsites`). Ages and readings add up where the captures
are of one time (`mem_parser.mergedtimes`). Peaks by site do not: each was at its own time. So the
result has the highest of its readings, and a note of what the peaks are at most together. Threads
belong to one process: the result has them only if there is only one file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mem_parser.errors import UsageProblem
from mem_parser.leaks.watch import went_on
from mem_parser.mergedframes import MergedFrames
from mem_parser.mergedsites import MergedSites
from mem_parser.mergedtimes import MergedTimes
from mem_parser.model import MERGED, Capture, Profile
from mem_parser.units import format_rate

_ENDED = "target ended"  # `Capture.end` of processes that ended in several ways
_NOTED_HOSTS = 20
_NOTED_SAMPLINGS = 3


@dataclass(slots=True)
class _Known:
    """Facts shared by the files so far."""

    files: int = 0
    exact_samples: bool = True
    samplings: dict[str, None] = field(default_factory=dict)
    leaf_exact: bool = True
    has_alloc: bool = True
    since_start: bool = True
    domain: str | None = None
    device: bool = False
    incomplete: str | None = None
    hosts: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    capture: Capture = field(default_factory=Capture)


class Merger:
    """`add` every profile, then take the `result`."""

    def __init__(self) -> None:
        self._known = _Known()
        self._first: tuple[Profile, str] | None = None
        self._frames = MergedFrames()
        self._sites = MergedSites()
        self._times = MergedTimes()

    def add(self, profile: Profile, name: str) -> None:
        """Add one profile; ``name`` is its name in the result's notes. Raises `UsageProblem`."""
        if self._known.files == 0 and self._first is None:
            self._first = profile, name
            return
        self._fold_first()
        self._fold(profile, name)

    def _fold_first(self) -> None:
        """Fold in the first profile, which was the result while it was the only one, and release
        it.
        """
        if self._first is not None:
            first, self._first = self._first, None
            self._fold(*first)

    def _fold(self, profile: Profile, name: str) -> None:
        self._join_facts(profile, name)
        rows = self._sites.add(profile, self._frames.intern(profile))
        self._times.add(profile, rows, len(self._sites))

    def _join_facts(self, profile: Profile, name: str) -> None:
        known, new = self._known, profile.capture
        domain = profile.domains[0] if profile.domains else "host"
        if known.domain not in (None, domain) or len(profile.domains) > 1:
            raise UsageProblem(f"{name}: blocks of another kind ({domain}) than in the first file")
        known.domain = domain
        known.device |= profile.sites.failed_blocks is not None
        known.exact_samples &= profile.errors_known
        known.samplings[profile.sampling] = None
        known.leaf_exact &= profile.stacks.leaf_exact
        known.has_alloc &= profile.has_alloc
        known.since_start &= profile.since_start
        if profile.incomplete is not None and known.incomplete is None:
            known.incomplete = f"{name}: {profile.incomplete}"
        known.warnings |= dict.fromkeys(profile.warnings[:10])
        if new.host and len(known.hosts) < _NOTED_HOSTS:
            known.hosts[new.host] = None
        if known.files == 0:
            known.capture = _shared_facts(new)
        else:
            _add_facts(known.capture, new)
        known.files += 1

    @property
    def left_out(self) -> list[str]:
        """What the files had and the result lacks."""
        return self._times.left_out

    def result(self) -> Profile:
        """Return the sum of all added profiles; a single one unchanged."""
        if self._first is not None:
            return self._first[0]
        known = self._known
        rates = self._sites.rates
        mixed = len(rates) > 0 and bool((rates != rates[0]).any())
        modules = self._frames.modules.finish()
        hosts = ", ".join(known.hosts)
        known.capture.notes = [
            f"merged from {known.files} files" + (f" of {hosts}" if hosts else "")
        ]
        if mixed:
            span = f"{format_rate(rates.min())} to {format_rate(rates.max())}"
            known.capture.notes.append(f"sampled at {span}; each record weighs by its own rate")
        known.capture.notes += self.left_out
        sites = self._sites.table(mixed=mixed, device=known.device)
        series = self._times.fill(sites, known.capture)
        stacks, owned, names = self._frames.stacks(leaf_exact=known.leaf_exact)
        return Profile(
            format="mem_profiler",
            rate_bytes=float(rates.max()) if len(rates) else 1.0,
            stacks=stacks,
            sites=sites,
            series=series,
            domains=[known.domain or "host"],
            modules=modules,
            capture=known.capture,
            since_start=known.since_start,
            has_alloc=known.has_alloc,
            exact_samples=known.exact_samples,
            sampling=_sampling(list(known.samplings)),
            incomplete=known.incomplete,
            warnings=list(known.warnings),
            embedded=names,
            python=owned.python,
            labels=owned.labels,
        )


def _sampling(found: list[str]) -> str:
    """Return the sampling of a sum of profiles that have these."""
    if len(found) == 1:
        return found[0]
    return "; ".join(text or "sampled" for text in found[:_NOTED_SAMPLINGS])


def _shared_facts(first: Capture) -> Capture:
    return Capture(
        host=first.host,
        arch=first.arch,
        comm=first.comm,
        exe=first.exe,
        command=first.command,
        started=first.started,
        duration_s=first.duration_s,
        kind=MERGED,
        end=first.end,
        depth_limit=first.depth_limit,
        samples=first.samples,
        lost=dict(first.lost),
    )


def _add_facts(known: Capture, new: Capture) -> None:
    """Keep facts that are the same in all files; add, widen or drop the others. Where one of the
    programs went on, all did.
    """
    for name in ("host", "arch", "comm", "exe", "command"):
        if getattr(known, name) != getattr(new, name):
            setattr(known, name, "")
    if known.end != new.end and not went_on(known):
        ended = _ENDED if known.end and new.end else ""
        known.end = new.end if went_on(new) else ended
    times = (known.started, new.started)
    known.started = min((t for t in times if t is not None), default=None)
    spans = (known.duration_s, new.duration_s)
    known.duration_s = max((t for t in spans if t is not None), default=None)
    if known.samples is not None and new.samples is not None:
        known.samples += new.samples
    else:
        known.samples = None
    for cause, count in new.lost.items():
        known.lost[cause] = known.lost.get(cause, 0) + count
