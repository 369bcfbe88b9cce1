"""Lines above every report: total with its error, coverage, losses."""

from __future__ import annotations

from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.model import Capture, Count, PeakSource, Profile, Unit
from mem_parser.reports.device import header_line
from mem_parser.symbols.table import CUT_NAME
from mem_parser.units import format_bytes, format_rate, format_total

MOST_DEPTH = 4096
"""Frames of a stack that the sampler keeps at most."""
WHICH = {
    Count.INUSE: "in use",
    Count.ALLOC: "allocated",
    Count.FREED: "freed",
    Count.PEAK: "at the peak",
}
"""What blocks of each count are, behind a number of bytes."""
_LOSS_TEXT = {
    "truncated": "stacks cut at the depth limit",
    "unwind_no_module": "stacks ended in unknown code",
    "unwind_no_rule": "stacks ended where unwind tables are missing",
    "unwind_bad_rule": "stacks ended at an unwind rule that the sampler does not know",
    "unwind_range": "stacks ended outside the thread's stack",
    "stack_empty": "samples without a stack",
    "stack_table_full": "samples without a stack: the table of stacks was full",
    "stack_sites_full": "samples without a stack: the table of sites was full",
    "stack_busy": "samples without a stack: all buffers for new stacks were in use",
    "domain_full": "device blocks lost: the table of domains was full",
    "reserve": "times the file system refused space",
    "module_full": "modules not recorded: the table of modules was full",
    "thread_full": "threads not recorded: the table of threads was full",
    "reentry": "samples lost inside the sampler itself",
    "live_full": "samples lost: the table of live blocks was full",
    "site_full": "samples lost: the table of sites was full",
    "stack_room": "samples lost where a thread had too little stack left",
    "python": "stacks without all of their Python frames",
    "label": "samples of threads or tasks beyond the names that are kept",
    "launch": "kernels, operators or accesses without a name or in an unknown form",
}


def header_lines(
    profile: Profile, total: Estimate, count: Count, unit: Unit, *, plain: bool = False
) -> list[str]:
    """Return the header; the first line begins `Total: `. ``plain``: sizes as whole bytes."""
    return [*counted_lines(profile, total, count, unit, plain=plain), *other_lines(profile)]


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
    if profile.capture.attach is not None:
        lines.append(f"attached while the program ran: {profile.capture.attach.text()}")
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
        parts.append(f"{profile.samples_missing} lost")
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
        return f"{samples} samples, {sampling}" if profile.exact_samples else sampling
    if profile.rate_bytes <= 1:
        return f"{samples} samples, every block"
    about = "" if profile.exact_samples else f"about {total.samples} "
    return f"{about or f'{samples} '}samples at {format_rate(profile.rate_bytes)}"


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
        older = "" if profile.since_start else "; older ones are not counted"
        end = "when the file was written" if profile.since_start else "at their end"
        return f"allocated {span} and not freed {end}{older}"
    if count is Count.PEAK:
        also = "; --inuse: what was left at the end" if profile.default_count is count else ""
        return _at_the_peak(profile.capture) + also
    return f"allocated {'and freed ' if count is Count.FREED else ''}{span}"


def _of_part(capture: Capture, count: Count) -> str:
    """Return the text about the counted part of an event log, with times from its start."""
    assert capture.part_s is not None
    low, high = capture.part_s
    if count is Count.INUSE:
        return f"in use at {high:.3f} s of the log, whenever it was allocated"
    if count is Count.PEAK and capture.peak_at_s is not None:
        at = low + capture.peak_at_s
        where = f"from {low:.3f} to {high:.3f} s of the log: {at:.3f} s"
        return f"live at the highest moment {where}{_choice(capture)}"
    freed = "and freed " if count is Count.FREED else ""
    return f"allocated {freed}from {low:.3f} to {high:.3f} s of the log"


def _at_the_peak(capture: Capture) -> str:
    at = capture.peak_at_s
    when = f" after {at:.1f} s" if at is not None else ""
    if capture.peak_source is PeakSource.SAMPLER:
        return f"live at the peak{when}{_choice(capture)}"
    text = f"live at the highest reading{when}; a peak between two readings is not seen"
    if capture.peak_source is PeakSource.TOTAL and capture.peak_bytes is not None:
        peak = format_bytes(capture.peak_bytes)
        return f"live at the highest reading; the peak{when} was {peak}"
    return text


def _choice(capture: Capture) -> str:
    """Say that errors hold for a fixed moment, if it was chosen by estimates."""
    others = " (errors are of this moment; mem_parser peaks: others as high)"
    return others if capture.peak_of_estimates else ""


def _cut(capture: Capture) -> list[str]:
    cut, limit = capture.lost.get("truncated", 0), capture.depth_limit
    if not cut:
        return []
    below = "" if capture.python else f", below {CUT_NAME}"  # Python's frames may be whole
    line = f"{cut} {_LOSS_TEXT['truncated']}{below}"
    if not limit or limit >= MOST_DEPTH:
        return [line]
    return [f"{line}; mem_profiler --depth {min(4 * limit, MOST_DEPTH)} keeps more of them"]


def _losses(capture: Capture) -> list[str]:
    found = [
        f"{number} {_LOSS_TEXT.get(cause, one_line(cause))}"
        for cause, number in capture.lost.items()
        if number and cause != "truncated"
    ]
    return ["; ".join(found)] if found else []
