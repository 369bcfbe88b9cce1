"""Lines above every report: total with its error, coverage, losses."""

from __future__ import annotations

from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.model import Capture, Count, PeakSource, Profile, Unit
from mem_parser.reports.device import header_line
from mem_parser.symbols.table import CUT_NAME
from mem_parser.units import counted, format_bytes, format_rate, format_total

MOST_DEPTH = 4096
"""Frames of a stack that the sampler keeps at most."""
NOTED_STOP_S = 0.01
"""A shorter stop of the program is no news to its user."""
WHICH = {
    Count.INUSE: "in use",
    Count.ALLOC: "allocated",
    Count.FREED: "freed",
    Count.PEAK: "at the peak",
}
"""What blocks of each count are, behind a number of bytes."""
_LOSSES = {
    "unwind_no_module": ("stack", "incomplete: unknown code"),
    "unwind_no_rule": ("stack", "incomplete: unwind tables are missing"),
    "unwind_bad_rule": ("stack", "incomplete: an unwind rule is not supported"),
    "unwind_range": ("stack", "incomplete: the rest is outside the thread's stack"),
    "stack_empty": ("sample", "without a stack"),
    "stack_table_full": ("sample", "without a stack: the table of stacks was full"),
    "stack_sites_full": ("sample", "without a stack: the table of sites was full"),
    "stack_busy": ("sample", "without a stack: all buffers for new stacks were in use"),
    "domain_full": ("device block", "lost: the table of domains was full"),
    "reserve": ("request for space", "refused by the file system"),
    "module_full": ("module", "not recorded: the table of modules was full"),
    "thread_full": ("thread", "not recorded: the table of threads was full"),
    "reentry": ("sample", "lost inside the sampler itself"),
    "live_full": ("sample", "lost: the table of live blocks was full"),
    "site_full": ("sample", "lost: the table of sites was full"),
    "stack_room": ("sample", "lost: a thread had too little stack left"),
    "python": ("stack", "incomplete: Python frames are missing"),
    "label": ("sample", "without a label: the table of names was full"),
    "launch": ("launch", "without a name, or in an unknown form"),
}
"""By cause: noun and predicate of a line for the user."""


def header_lines(
    profile: Profile, total: Estimate, count: Count, unit: Unit, *, plain: bool = False
) -> list[str]:
    """Return the header; the first line begins `Total: `. ``plain``: sizes as whole bytes."""
    first = counted_lines(profile, total, count, unit, plain=plain)
    if count is Count.PEAK is profile.default_count and profile.capture.part_s is None:
        first[-1] += " Use --inuse for what was left at the end."
    return [*first, *other_lines(profile)]


def counted_lines(
    profile: Profile, total: Estimate, count: Count, unit: Unit, *, plain: bool = False
) -> list[str]:
    """Return the lines of the header that depend on count and unit."""
    text = f"{total.value:.0f} B" if plain and unit is Unit.SPACE else format_total(total, unit)
    lines = [_first_line(profile, text, total, count)]
    lines += [header_line(profile, count), _coverage(profile, count)]
    return [line for line in lines if line]


def other_lines(profile: Profile) -> list[str]:
    """Return the lines of the header that hold for every count: losses and notes."""
    lines = _losses(profile.capture)
    lines += _cut(profile.capture)
    attach = profile.capture.attach
    if attach is not None and attach.longest_s >= NOTED_STOP_S:
        lines.append(f"attached while the program ran: {attach.text()}")
    if profile.incomplete:
        lines.append(f"INCOMPLETE: {profile.incomplete}")
    # The file's own note says the same, with a remedy.
    if profile.capture.pymalloc and not any("pymalloc" in n for n in profile.capture.notes):
        lines.append(
            "note: small objects of this CPython went through pymalloc; they are not counted"
        )
    lines += [f"note: {one_line(text)}" for text in profile.capture.notes + profile.warnings]
    return lines


def _first_line(profile: Profile, text: str, total: Estimate, count: Count) -> str:
    parts = [f"Total: {text} {WHICH[count]}", _samples(profile, total)]
    if profile.capture.lost:
        parts.append(f"{profile.samples_missing:,} lost")
    memory = profile.capture.memory
    if memory.rss_bytes is not None and profile.capture.device is None:
        last, peak = format_bytes(memory.rss_bytes), format_bytes(memory.peak_rss_bytes or 0)
        at_most = f", {peak} at most" if (memory.peak_rss_bytes or 0) > memory.rss_bytes else ""
        parts.append(f"RSS {last} last{at_most}" if at_most else f"RSS {last}")
    return "   ".join(parts)


def _samples(profile: Profile, total: Estimate) -> str:
    samples = profile.capture.samples if profile.capture.samples is not None else total.samples
    if profile.sampling:
        sampling = one_line(profile.sampling)
        return f"{counted(samples, 'sample')}, {sampling}" if profile.exact_samples else sampling
    if profile.rate_bytes <= 1:
        return f"{counted(samples, 'sample')}, every block"
    if profile.exact_samples:
        return f"{counted(samples, 'sample')} at {format_rate(profile.rate_bytes)}"
    return f"about {counted(total.samples, 'sample')} at {format_rate(profile.rate_bytes)}"


def _coverage(profile: Profile, count: Count) -> str:
    duration = profile.capture.duration_s
    if profile.capture.part_s is not None:
        return _of_part(profile.capture, count)
    if profile.since_start:
        span = "since the program started"
    elif duration is not None:
        span = f"in these {duration:.1f} s"
    else:
        span = "since the capture began"
    if count is Count.INUSE:
        if profile.since_start:
            return "Counts all memory allocated since the program started and still in use."
        return f"Counts only memory allocated {span} and still in use at the end."
    if count is Count.PEAK:
        return _at_the_peak(profile.capture)
    return f"Counts memory allocated {'and freed ' if count is Count.FREED else ''}{span}."


def _of_part(capture: Capture, count: Count) -> str:
    """Return the text about the counted part of an event log, with times from its start."""
    assert capture.part_s is not None
    low, high = capture.part_s
    if count is Count.INUSE:
        return f"In use at {high:.3f} s of the log, whenever it was allocated."
    if count is Count.PEAK and capture.peak_at_s is not None:
        at = low + capture.peak_at_s
        where = f"between {low:.3f} and {high:.3f} s of the log: {at:.3f} s"
        return f"In use at the peak {where}{_choice(capture)}."
    freed = "and freed " if count is Count.FREED else ""
    return f"Counts memory allocated {freed}from {low:.3f} to {high:.3f} s of the log."


def _at_the_peak(capture: Capture) -> str:
    at = capture.peak_at_s
    when = f", {at:.1f} s after start" if at is not None else ""
    if capture.peak_source is PeakSource.SAMPLER:
        return f"In use at the peak{when}{_choice(capture)}."
    if capture.peak_source is PeakSource.TOTAL and capture.peak_bytes is not None:
        peak = format_bytes(capture.peak_bytes)
        return f"In use at the highest reading; the peak was {peak}{when}."
    return f"In use at the highest reading{when}; a peak between two readings is not seen."


def _choice(capture: Capture) -> str:
    """Say that errors hold for a fixed moment, if it was chosen by estimates."""
    others = " (errors are of this moment; mem_parser peaks: others as high)"
    return others if capture.peak_of_estimates else ""


def _cut(capture: Capture) -> list[str]:
    cut, limit = capture.lost.get("truncated", 0), capture.depth_limit
    if not cut:
        return []
    frames = f"{limit} frames" if limit else "the limit"
    below = "" if capture.python else f" ({CUT_NAME})"  # Python's frames may be whole
    verb, them = ("is", "it") if cut == 1 else ("are", "them")
    line = f"{counted(cut, 'stack')} {verb} longer than {frames}{below}."
    if not limit or limit >= MOST_DEPTH:
        return [line]
    return [f"{line} Capture with --depth {min(4 * limit, MOST_DEPTH)} to keep {them}."]


def _losses(capture: Capture) -> list[str]:
    found = [
        _loss(cause, number)
        for cause, number in capture.lost.items()
        if number and cause != "truncated"
    ]
    return ["; ".join(found)] if found else []


def _loss(cause: str, number: int) -> str:
    if cause not in _LOSSES:
        return f"{number} {one_line(cause)}"
    noun, predicate = _LOSSES[cause]
    return f"{counted(number, noun)} {'is' if number == 1 else 'are'} {predicate}"
