"""What a page says about the capture above its pictures: title, headline, warnings, and facts by
name.

In confidential mode nothing here holds a path, a host, a user or a command line: free text loses
its folders, and what names a machine or a person is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mem_parser.escape import one_line
from mem_parser.model import Capture, Count, Profile, Unit
from mem_parser.programname import captured_name, file_name
from mem_parser.reports.device import header_line, remainder_line
from mem_parser.reports.header import counted_lines, other_lines
from mem_parser.reports.rss import at_highest, growth_lines
from mem_parser.rss import Part, account
from mem_parser.units import format_bytes, format_rate, local_time
from mem_parser.version import __version__
from mem_parser.web.measures import measures
from mem_parser.words import phrase, shown

_PATH = re.compile(
    r"(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:;,'\"()<>\[\]]+)+[/\\]([^\s/\\:;,'\"()<>\[\]]*)"
)
_TOP_PATH = re.compile(r"(?<![\w/])[/\\]([^\s/\\:;,'\"()<>\[\]]+)")


_GROWTH_FROM_S = 60.0
"""Of shorter captures growth by the hour says nothing."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Initial settings of the flame graph; the reader may change all but the last of them."""

    count: Count = Count.INUSE
    unit: Unit = Unit.SPACE
    hide_allocators: bool = True
    apart: bool = False
    """Domains are looked at one by one, beginning with the first: their bytes do not add up."""
    templates: bool = False
    """Names have their template arguments."""
    inverted: bool = False
    """Callers are below callees."""
    labels: bool = False
    """Stacks begin with their thread and task."""
    start_frames: bool = False
    """Frames are kept that `mem_parser.folds` would fold; the reader cannot change it."""

    def as_json(self) -> dict[str, Any]:
        """Return the settings under the names that the page has for them."""
        return {
            "count": str(self.count),
            "unit": str(self.unit),
            "hideAllocators": self.hide_allocators,
            "apart": self.apart,
            "templates": self.templates,
            "invert": self.inverted,
            "labels": self.labels,
        }


def without_paths(text: str) -> str:
    """Return ``text`` with every absolute path in it cut to its last part."""
    return _TOP_PATH.sub(r"\1", _PATH.sub(r"\1", text))


def page_facts(
    profile: Profile,
    name: str,
    notes: Sequence[str] = (),
    *,
    base: Profile | None = None,
    start: Opening | None = None,
    confidential: bool = False,
    running: bool = False,
) -> dict[str, Any]:
    """Return the block `facts` of a page, ``running``: of a program that runs while it is shown.

    ``name`` is what to call the profile (a file name); ``notes`` are sentences of the report's
    own, such as what was pruned. `unseen` is `Profile.unseen` by unit, of the coarser of profile
    and ``base``: the page makes the intervals of what the reader selects itself. `headlines` are
    the first lines of the page by what is counted (see `measures`).
    """
    capture = profile.capture
    program = captured_name(capture) or file_name(name)
    start = start or Opening()
    warnings = shown([*other_lines(profile), *(n for n in notes if n)])
    title = f"{program} (pid {capture.pid})" if capture.pid is not None else program
    if confidential:
        warnings = [without_paths(w) for w in warnings]
        title = without_paths(program)
    return {
        "title": one_line(title),
        "headlines": {
            name: _headline(profile, count, unit, running=running)
            for name, count, unit in measures(profile)
        },
        "origin": "" if confidential else _origin(capture),
        "warnings": [one_line(w) for w in warnings],
        "facts": _facts(profile, name, confidential=confidential),
        "exact": profile.errors_known,
        "unseen": {
            str(unit): max(p.unseen(unit) for p in (profile, base or profile))._asdict()
            for unit in Unit
        },
        "start": start.as_json(),
        "confidential": confidential,
    }


def _headline(profile: Profile, count: Count, unit: Unit, *, running: bool) -> str:
    total = profile.total(count, unit)
    first, *more = shown(counted_lines(profile, total, count, unit, running=running))
    return " \N{EM DASH} ".join([re.sub(" {2,}", " · ", first), *more])


def _origin(capture: Capture) -> str:
    """Return command, host, start and duration in one line."""
    parts = [
        capture.command or capture.exe,
        phrase("on {host}", host=capture.host) if capture.host else "",
        local_time(capture.started),
        ""
        if capture.duration_s is None
        else phrase("for {seconds} s", seconds=f"{capture.duration_s:.1f}"),
    ]
    return one_line(" · ".join(part for part in shown(parts) if part))


def _facts(profile: Profile, name: str, *, confidential: bool) -> list[list[str]]:
    capture = profile.capture
    private = [] if confidential else _private(capture, name)
    every = phrase("every block")
    if profile.rate_bytes > 1:
        every = phrase("1 sample per {size}", size=format_rate(profile.rate_bytes))
    rate = profile.sampling or every
    facts = [
        *private,
        [
            phrase("Duration"),
            f"{capture.duration_s:.1f} s" if capture.duration_s is not None else "",
        ],
        [phrase("Rate"), rate],
        [phrase("Samples"), f"{capture.samples:,}" if capture.samples is not None else ""],
        [phrase("Samples lost"), f"{profile.samples_missing:,}" if capture.lost else ""],
        [phrase("Ended by"), capture.end],
        [phrase("Attached"), capture.attach.text() if capture.attach is not None else ""],
        [phrase("Allocator"), without_paths(capture.allocator)],
        [phrase("Unwinder"), capture.unwinder],
        [phrase("Depth limit"), str(capture.depth_limit or "")],
        [phrase("Python"), capture.python or ""],
        [phrase("Architecture"), capture.arch],
        [phrase("Written by"), capture.writer],
        [phrase("Format"), profile.format],
        [phrase("Page by"), f"mem_parser {__version__}"],
    ]
    if confidential:
        text = phrase("no paths, source files, host or command line in this page")
        facts.append([phrase("Confidential"), text])
        facts = [[label, without_paths(shown(text))] for label, text in facts]
    return [[label, one_line(text)] for label, text in shown(facts) if text]


def _private(capture: Capture, name: str) -> list[list[str]]:
    return [
        [phrase("File"), name],
        [phrase("Command"), capture.command],
        [phrase("Program"), capture.exe],
        [phrase("Host"), capture.host],
        [phrase("Pid"), str(capture.pid) if capture.pid is not None else ""],
        [phrase("Started"), local_time(capture.started)],
    ]


def memory_account(profile: Profile) -> dict[str, Any]:
    """Return how the resident memory is made up: block `account` of the report.

    ``rows`` are {label, bytes, ends} as `mem_parser.rss` accounts for them, ``rss`` their sum,
    None where the file does not know it. ``inUse`` are rows of heap in use alone. ``places`` are
    {label, bytes}: where heap in use and slack together are. ``notes`` are sentences. Of device
    memory there are only notes: it is no part of the resident memory.
    """
    if profile.capture.device is not None:
        told = (
            header_line(profile, Count.INUSE),
            remainder_line(profile, Count.INUSE, Unit.SPACE),
        )
        notes = [text for text in told if text]
        return {"rows": [], "inUse": [], "places": [], "rss": None, "notes": notes}
    found = account(profile)
    notes = [] if found.at_s is None else [f"RSS: {at_highest(found.at_s)}"]
    notes += [*found.notes, *filter(None, [found.of_limit])]
    if found.peak_rss_bytes is not None:
        notes.append(phrase("Peak RSS: {size}", size=format_bytes(found.peak_rss_bytes)))
    if (profile.capture.duration_s or 0) >= _GROWTH_FROM_S:
        notes += growth_lines(found)
    places = [{"label": part.label, "bytes": part.bytes} for part in found.places]
    return {
        "rows": list(map(_account_row, found.parts)),
        "inUse": list(map(_account_row, found.in_use)),
        "places": places,
        "rss": found.rss_bytes,
        "notes": notes,
    }


def _account_row(part: Part) -> dict[str, Any]:
    ends = [None, None] if part.estimate is None else list(part.estimate.known_ends)
    return {"label": part.label, "bytes": part.bytes, "ends": ends}
