"""A log as a trace, for `convert -o x.perfetto.json`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mem_cli.console import waiting
from mem_cli.logs import views_of
from mem_cli.options import Options

if TYPE_CHECKING:
    from mem_parser.memlog.part import Part
    from mem_parser.memlog.run import Run
    from mem_parser.memlog.series import Series
    from mem_parser.reports.peaks import PeakView

_INTERVALS = 5000
_LEAST_NS = 100_000
_PEAKS = 5
_USUAL: Options = {"library": (), "all_frames": False, "templates": False, "labels": False}


def trace_parts(run: Run, part: Part, file: str, options: Options) -> Iterable[bytes]:
    """Return the trace of a part of a run in parts. Raises `MemError`."""
    from mem_parser.memlog.profiles import bare_profile, domains_of, jobs_of
    from mem_parser.memlog.series import series
    from mem_parser.reports.timeline import timeline
    from mem_parser.writers.traceevents import write_trace

    first, last = part.times_ns(run)
    chosen = domains_of(run, part._replace(every_domain=True))
    step = max(math.ceil((last - first + 1) / _INTERVALS), _LEAST_NS)
    with waiting("following what was in use"):
        every = series(run, step, jobs=jobs_of(run))
        found = timeline(run, [every[k] for k in chosen], first, last)
        names = run.file_facts.domains
        peaks = [
            (names[k], _peaks(run, file, k, shown, options))
            for k, shown in zip(chosen, found.every, strict=True)
        ]
    return write_trace(found, peaks, bare_profile(run, chosen[0]))


def _peaks(run: Run, file: str, domain: int, shown: Series, options: Options) -> list[PeakView]:
    """Return the peaks of one memory, with the functions that held it."""
    from mem_parser.memlog.moments import live_at, peaks
    from mem_parser.reports.peaks import peak_view

    found = peaks(shown, _PEAKS)
    if not found:
        return []
    groups = [m.sites.of_domain(domain) for m in live_at(run, [p.time_ns for p in found])]
    _, views = views_of(run, file, domain, groups, _USUAL | options)
    return [peak_view(peak, view) for peak, view in zip(found, views, strict=True)]
