"""What a page says about the capture above its pictures: title, headline, warnings, and facts by
name.

In confidential mode nothing here holds a path, a host, a user or a command line: free text loses
its folders, and what names a machine or a person is left out.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from typing import Any

from mem_parser.errors import one_line
from mem_parser.model import Capture, Count, Profile, Unit
from mem_parser.reports.header import header_lines
from mem_parser.reports.units import format_bytes
from mem_parser.version import __version__

_PATH = re.compile(
    r"(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:;,'\"()<>\[\]]+)+[/\\]([^\s/\\:;,'\"()<>\[\]]*)"
)
_TOP_PATH = re.compile(r"(?<![\w/])[/\\]([^\s/\\:;,'\"()<>\[\]]+)")


def without_paths(text: str) -> str:
    """Return ``text`` with every absolute path in it cut to its last part."""
    return _TOP_PATH.sub(r"\1", _PATH.sub(r"\1", text))


def page_facts(
    profile: Profile, name: str, notes: Sequence[str] = (), *, confidential: bool = False
) -> dict[str, Any]:
    """Return the block `facts` of a page.

    ``name`` is what to call the profile (a file name); ``notes`` are sentences of the report's
    own, such as what was pruned.
    """
    capture = profile.capture
    program = (capture.comm or capture.exe or name).rsplit("/", 1)[-1]
    total = profile.total(Count.INUSE, Unit.SPACE)
    headline, coverage, *rest = header_lines(profile, total, Count.INUSE, Unit.SPACE)
    warnings = [*rest, *(one_line(n) for n in notes if n)]
    title = f"{program} (pid {capture.pid})" if capture.pid is not None else program
    if confidential:
        warnings = [without_paths(w) for w in warnings]
        title = without_paths(program)
    return {
        "title": title,
        "headline": f"{re.sub(' {2,}', ' · ', headline)} \N{EM DASH} {coverage}",
        "warnings": warnings,
        "facts": _facts(profile, name, confidential=confidential),
        "exact": profile.exact_samples,
        "confidential": confidential,
    }


def _facts(profile: Profile, name: str, *, confidential: bool) -> list[list[str]]:
    capture = profile.capture
    private = [] if confidential else _private(capture, name)
    rate = "every block" if profile.rate_bytes <= 1 else f"1 sample per {profile.rate_bytes:,.0f} B"
    shown = [
        *private,
        ["Duration", f"{capture.duration_s:.1f} s" if capture.duration_s is not None else ""],
        ["Rate", rate],
        ["Samples", f"{capture.samples:,}" if capture.samples is not None else ""],
        ["Samples lost", f"{profile.samples_missing:,}" if capture.lost else ""],
        ["Ended by", capture.end],
        ["Allocator", without_paths(capture.allocator)],
        ["Unwinder", capture.unwinder],
        ["Depth limit", str(capture.depth_limit or "")],
        ["Python", capture.python or ""],
        ["Architecture", capture.arch],
        ["Written by", capture.writer],
        ["Format", profile.format],
        ["Page by", f"mem_parser {__version__}"],
    ]
    if confidential:
        shown.append(["Confidential", "no paths, source files, host or command line in this page"])
        shown = [[label, without_paths(text)] for label, text in shown]
    return [[label, one_line(text)] for label, text in shown if text]


def _private(capture: Capture, name: str) -> list[list[str]]:
    started = ""
    if capture.started is not None:
        try:
            started = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(capture.started))
        except (OverflowError, ValueError, OSError):
            started = ""
    return [
        ["File", name],
        ["Command", capture.command],
        ["Program", capture.exe],
        ["Host", capture.host],
        ["Pid", str(capture.pid) if capture.pid is not None else ""],
        ["Started", started],
    ]


def memory_account(profile: Profile) -> dict[str, Any]:
    """Return how the resident memory is made up: block `account` of the report.

    RSS = live heap ± e + allocator's slack + stack + files + shared memory + the sampler's own.
    ``rows`` are (label, bytes, ± bytes or None), the last one the RSS that the others add up to;
    ``note`` says what has to be known of them. Only the live heap and what the capture stored are
    known; the slack is what remains, with blocks older than the capture in it.
    """
    memory = profile.capture.memory
    live = profile.total(Count.INUSE, Unit.SPACE)
    if memory.rss_bytes is None:
        return {"rows": [], "note": "the file does not say how large the process was"}
    own = memory.segment_bytes
    shared = memory.shmem_bytes
    if own is not None and shared is not None:
        own, shared = min(own, shared), max(shared - own, 0)
    parts = [
        ("Stack of the main thread", "stacks", memory.stack_bytes),
        ("Files (code, mapped data)", "files", memory.file_bytes),
        ("Shared memory", "shared memory", shared),
        ("The sampler's own", "the sampler's own", own),
    ]
    known: list[list[Any]] = [[label, size, None] for label, _, size in parts if size is not None]
    unknown = [word for _, word, size in parts if size is None]
    slack = memory.rss_bytes - live.value - sum(row[1] for row in known)
    slack_label = ", ".join(["Allocator's slack, older blocks, other anonymous memory", *unknown])
    margin = _finite(live.margin95)
    rows = [
        ["Live heap (estimate)", live.value, margin],
        [slack_label, slack, margin],
        *known,
        ["Resident (RSS)", memory.rss_bytes, None],
    ]
    notes = []
    if slack < 0:
        notes.append("blocks never touched or swapped out are live, but take no memory")
    if memory.peak_rss_bytes is not None:
        notes.append(f"highest RSS of the process so far: {format_bytes(memory.peak_rss_bytes)}")
    return {"rows": rows, "note": "; ".join(notes)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
