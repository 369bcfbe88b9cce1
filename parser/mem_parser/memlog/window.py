"""A part of a run as a profile, which all reports show.

Allocated: the births after its first moment, up to its last. In use: what is live at its last
moment, whenever it was born. Peak: the live blocks at the highest total in the window.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from mem_parser.errors import UsageProblem
from mem_parser.estimate import unsample
from mem_parser.interning import distinct
from mem_parser.memlog.events import BIRTH_UNIT_BITS, Events, Kind
from mem_parser.memlog.livesites import Ints, Sites, SiteSums, counts
from mem_parser.memlog.moments import Moment, live_at
from mem_parser.memlog.run import Run
from mem_parser.memlog.running import EVENTS_OF_A_TASK, Task, scan_all
from mem_parser.memlog.segments import latest_base, segments_of
from mem_parser.memlog.series import estimate_of, total_of
from mem_parser.memlog.timeline import split, stretch_of
from mem_parser.model import Capture, PeakSource, Profile, Reading, SiteTable

BUCKETS = 8
"""Time buckets of births, as a capture has them."""
_BUCKET_BITS = 5
_IS_BIRTH = 1 << 4


def window(
    run: Run,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    domain: int = 0,
    jobs: int = 1,
) -> Profile:
    """Return the profile of one domain from one moment to another; None: of the whole run.

    Raises UsageProblem for moments of which the log does not know what was in use, InputFileError.
    """
    first = _first_known(run) if from_ns is None else from_ns
    last = run.end_ns if to_ns is None else to_ns
    if last < first:
        raise UsageProblem("the window ends before it begins")
    if domain >= len(run.file_facts.domains):
        raise UsageProblem(f"the log has no domain {domain}")
    (before,) = live_at(run, [first])
    peak_ns = _peak_time(run, before, last, domain, jobs)
    sums = _WindowSums(domain, first, last)
    for events in stretch_of(run, first, peak_ns).events():
        sums.add(events)
    at_peak = _live(run, before, peak_ns, sums, domain)
    for events in stretch_of(run, peak_ns, last).events():
        sums.add(events)
    at_last = _live(run, before, last, sums, domain)
    return _profile(run, domain, (before, at_peak, at_last), sums)


def _live(run: Run, before: Moment, time_ns: int, sums: _WindowSums, domain: int) -> Moment:
    """Return the live blocks at a moment of the window, up to which all events are in ``sums``."""
    base = latest_base(run, time_ns)
    if base > before.time_ns:
        return live_at(run, [time_ns])[0]
    live = SiteSums()
    live.add(*before.sites.of_domain(domain))
    live.add(*sums.change())
    return Moment(time_ns, live.sums().live(), before.sure)


def _first_known(run: Run) -> int:
    for segment in segments_of(run):
        if segment.base is not None:
            return segment.from_ns
    raise UsageProblem("the log has no keyframe, so nobody knows what was in use")


def _peak_time(run: Run, first: Moment, to_ns: int, domain: int, jobs: int) -> int:
    """Return the first moment, from that one on, at which most was live."""
    rates = run.file_facts.rates_bytes
    rate = rates[domain]
    best, at = -1.0, first.time_ns
    for segment in segments_of(run):
        low, high = max(segment.from_ns, first.time_ns), min(segment.to_ns - 1, to_ns)
        if segment.base is None or low > high:
            continue
        if low == first.time_ns:
            total = estimate_of(first.sites.of_domain(domain), rate)[0]
        else:
            base = run.keyframe(segment.base)
            total = 0.0 if base is None else total_of(base, domain, rate)[0]
        if total > best:
            best, at = total, low
        length = to_ns + 1  # one interval for all
        parts = split(stretch_of(run, low, high, stacks=False), EVENTS_OF_A_TASK)
        tasks = [Task(part, length, rates, length) for part in parts]
        for rows in (found[domain] for found in scan_all(tasks, jobs) if domain in found):
            if total + float(rows.top[0]) > best:
                best, at = total + float(rows.top[0]), int(rows.top_at_ns[0])
            total += float(rows.last[0])
    return at


class _WindowSums:
    """Sums over the events of a window in one pass: by site, and by the time bucket of the birth.

    A bit of the key tells births from what else comes and goes, so that one sum has both. The last
    bucket is of blocks that were born before.
    """

    def __init__(self, domain: int, from_ns: int, to_ns: int) -> None:
        low, high = from_ns >> BIRTH_UNIT_BITS, (to_ns >> BIRTH_UNIT_BITS) + 1
        # Edges at which also a death knows on which side its block was born.
        self._edges = distinct(np.linspace(low, high, BUCKETS + 1).astype(np.int64))
        self._domain, self._first = domain, from_ns
        self._sums, self._failed = SiteSums(), SiteSums()

    def add(self, events: Events) -> None:
        """Take in events of the window; those of other domains are left out."""
        mine = (events.domain == self._domain) & (events.kind != Kind.MARK)
        if not mine.all():
            events = events.take(mine)
        refused = events.kind == Kind.REFUSED
        if refused.any():
            failed = events.take(refused)
            self._failed.add(*counts(failed, np.ones(len(failed), dtype=np.int64)))
            events = events.take(~refused)
        unit = events.birth_ns >> BIRTH_UNIT_BITS
        bucket = np.searchsorted(self._edges, unit, side="right") - 1
        bucket[(bucket < 0) | (bucket >= BUCKETS)] = BUCKETS
        keys, blocks, size = counts(events, events.sign.astype(np.int64))
        keys = keys << _BUCKET_BITS | bucket
        keys[events.kind == Kind.BIRTH] |= _IS_BIRTH
        self._sums.add(keys, blocks, size)

    @property
    def alloc(self) -> Sites:
        """Births by site."""
        sums = self._sums.sums()
        return _by_site(sums.take(sums.keys & _IS_BIRTH > 0))

    @property
    def failed(self) -> Sites:
        """Refused blocks by site."""
        return self._failed.sums()

    def change(self) -> Sites:
        """Return how much more is live than before the window, by site."""
        return _by_site(self._sums.sums())

    @property
    def ends_s(self) -> list[float | None]:
        """The upper end of each bucket, in seconds since the window's begin; None: none."""
        ends = (self._edges[1:] << BIRTH_UNIT_BITS).tolist()
        found: list[float | None] = [max(end - self._first, 0) / 1e9 for end in ends]
        return found + [None] * (BUCKETS - len(found))

    def of_buckets(self, keys: Ints) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return births, and those of them still live: one row per site, one column per bucket."""
        every = (keys[:, None] << _BUCKET_BITS | np.arange(BUCKETS)).reshape(-1)
        sums, shape = self._sums.sums(), (len(keys), BUCKETS)
        born = sums.at(every | _IS_BIRTH)[0].reshape(shape)
        left = born + sums.at(every)[0].reshape(shape)
        return born.astype(np.uint32), np.clip(left, 0, born).astype(np.uint32)


def _by_site(sites: Sites) -> Sites:
    """Return sums by site and bucket as sums by site."""
    sums = SiteSums()
    sums.add(sites.keys >> _BUCKET_BITS, sites.blocks, sites.bytes)
    return sums.sums()


def _profile(
    run: Run, domain: int, moments: tuple[Moment, Moment, Moment], sums: _WindowSums
) -> Profile:
    facts = run.file_facts
    before, peak, last = moments
    at_peak, at_last = (m.sites.of_domain(domain) for m in (peak, last))
    alloc, failed = sums.alloc, sums.failed
    keys = _all_keys(alloc, failed, at_peak, at_last)
    blocks, size = alloc.at(keys)
    inuse_blocks, inuse_bytes = at_last.at(keys)
    peak_blocks, peak_bytes = at_peak.at(keys)
    failed_blocks, failed_bytes = failed.at(keys)
    births, live_births = sums.of_buckets(keys)
    sites = Sites(keys, blocks, size)
    rate = facts.rates_bytes[domain]
    capture = _capture(run, moments, sums)
    capture.peak_bytes = float(unsample(peak_blocks, peak_bytes, rate).bytes.sum())
    known = run.facts
    return Profile(
        format="mem_profiler",
        rate_bytes=rate,
        stacks=run.stacks,
        sites=SiteTable(
            stack=sites.stack,
            domain=np.zeros(len(keys), dtype=np.int32),
            inuse_blocks=inuse_blocks,
            inuse_bytes=inuse_bytes,
            alloc_blocks=blocks,
            alloc_bytes=size,
            peak_blocks=peak_blocks,
            peak_bytes=peak_bytes,
            births=births,
            live_births=live_births,
            failed_blocks=failed_blocks if failed_blocks.any() else None,
            failed_bytes=failed_bytes if failed_blocks.any() else None,
        ),
        domains=[facts.domains[domain]],
        modules=[] if known is None else known.modules,
        threads=[] if known is None else known.threads,
        series=_readings(run, before.time_ns, last.time_ns),
        capture=capture,
        python=run.python,
        labels=run.labels,
        marks=[] if known is None else known.marks,
        map_lines=[] if known is None else known.map_lines,
        warnings=list(run.warnings),
    )


def _all_keys(*sites: Sites) -> Ints:
    return distinct(np.concatenate([s.keys for s in sites]))


def _capture(run: Run, moments: tuple[Moment, Moment, Moment], sums: _WindowSums) -> Capture:
    before, peak, last = moments
    known = run.facts
    capture = Capture(pid=run.file_facts.pid) if known is None else known.capture
    start_s = run.file_facts.start_real_ns / 1e9
    holes = [h for h in run.holes if h.from_ns <= last.time_ns and h.to_ns >= before.time_ns]
    notes = list(capture.notes)
    if holes:
        lost = [h.lost for h in holes]
        count = "an unknown number of" if None in lost else f"{sum(n or 0 for n in lost):,}"
        notes.append(
            f"{count} events are missing ({holes[0].why}), so numbers may be wrong from"
            f" {holes[0].from_ns / 1e9:.3f} s of the capture on"
        )
    return dataclasses.replace(
        capture,
        started=start_s + before.time_ns / 1e9,
        duration_s=(last.time_ns - before.time_ns) / 1e9,
        peak_at_s=(peak.time_ns - before.time_ns) / 1e9,
        peak_source=PeakSource.SAMPLER,
        peak_of_estimates=max(run.file_facts.rates_bytes) > 1,
        before_end_at_s=None,
        from_start=capture.from_start and before.time_ns <= run.begin_ns,
        bucket_end_s=sums.ends_s,
        samples=int(sums.alloc.blocks.sum()),
        complete=capture.complete and not holes,
        notes=notes,
        end=run.how_ended if last.time_ns >= run.end_ns else capture.end,
    )


def _readings(run: Run, from_ns: int, to_ns: int) -> list[Reading]:
    """Return the readings within, their times from the window's begin on."""
    shift = from_ns / 1e9
    return [
        dataclasses.replace(r, t_s=r.t_s - shift)
        for r in run.readings
        if from_ns <= r.t_s * 1e9 <= to_ns
    ]
