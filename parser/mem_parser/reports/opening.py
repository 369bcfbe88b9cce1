"""What reports open with: who leaks, the peak and whose it is, what is in use, the largest cache.

One sentence each, with the `mem_parser` command that shows more of it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from mem_parser.charge import charged_from, first_from
from mem_parser.errors import one_line
from mem_parser.estimate import Estimate, FloatArray, are_many_lost
from mem_parser.folds import unnamed_function
from mem_parser.frames import named_caller
from mem_parser.leaks.ages import LEAST_WATCH_S
from mem_parser.leaks.findings import MOST_UNDECIDED, Finding, LeakReport, Verdict, growth_of
from mem_parser.leaks.headline import called_by, rate_text
from mem_parser.leaks.watch import NO_AGES, may_fill, too_short, was_killed, went_on
from mem_parser.model import Count, IntArray, PeakSource, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.grid import Judged, Record, Tone
from mem_parser.rss import account
from mem_parser.symbols.table import Symbols
from mem_parser.textwidth import rjust, wrapped
from mem_parser.textwidth import width as width_of
from mem_parser.units import counted, format_bytes, format_estimate, percent
from mem_parser.unseen import NOTE, missing, why_unseen
from mem_parser.words import phrase, shown

_RSS_WITHIN = 0.05
"""A reading of RSS belongs to the peak if it is no further from it than this share of the time."""
_LEAST_SHARE = 0.05
_LEAST_CALLER = 0.5
"""A caller that explains functions without a name has at least that share of what they hold."""
_NOTED_CACHE = 0.1
_NOTED_PEAK = 1.1
"""The peak of a running program is told if it is so many times what is in use."""
_NOTED_OWN = 0.1
"""The sampler's own memory is told if it is that share of RSS: a fine rate takes much of it."""
_NOTED_RSS = 0.5
_NEAR_LIMIT = 0.8
"""What the process's control group uses is told from that share of its limit on; RSS beside the
limit where the use is unknown."""
_SOON_S = 3600.0
_LEAST_GROWTH_BYTES = 4 << 20
"""RSS's growth is told from so much on, if leaks are less than that share of it."""
_LEAST_RSS_BYTES = 16 << 20
"""RSS is told if the file explains less than that share of it, and it is not small."""
TONES = {
    "lost": Tone.BAD,
    "unseen": Tone.OPEN,
    "untraced": Tone.OPEN,
    "leak": Tone.BAD,
    "grows": Tone.OPEN,
    "no verdict": Tone.OPEN,
    "no leak": Tone.GOOD,
}


@dataclass(frozen=True, slots=True)
class Sentence:
    """One answer; ``command`` is the subcommand of `mem_parser` that shows more, and options."""

    kind: str
    text: str
    command: str = ""


def opening(
    profile: Profile,
    symbols: Symbols,
    report: LeakReport | None,
    whole: Profile | None = None,
    *,
    running: bool = False,
) -> list[Sentence]:
    """Return the sentences. ``symbols`` have all frames; ``report`` are the verdicts on leaks, None
    where they are not asked for. ``whole`` is the profile with what is no longer in use.
    ``running``: somebody watches the program, and also wants its peak if it held more then, and to
    know that it is too early for a verdict.
    """
    first = [*_lost(whole or profile), *_unseen(whole or profile), *_untraced(whole or profile)]
    near = list(_near_limit(profile))
    if was_killed(profile.capture):
        first, near = [*_killed(profile), *near, *first], []
    rest = [*near, *([] if running else _rest_of_rss(profile, report))]
    if not any(profile.total(count, Unit.SPACE).samples for count in (Count.INUSE, Count.PEAK)):
        return [*first, _freed(whole or profile), *rest]
    watched_s = profile.capture.duration_s or 0.0
    is_short = went_on(profile.capture) and watched_s < LEAST_WATCH_S
    found = first + ([] if report is None else list(_leaks(report)))
    if running and is_short and report is not None and found == first:
        found.append(
            Sentence("too short", phrase("no leak seen; {reason}", reason=too_short(watched_s)))
        )
    none_left = not profile.total(Count.INUSE, Unit.SPACE).samples
    if profile.default_count is Count.PEAK or none_left or (running and _held_more(profile)):
        found.append(_peak(profile, symbols))
    found.append(_in_use(profile, symbols))
    found += _resident(profile, symbols)
    caches = [] if report is None or watched_s < LEAST_WATCH_S else list(_caches(report))
    if profile.capture.before_end_at_s is not None:
        caches = [
            replace(one, text=phrase("before the clean-up {caches}", caches=one.text))
            for one in caches
        ]
    doubts = [] if report is None or running else list(_may_fill(profile, report))
    return [*found, *caches, *doubts, *rest]


def _may_fill(profile: Profile, report: LeakReport) -> Iterator[Sentence]:
    """Yield what the leaks of a program that did not end by itself may be instead."""
    text = may_fill(profile.capture, profile.capture.duration_s or 0.0)
    if report.leaks and text:
        yield Sentence("grows", text)


def _killed(profile: Profile) -> Iterator[Sentence]:
    """Yield that the program was killed: by the kernel for memory, perhaps."""
    if profile.capture.end.endswith(" SIGKILL"):
        text = phrase("ended by SIGKILL: memory may have run out, dmesg tells")
        yield Sentence("killed", text)


def _lost(profile: Profile) -> Iterator[Sentence]:
    """Yield how much of the samples is missing from all numbers, where it is much."""
    taken, missing = profile.capture.samples or 0, profile.samples_missing
    if are_many_lost(taken, missing):
        share = percent(missing, taken + missing)
        text = phrase("{share} of the samples were lost: the numbers are too low", share=share)
        yield Sentence("lost", text)


def _unseen(profile: Profile) -> Iterator[Sentence]:
    """Yield which memory of the program is in no number."""
    nothing = not profile.total(Count.ALLOC, Unit.SPACE).samples
    for note in missing(profile.capture):
        if not (nothing and note.startswith(NOTE)):  # else `_freed` says it
            yield Sentence("unseen", one_line(note))


def _untraced(profile: Profile) -> Iterator[Sentence]:
    """Yield that most of what a Python program holds may be in no number, and what shows it."""
    if profile.capture.pymalloc and not profile.capture.device:
        text = phrase(
            "small objects of Python are not in the numbers; started by mem_profiler run, or with "
            "the sampler preloaded, they are"
        )
        if profile.capture.from_start:  # and its note says why
            text = phrase("small objects of Python are not in the numbers")
        if any("--keep-pymalloc" in note for note in profile.capture.notes):
            text = phrase(
                "small objects of Python are not in the numbers; without --keep-pymalloc they are"
            )
        yield Sentence("untraced", text)


def _leaks(report: LeakReport) -> Iterator[Sentence]:
    growing = [f for f in report.findings if f.is_open and f.frames]
    if report.leaks:
        yield Sentence("leak", report.headline, "leaks")
    elif growing:
        first, others = _function(growing[0]), len(growing) - 1
        text = phrase("{function} {evidence}", function=first, evidence=growing[0].evidence)
        if others and report.too_short:
            text = phrase(
                "{function} and {number} more grow; {reason}",
                function=first, number=others, reason=report.too_short,
            )  # fmt: skip
        yield Sentence("grows", text, "leaks")
    elif report.held:
        yield Sentence("grows", report.headline, "leaks")
    elif report.is_clouded or report.blind not in ("", NO_AGES):
        yield Sentence("no verdict", report.headline, "leaks")
    elif any(f.watched_s >= LEAST_WATCH_S for f in report.findings):
        is_open = report.undecided >= MOST_UNDECIDED
        kind, command = ("no verdict", "leaks") if is_open else ("no leak", "")
        yield Sentence(kind, report.headline, command)
    undecided = [
        f for f in report.findings
        if f.verdict is Verdict.INCONCLUSIVE and f.frames and not f.is_open
    ]  # fmt: skip
    largest = max(undecided, key=lambda f: f.live.value, default=None)
    held = math.fsum(f.live.value for f in report.findings)
    if report.leaks and largest is not None and largest.live.value >= MOST_UNDECIDED * held:
        text = phrase(
            "no verdict on {function}, {amount}: {evidence}",
            function=_function(largest),
            amount=_amount(largest.live),
            evidence=largest.evidence,
        )
        yield Sentence("no verdict", text, "leaks")


def _held_more(profile: Profile) -> bool:
    """Tell whether the peak, kept by the sampler, is clearly above what is in use."""
    if profile.capture.peak_source is not PeakSource.SAMPLER or not profile.has(Count.PEAK):
        return False
    peak, now = (profile.total(count, Unit.SPACE).value for count in (Count.PEAK, Count.INUSE))
    return peak >= _NOTED_PEAK * now


def _peak(profile: Profile, symbols: Symbols) -> Sentence:
    total = profile.total(Count.PEAK, Unit.SPACE)
    at_s = profile.capture.peak_at_s
    text = phrase(
        "peak {amount}{when}{rss}{most}",
        amount=_amount(total),
        when="" if at_s is None else phrase(" at {seconds} s", seconds=f"{at_s:.1f}"),
        rss=_rss_beside(profile, at_s, total.value),
        most=_most(profile, symbols, Count.PEAK),
    )
    return Sentence("peak", text)


def _rss_beside(profile: Profile, at_s: float | None, held_bytes: float) -> str:
    """Return the RSS of the peak. A reading below what was held, and the sampler's own, missed a
    short peak: then the highest RSS of the process stands for it, if that saw the peak. The
    sampler's part of it is said where it is much.
    """
    rss, most = rss_at(profile, at_s), profile.capture.memory.peak_rss_bytes
    own = profile.capture.memory.segment_bytes or 0
    found = rss if rss is not None and rss >= held_bytes + own else most
    if found is None or found < held_bytes:
        return ""
    told = {"size": format_bytes(found), "own": format_bytes(own)}
    if own >= _NOTED_OWN * found:
        if found is rss:
            return phrase(" (RSS then {size}, up to {own} of it the sampler's)", **told)
        return phrase(" (RSS at most {size}, up to {own} of it the sampler's)", **told)
    if found is rss:
        return phrase(" (RSS then {size})", **told)
    return phrase(" (RSS at most {size})", **told)


def rss_at(profile: Profile, at_s: float | None) -> int | None:
    """Return the RSS that was read nearest to a moment; None where no reading is near."""
    read = [r for r in profile.series if r.rss_bytes is not None]
    if at_s is None or not read:
        return None
    near = min(read, key=lambda r: abs(r.t_s - at_s))
    span_s = max(profile.capture.duration_s or 0.0, near.t_s)
    return near.rss_bytes if abs(near.t_s - at_s) <= max(_RSS_WITHIN * span_s, 0.1) else None


def _in_use(profile: Profile, symbols: Symbols) -> Sentence:
    total = profile.total(Count.INUSE, Unit.SPACE)
    at_end = profile.default_count is Count.PEAK
    if profile.capture.before_end_at_s is not None:  # other sentences are of before it
        if not total.samples:
            return Sentence("in use", phrase("nothing is in use after the clean-up"))
        return Sentence(
            "in use", phrase("in use after the clean-up {amount}", amount=_amount(total))
        )
    if not total.samples:
        if at_end:
            return Sentence("in use", phrase("nothing is in use at the end"))
        none = phrase("nothing that was allocated in the capture is still in use")
        return Sentence("in use", none)
    if at_end:
        return Sentence("in use", phrase("in use at the end {amount}", amount=_amount(total)))
    most = _most(profile, symbols, Count.INUSE)
    return Sentence("in use", phrase("in use {amount}{most}", amount=_amount(total), most=most))


def _resident(profile: Profile, symbols: Symbols) -> Iterator[Sentence]:
    """Yield how much of what is in use is in RAM, where the file says so."""
    held = profile.total(Count.INUSE, Unit.SPACE)
    if not profile.has(Count.RESIDENT) or not held.value:
        return
    amounts = {
        count: _amount(profile.total(count, Unit.SPACE)) if profile.has(count) else ""
        for count in (Count.SWAPPED, Count.HUGE)
    }
    swapped, huge = amounts.values()
    parts = phrase(", {amount} swapped", amount=swapped) if swapped else ""
    parts += phrase(", {amount} on huge pages", amount=huge) if huge else ""
    resident = profile.total(Count.RESIDENT, Unit.SPACE)
    text = phrase(
        "resident {amount}, {share} of what is in use{most}{parts}",
        amount=_amount(resident),
        share=percent(resident.value, held.value),
        parts=parts,
        most=_most(profile, symbols, Count.RESIDENT),
    )
    yield Sentence("resident", text, "table --resident")


def _freed(profile: Profile) -> Sentence:
    total = profile.total(Count.ALLOC, Unit.SPACE)
    why = why_unseen(profile.capture)
    if not total.samples and why:
        return Sentence("nothing", phrase("no sample: {why}", why=why))
    if not total.samples and profile.rate_bytes > 1:
        return Sentence("nothing", phrase("nothing seen: no allocation was sampled"))
    if not total.samples:
        return Sentence("nothing", phrase("nothing was allocated"))
    text = phrase("allocated {amount}, all freed again", amount=_amount(total))
    return Sentence("freed", text, "summary --alloc")


def _rest_of_rss(profile: Profile, report: LeakReport | None) -> Iterator[Sentence]:
    """Yield how little of RSS, or of its growth, the file explains, where most of a program that
    goes on is not it.
    """
    rss = profile.capture.memory.rss_bytes
    held = profile.total(Count.INUSE, Unit.SPACE).value
    if not went_on(profile.capture) or profile.capture.device or rss is None:
        return
    growth = "" if report is None else _growth_beyond(profile, report)
    if growth:
        yield Sentence("rss", growth, "rss")
        return
    if rss >= _LEAST_RSS_BYTES and held < _NOTED_RSS * rss:
        text = phrase(
            "RSS {rss}, {share} % of it heap in use of this capture",
            rss=format_bytes(rss),
            share=f"{100 * held / rss:.0f}",
        )
        yield Sentence("rss", text, "rss")


def _growth_beyond(profile: Profile, report: LeakReport) -> str:
    """Return how little of the growth of RSS, but for the sampler's, the leaks are; empty where
    they are most of it, where it is small, and where too little time was read.
    """
    found, leaks = account(profile), growth_of([*report.leaks, *report.suppressed])
    most = 0.0 if leaks is None else leaks.interval95[1]
    slope = (found.slope_rss or 0.0) - found.slope_own
    if found.is_short or slope * found.read_s < _LEAST_GROWTH_BYTES * 3600.0:
        return ""
    if not most < _NOTED_RSS * slope:
        return ""
    rate = rate_text(slope, found.read_s / 2)
    if found.slope_own:
        rate = phrase("{rate} without the sampler's own", rate=rate)
    told = {
        "rss": format_bytes(found.rss_bytes or 0),
        "rate": rate,
        "share": percent(most, slope),
    }
    shared = (found.slope_kinds.get("shmem") or 0.0) - found.slope_own
    if not report.leaks and shared >= _NOTED_RSS * slope:
        told["share"] = percent(min(shared, slope), slope)
        return phrase("RSS {rss} grows by {rate}; {share} of it is shared memory, not heap", **told)
    if not report.leaks:
        return phrase("RSS {rss} grows by {rate}, and no leak explains it", **told)
    return phrase("RSS {rss} grows by {rate}; the leaks are at most {share} of it", **told)


def _near_limit(profile: Profile) -> Iterator[Sentence]:
    """Yield how near a container is to its limit, where the kernel may soon end the process."""
    memory = profile.capture.memory
    used = memory.rss_bytes if memory.group_bytes is None else memory.group_bytes
    if profile.capture.device or used is None or not memory.limit_bytes:
        return
    found = account(profile)
    soon = went_on(profile.capture) and (found.until_limit_s or math.inf) < _SOON_S
    if found.of_limit and (soon or used >= _NEAR_LIMIT * memory.limit_bytes):
        yield Sentence("limit", found.of_limit, "rss")


def _caches(report: LeakReport) -> Iterator[Sentence]:
    """Yield the caches, where they hold much of what was judged."""
    caches = [f for f in report.findings if f.verdict is Verdict.CACHE_LIKE and f.frames]
    held = sum(f.live.value for f in (*report.findings, *report.suppressed))
    if caches and sum(f.live.value for f in caches) >= _NOTED_CACHE * held:
        largest = max(caches, key=lambda f: f.live.value)
        told = {
            "caches": counted(len(caches), "cache"),
            "function": _function(largest),
            "amount": _amount(largest.live),
        }
        if len(caches) == 1:
            text = phrase("{caches}: {function}, {amount}, steady", **told)
        else:
            text = phrase("{caches}: the largest {function}, {amount}, steady", **told)
        yield Sentence("cache", text)


def _function(finding: Finding) -> str:
    return called_by(one_line(finding.frames[0].told), named_caller(finding.frames))


def _amount(total: Estimate) -> str:
    return format_estimate(total, Unit.SPACE)


def _most(profile: Profile, symbols: Symbols, count: Count) -> str:
    """Return the function that holds most of a count, and its share."""
    value = profile.weigh(count, Unit.SPACE)[0]
    by_stack = np.bincount(profile.sites.stack, value, len(symbols.offsets) - 1)
    charged = symbols.locations_of_stack[charged_from(symbols, FrameRule.PROGRAM)]
    function = symbols.function_of_location[charged]
    sums: defaultdict[str, float] = defaultdict(float)
    for k, amount in enumerate(np.bincount(function, by_stack, len(symbols.functions)).tolist()):
        found = symbols.functions[k]
        sums[(unnamed_function(found, symbols) or found).name] += amount
    name = max(sums, key=lambda n: sums[n])
    whole = float(value.sum())
    share = sums[name] / whole if whole else 0.0
    if share < _LEAST_SHARE:
        return ""
    caller, part = _named_caller(symbols, by_stack.astype(np.float64), name)
    most = {"share": f"{100 * share:.0f}", "function": one_line(name)}
    if not caller or part < _LEAST_CALLER * sums[name]:
        return phrase(", {share} % of it {function}", **most)
    most |= {"caller": one_line(caller), "part": f"{100 * part / whole:.0f}"}
    return phrase(", {share} % of it {function}, called by {caller} ({part} %)", **most)


def _named_caller(symbols: Symbols, by_stack: FloatArray, unnamed: str) -> tuple[str, float]:
    """Return the function, and its part, that `named_caller` finds for most of what the functions
    of a file hold that together are called ``unnamed``.
    """
    folded = [unnamed_function(f, symbols) for f in symbols.functions]
    own = [f is not None and f.name == unnamed for f in folded]
    files = {f.module for f, is_own in zip(symbols.functions, own, strict=True) if is_own}
    exported = [f.known and not f.python and f.module in files for f in symbols.functions]
    charged = charged_from(symbols, FrameRule.PROGRAM)

    def first(wanted: list[bool]) -> IntArray:
        locations = np.array(wanted, dtype=np.bool_)[symbols.function_of_location]
        return first_from(symbols, locations, charged, np.arange(len(charged)))

    nearest, python = first(exported), first([f.python for f in symbols.functions])
    nearest = np.where(nearest >= 0, nearest, python)
    function = symbols.function_of_location[symbols.locations_of_stack]
    held = np.array(own, dtype=np.bool_)[function[charged]] & (nearest >= 0)
    if not held.any():
        return "", 0.0
    sums = np.bincount(function[nearest[held]], by_stack[held])
    most = int(np.argmax(sums))
    return symbols.functions[most].name, float(sums[most])


def opening_lines(sentences: Sequence[Sentence], command: str, width: int) -> Iterator[str]:
    """Yield the sentences in lines of ``width`` columns, with the command of each at its end, or on
    a line of its own. ``command``: how a subcommand with `{}` in its place is called.
    """
    for one in sentences:
        more = command.format(one.command) if one.command else ""
        first, *rest = wrapped(shown(one.text), width, "  ") or [""]
        fits = not rest and width_of(first) + len(more) + 3 <= width
        tone = TONES.get(one.kind)
        line = first + (rjust(more, width - width_of(first)) if more and fits else "")
        yield line if tone is None else Judged(line, tone, len(re.split("[,，]", first)[0]))
        yield from rest
        if more and not fits:
            yield f"  {more}"


def opening_records(sentences: Sequence[Sentence]) -> list[Record]:
    """Return the sentences for programs."""
    return [asdict(one) for one in sentences]
