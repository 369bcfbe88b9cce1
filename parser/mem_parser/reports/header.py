"""Lines above every report: total with its error, coverage, losses."""

from __future__ import annotations

from mem_parser.errors import one_line
from mem_parser.estimate import Estimate
from mem_parser.model import Capture, Count, PeakSource, Profile, Unit
from mem_parser.programname import captured_name, named_with_file, other_file
from mem_parser.reports.device import header_line
from mem_parser.symbols.table import CUT_NAME
from mem_parser.units import counted, format_bytes, format_rate, format_total, percent
from mem_parser.words import joined, phrase, plural

MOST_DEPTH = 4096
"""Frames of a stack that the sampler keeps at most."""
NOTED_STOP_S = 0.01
"""A shorter stop of the program is no news to its user."""
WHICH = {
    Count.INUSE: phrase("in use"),
    Count.ALLOC: phrase("allocated"),
    Count.FREED: phrase("freed"),
    Count.PEAK: phrase("at the peak"),
    Count.RESIDENT: phrase("resident"),
    Count.HUGE: phrase("on huge pages"),
    Count.SWAPPED: phrase("swapped"),
}
"""What blocks of each count are, behind a number of bytes."""
_LOSSES = {
    "unwind_no_module": ("stack", phrase("incomplete: unknown code")),
    "unwind_no_rule": ("stack", phrase("incomplete: unwind tables are missing")),
    "unwind_bad_rule": ("stack", phrase("incomplete: an unwind rule is not supported")),
    "unwind_range": ("stack", phrase("incomplete: the rest is outside the thread's stack")),
    "stack_empty": ("sample", phrase("without a stack")),
    "stack_table_full": ("sample", phrase("without a stack: the table of stacks was full")),
    "stack_sites_full": ("sample", phrase("without a stack: the table of sites was full")),
    "stack_busy": ("sample", phrase("without a stack: all buffers for new stacks were in use")),
    "domain_full": ("device block", phrase("lost: the table of domains was full")),
    "reserve": ("space request", phrase("refused by the file system")),
    "module_full": ("module", phrase("not recorded: the table of modules was full")),
    "thread_full": ("thread", phrase("not recorded: the table of threads was full")),
    "reentry": ("sample", phrase("lost inside the sampler itself")),
    "live_full": ("sample", phrase("lost: the table of live blocks was full")),
    "site_full": ("sample", phrase("lost: the table of sites was full")),
    "stack_room": ("sample", phrase("lost: a thread had too little stack left")),
    "python": ("stack", phrase("incomplete: Python frames are missing")),
    "label": ("sample", phrase("without a label: the table of names was full")),
    "launch": ("launch record", phrase("without a name, or in an unknown form")),
}
"""By cause: noun and predicate of a line for the user."""
_JIT_NAMES = {
    **dict.fromkeys(
        ("node", "nodejs", "deno"),
        phrase("functions of JavaScript have no names here: start it with --perf-basic-prof"),
    ),
    "java": phrase(
        "functions of Java have no names here: start it with -XX:+PreserveFramePointer, and run "
        "jcmd PID Compiler.perfmap before the file is written"
    ),
}
"""By the program that runs the code: how JIT code gets names."""
_FULL = ("stack_table_full", "stack_sites_full", "live_full", "site_full")


def header_lines(
    profile: Profile, total: Estimate, count: Count, unit: Unit, *, plain: bool = False
) -> list[str]:
    """Return the header; the first line begins `Total: `. ``plain``: sizes as whole bytes."""
    first = counted_lines(profile, total, count, unit, plain=plain)
    if count is Count.PEAK is profile.default_count and profile.capture.part_s is None:
        first[-1] = phrase("{first} Use --inuse for what was left at the end.", first=first[-1])
    called, exe = captured_name(profile.capture), profile.capture.exe
    if other_file(called, exe):
        first.append(phrase("Program: {name}", name=named_with_file(called, exe)))
    return [*first, *other_lines(profile)]


def counted_lines(
    profile: Profile,
    total: Estimate,
    count: Count,
    unit: Unit,
    *,
    plain: bool = False,
    running: bool = False,
) -> list[str]:
    """Return the lines of the header that depend on count and unit. ``running``: they are shown
    while the program runs.
    """
    count = count.blocks if unit is Unit.OBJECTS else count
    text = f"{total.value:.0f} B" if plain and unit is Unit.SPACE else format_total(total, unit)
    lines = [_first_line(profile, text, total, count)]
    lines += [header_line(profile, count), _coverage(profile, count, running=running)]
    return [line for line in lines if line]


def other_lines(profile: Profile) -> list[str]:
    """Return the lines of the header that hold for every count: losses and notes."""
    lines = _losses(profile.capture)
    lines += _cut(profile.capture)
    attach = profile.capture.attach
    if attach is not None and attach.longest_s >= NOTED_STOP_S:
        lines.append(phrase("attached while the program ran: {how}", how=attach.text()))
    if profile.capture.parent_pid:
        text = phrase(
            "blocks from before the fork count for its parent, pid {pid}",
            pid=profile.capture.parent_pid,
        )
        lines.append(phrase("note: {text}", text=text))
    if profile.incomplete:
        lines.append(phrase("INCOMPLETE: {why}", why=profile.incomplete))
    # The file's own note says the same, with a remedy.
    if profile.capture.pymalloc and not any("pymalloc" in n for n in profile.capture.notes):
        text = phrase("small objects of this CPython went through pymalloc; they are not counted")
        lines.append(phrase("note: {text}", text=text))
    cure = _JIT_NAMES.get(profile.capture.exe.rpartition("/")[2])
    if cure and not (profile.embedded and profile.embedded.has_jit_code()):
        lines.append(phrase("note: {text}", text=cure))
    notes = profile.capture.notes + profile.warnings
    lines += [phrase("note: {text}", text=one_line(text)) for text in notes]
    return lines


def _first_line(profile: Profile, text: str, total: Estimate, count: Count) -> str:
    total_of = phrase("Total: {amount} {which}", amount=text, which=WHICH[count])
    parts = [total_of, _samples(profile, total)]
    if profile.capture.lost:
        parts.append(phrase("{number} lost", number=f"{profile.samples_missing:,}"))
    memory = profile.capture.memory
    if memory.rss_bytes is not None and profile.capture.device is None:
        last, peak = format_bytes(memory.rss_bytes), format_bytes(memory.peak_rss_bytes or 0)
        if (memory.peak_rss_bytes or 0) > memory.rss_bytes:
            parts.append(phrase("RSS {last} last, {peak} at most", last=last, peak=peak))
        else:
            parts.append(f"RSS {last}")
    return joined("   ", parts)


def _samples(profile: Profile, total: Estimate) -> str:
    samples = profile.capture.samples if profile.capture.samples is not None else total.samples
    if profile.sampling:
        sampling = one_line(profile.sampling)
        return joined(
            phrase(", "), [counted(samples, "sample"), sampling][not profile.exact_samples :]
        )
    if profile.rate_bytes <= 1:
        return phrase("{samples}, every block", samples=counted(samples, "sample"))
    rate = format_rate(profile.rate_bytes)
    if profile.exact_samples:
        return phrase("{samples} at {rate}", samples=counted(samples, "sample"), rate=rate)
    return phrase("about {samples} at {rate}", samples=counted(total.samples, "sample"), rate=rate)


def _coverage(profile: Profile, count: Count, *, running: bool) -> str:
    duration = profile.capture.duration_s
    if profile.capture.part_s is not None:
        return _of_part(profile.capture, count)
    if profile.format.startswith("collapsed"):
        return phrase(
            "Counts as the file has them: bytes, if it was made so (heaptrack_print "
            "--flamegraph-cost-type peak)."
        )
    if profile.since_start:
        span = phrase("since the program started")
    elif duration is not None:
        span = phrase("in these {seconds} s", seconds=f"{duration:.1f}")
    else:
        span = phrase("since the capture began")
    if count is Count.INUSE:
        if profile.since_start:
            return phrase("Counts all memory allocated since the program started and still in use.")
        if running:
            return phrase("Counts only memory allocated {span} and still in use now.", span=span)
        return phrase("Counts only memory allocated {span} and still in use at the end.", span=span)
    if count is not count.blocks:
        held, part = (profile.total(c, Unit.SPACE).value for c in (Count.INUSE, count))
        share, in_use = percent(part, held), format_bytes(held)
        told = {"share": share, "amount": in_use, "span": span}
        if count is Count.SWAPPED:
            return phrase("Swapped is {share} of the {amount} allocated {span} and in use.", **told)
        if count is Count.HUGE:
            return phrase(
                "On huge pages is {share} of the {amount} allocated {span} and in use.", **told
            )
        return phrase("Resident is {share} of the {amount} allocated {span} and in use.", **told)
    if count is Count.PEAK:
        return _at_the_peak(profile.capture)
    if count is Count.FREED:
        return phrase("Counts memory allocated and freed {span}.", span=span)
    return phrase("Counts memory allocated {span}.", span=span)


def _of_part(capture: Capture, count: Count) -> str:
    """Return the text about the counted part of an event log, with times from its start."""
    assert capture.part_s is not None
    low, high = capture.part_s
    if count is Count.INUSE:
        when = f"{high:.3f}"
        return phrase("In use at {seconds} s of the log, whenever it was allocated.", seconds=when)
    if count is Count.PEAK and capture.peak_at_s is not None:
        at = low + capture.peak_at_s
        return phrase(
            "In use at the peak between {low} and {high} s of the log: {at} s{choice}.",
            low=f"{low:.3f}",
            high=f"{high:.3f}",
            at=f"{at:.3f}",
            choice=_choice(capture),
        )
    span = phrase("from {low} to {high} s of the log", low=f"{low:.3f}", high=f"{high:.3f}")
    if count is Count.FREED:
        return phrase("Counts memory allocated and freed {span}.", span=span)
    return phrase("Counts memory allocated {span}.", span=span)


def _at_the_peak(capture: Capture) -> str:
    at = capture.peak_at_s
    when = phrase(", {seconds} s after start", seconds=f"{at:.1f}") if at is not None else ""
    if capture.peak_source is PeakSource.SAMPLER:
        return phrase("In use at the peak{when}{choice}.", when=when, choice=_choice(capture))
    if capture.peak_source is PeakSource.TOTAL and capture.peak_bytes is not None:
        peak = format_bytes(capture.peak_bytes)
        return phrase(
            "In use at the highest reading; the peak was {peak}{when}.", peak=peak, when=when
        )
    return phrase(
        "In use at the highest reading{when}; a peak between two readings is not seen.", when=when
    )


def _choice(capture: Capture) -> str:
    """Say that errors hold for a fixed moment, if it was chosen by estimates."""
    others = phrase(" (errors are of this moment; mem_parser peaks: others as high)")
    return others if capture.peak_of_estimates else ""


def _cut(capture: Capture) -> list[str]:
    cut = capture.lost.get("truncated", 0)
    below = "" if capture.python else f" ({CUT_NAME})"  # Python's frames may be whole
    return [cut_line(cut, capture.depth_limit, below)] if cut else []


def cut_line(cut: int, limit: int | None, below: str = "") -> str:
    """Say how many stacks were cut and what keeps them; ``below``: under which name they are."""
    line = plural(
        "{stacks} is longer than {frames}{below}.",
        "{stacks} are longer than {frames}{below}.",
        cut,
        stacks=counted(cut, "stack"),
        frames=phrase("{limit} frames", limit=limit) if limit else phrase("the limit"),
        below=below,
    )
    if not limit or limit >= MOST_DEPTH:
        return line
    return plural(
        "{line} Capture with --depth {depth} to keep it.",
        "{line} Capture with --depth {depth} to keep them.",
        cut,
        line=line,
        depth=min(4 * limit, MOST_DEPTH),
    )


def _losses(capture: Capture) -> list[str]:
    found = [
        _loss(cause, number)
        for cause, number in capture.lost.items()
        if number and cause != "truncated"
    ]
    if not found:
        return []
    text = joined(phrase("; "), found)
    if not any(capture.lost.get(cause) for cause in _FULL):
        return [text]
    if capture.lost.get("reserve"):
        text = phrase(
            "{losses}. Give the segment more room: MEM_PROFILER_DIR names its folder.", losses=text
        )
    else:
        text = phrase(
            "{losses}. Capture at a coarser rate, or with a larger MEM_PROFILER_MAX_MEMORY.",
            losses=text,
        )
    return [text]


def _loss(cause: str, number: int) -> str:
    if cause not in _LOSSES:
        return f"{number} {one_line(cause)}"
    noun, predicate = _LOSSES[cause]
    return plural(
        "{losses} is {predicate}",
        "{losses} are {predicate}",
        number,
        losses=counted(number, noun),
        predicate=predicate,
    )


def nothing_line(profile: Profile, count: Count) -> str:
    """Return the line in place of a report on a count without samples."""
    line = phrase("0 samples: nothing to show ({which})", which=WHICH[count])
    if count is not Count.INUSE or not profile.has_alloc or not profile.capture.samples:
        return line
    if profile.has(Count.PEAK) and profile.total(Count.PEAK, Unit.SPACE).samples:
        return phrase("{line}; --peak shows the most at once, --alloc all", line=line)
    return phrase("{line}; --alloc shows what was allocated and freed", line=line)
