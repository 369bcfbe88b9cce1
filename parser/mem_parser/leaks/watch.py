"""How long a program must be watched before growth is called a leak."""

from __future__ import annotations

import math

import numpy as np

from mem_parser.estimate import FloatArray
from mem_parser.leaks.ages import LEAST_WATCH_S, Timeline
from mem_parser.leaks.observed import SURE
from mem_parser.leaks.survivors import MIN_SAMPLES, SiteColumns
from mem_parser.model import SECTION_ENDED, Capture, Count, Profile, Unit
from mem_parser.names import IMPORT_FILE
from mem_parser.significance import p_rate_above
from mem_parser.words import phrase

NO_AGES = phrase("no verdict on leaks")
"""Of a file that was not made to show leaks, which is no news."""
_ADVISED_WATCH_S = 60.0
_SURE_WATCH_S = 600.0
"""Most caches are full by then."""
TURNOVERS = 1.5
"""And so many times the program's turnover: blocks that are hardly older than others become may yet
be freed like them."""
_STARTS = 2.0
"""So many times its start, as a leak shows in both halves."""
_GOES_ON = frozenset(("deadline", "stopped", "interrupted", "running"))
"""Ends of captures after which the program went on (`Capture.end`)."""
_IDLE = 0.05
"""Of all work: what a program does that waits, and too little to tell a leak from a cache by."""
_WORKED = 0.55
"""Of a watch: with so much work in it a leak shows all the same."""
_HOUR_S = 3600.0


def went_on(capture: Capture) -> bool:
    """Tell whether the program went on when the capture ended."""
    return capture.end in _GOES_ON


def was_killed(capture: Capture) -> bool:
    """Tell whether a signal is known to have ended the program."""
    return capture.end.startswith("signal ")


def has_ended(capture: Capture) -> bool:
    """Tell whether the program surely ended by itself, with the capture or in it."""
    return bool(capture.end) and not ended_midway(capture)


def ended_midway(capture: Capture) -> bool:
    """Tell whether the capture ended in the program's midst, which might have freed more: it went
    on, or was killed.
    """
    return went_on(capture) or capture.end == SECTION_ENDED or was_killed(capture)


def least_watch_s(capture: Capture, table: SiteColumns, times: Timeline) -> float:
    """Return the seconds that growth must have been watched for to be called a leak: `TURNOVERS`
    times the program's turnover and `_STARTS` times its start, which are not known of a window in
    the capture. `LEAST_WATCH_S` are enough for the start, and a capture that ended midway needs
    them.
    """
    floor = LEAST_WATCH_S if ended_midway(capture) else 0.0
    if not is_whole(times):
        return floor
    start_s = min(_STARTS * _imports_s(table, times), LEAST_WATCH_S)
    return max(floor, TURNOVERS * turnover_s(table, times), start_s)


def _imports_s(table: SiteColumns, times: Timeline) -> float:
    """Return until when a tenth of the blocks and more were of modules of Python that it imported:
    such growth may be as steady as a leak, and ends.
    """
    imported = table.frames.having(lambda frame: IMPORT_FILE.search(frame.file) is not None)
    every = table.births.sum(axis=0)
    theirs = table.births[imported[table.place]].sum(axis=0)
    other = np.flatnonzero((theirs == 0) | (10 * theirs < every))
    return float(times.start[other[0]] if len(other) else times.duration_s)


def is_whole(times: Timeline) -> bool:
    """Tell whether the times are of the whole capture, and not of a window in it."""
    return bool(times.start[0] == 0.0 and times.end[-1] == times.duration_s)


def turnover_s(table: SiteColumns, times: Timeline) -> float:
    """Return the age in seconds by which half of all blocks were freed that are freed at all, by
    the buckets of birth of all stacks; 0 where too few were. Stacks that free nothing take no part,
    so a leak does not hide the turnover of the rest.
    """
    gone = table.births - table.survivors
    frees = (gone.sum(axis=1) > 0) & (table.births.sum(axis=1) > 0)
    born, died = table.births[frees].sum(axis=0), gone[frees].sum(axis=0)
    filled = (times.width > 0) & (born >= MIN_SAMPLES)
    if not filled.any():
        return 0.0
    share = np.divide(died, born, out=np.zeros(len(born)), where=born > 0)
    old = filled & times.mature
    highest = float(share[old].max(initial=0.0))
    if highest <= 0:
        return 0.0
    enough = np.flatnonzero(filled & (share >= highest / 2))
    newest = int(enough[-1])
    if newest + 1 == len(share) or times.width[newest + 1] <= 0:
        return float(times.duration_s - times.end[newest])
    # In the next bucket blocks are on average as young as the share that is still there tells.
    still = 1 - float(share[newest + 1]) / highest
    return float(times.duration_s - times.end[newest + 1] + still * times.width[newest + 1])


def blindness(profile: Profile, times: Timeline | None, *, at_end: bool) -> str:
    """Return why nothing can be said of any leak; empty where something can."""
    live, capture = profile.sites.live_births, profile.capture
    if capture.samples == 0 and profile.rate_bytes > 1:
        return phrase("nothing seen: no allocation was sampled")
    ended = capture.kind == "recovered" and capture.end == "exited" and not at_end
    if ended and profile.sites.before_end_blocks is None and profile.has(Count.PEAK):
        peak, left = (profile.total(c, Unit.SPACE).value for c in (Count.PEAK, Count.INUSE))
        if left < peak / 2:
            return phrase(
                "no verdict on leaks: the program freed its memory before it ended; save one that "
                "runs with mem_profiler snapshot PID"
            )
    if times is None and (live is None or len(live)):  # of no blocks there are no ages to miss
        return NO_AGES
    return ""


def worked_s(times: Timeline, turnover: FloatArray) -> float:
    """Return until when the program worked, by the blocks that it turned over in each bucket: where
    most of the watch surely has less than `_IDLE` of those before, its work ended there. After the
    seconds of a start a few of them are work.
    """
    filled = np.flatnonzero(times.width > 0)
    for k in range(1, len(filled)):
        before, after = (float(turnover[part].sum()) for part in (filled[:k], filled[k:]))
        if p_rate_above(before, 1.0, after, 1.0, 1 / _IDLE) >= SURE:
            continue
        began_s = float(times.start[filled[k]])
        end_s = began_s * (1 + after / before)
        is_start = began_s < LEAST_WATCH_S and after >= MIN_SAMPLES
        return times.duration_s if is_start or end_s > _WORKED * times.duration_s else end_s
    return times.duration_s


def idle_since(second: float) -> str:
    """Return why growth until then may go on or not."""
    return phrase(
        "the program did hardly anything after {time}: watch it while it works",
        time=time_text(second),
    )


def postponement(reason: str) -> str:
    """Return the evidence of growth without a verdict yet."""
    return phrase("grows; {reason}", reason=reason)


def too_short(watched_s: float, need_s: float = LEAST_WATCH_S) -> str:
    """Return the reason why there is no verdict yet, and how long a watch allows one."""
    advised = max(_ADVISED_WATCH_S, math.ceil(need_s / 60) * 60)
    return phrase(
        "{watched} is too short to tell: watch {advised}",
        watched=time_text(watched_s),
        advised=time_text(advised),
    )


def may_fill(capture: Capture, watched_s: float) -> str:
    """Return what a leak may be instead in a program that did not end by itself; empty after a long
    watch.
    """
    watched, advised = time_text(watched_s), time_text(_SURE_WATCH_S)
    if not ended_midway(capture) or not watched_s < _SURE_WATCH_S or watched == advised:
        return ""
    return phrase(
        "a cache that still fills looks the same in {watched}; watch {advised} to be sure",
        watched=watched,
        advised=advised,
    )


def time_text(seconds: float) -> str:
    """Return a time as evidence has it: `12 s`, `58 min`, `2.5 h`."""
    if not math.isfinite(seconds):
        return phrase("the last tenth")
    if seconds >= 2 * _HOUR_S:
        return f"{seconds / _HOUR_S:.1f} h"
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(seconds, 0):.2g} s"
