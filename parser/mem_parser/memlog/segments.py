"""Cut a run's time at keyframes, where the live set is known anew.

One keyframe is enough, and all else follows from the events. But behind a hole nothing is sure
until the next keyframe. So a segment begins with the first keyframe of all, or with the first one
behind a hole; from the hole on to its end it is not sure.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from mem_parser.memlog.run import KeyframeBlocks, Run


@dataclass(frozen=True, slots=True)
class Segment:
    """Moments from ``from_ns`` on, up to and without ``to_ns``.

    ``base``: the keyframe of what was live at ``from_ns``; None: unknown, so only births and deaths
    count. ``sure_until_ns``: from there on events are missing; ``to_ns`` where none are.
    """

    from_ns: int
    to_ns: int
    base: KeyframeBlocks | None
    sure_until_ns: int

    @property
    def events_after_ns(self) -> int:
        """Its events are those after this time, up to and with ``to_ns``: a keyframe has all events
        of its own time.
        """
        return self.from_ns - (self.base is None)


def segments_of(run: Run) -> list[Segment]:
    """Return the segments of a run, by time, without gaps from its first moment to its last."""
    begin, end = run.begin_ns, run.end_ns + 1
    segments: list[Segment] = []
    base = _first_good(run, begin)
    if base is None or any(b.entry.head.first <= base.time_ns for b in run.blocks[:1]):
        segments.append(Segment(begin, end if base is None else base.time_ns, None, begin))
    while base is not None:
        low = base.time_ns
        # A hole without length says that something is missing from then on.
        holes = [h for h in run.holes if h.to_ns > low or h.from_ns == h.to_ns == low]
        behind = min((h.to_ns for h in holes), default=None)
        after = None if behind is None else _first_good(run, max(behind, low + 1))
        stop = end if after is None else after.time_ns
        sure = min((max(h.from_ns, low) for h in holes if h.from_ns < stop), default=stop)
        segments.append(Segment(low, stop, base, sure))
        base = after
    return segments


def latest_base(run: Run, time_ns: int) -> int:
    """Return the last moment up to ``time_ns`` at which what was live became known anew."""
    known = [s.from_ns for s in segments_of(run) if s.from_ns <= time_ns]
    return max(known, default=run.begin_ns)


def latest_exact(run: Run, segment: Segment, time_ns: int) -> KeyframeBlocks | None:
    """Return the keyframe from which the way to a moment of a segment is shortest: the last one
    that is a sum of events, else the segment's base; None where that is unknown.
    """
    if segment.base is None:
        return None
    stop = bisect.bisect_right(run.keyframes, time_ns, key=_time)
    for at in reversed(run.keyframes[:stop]):
        if at.time_ns <= segment.from_ns:
            break
        if at.time_ns > segment.sure_until_ns:
            continue
        keyframe = run.keyframe(at)
        if keyframe is not None and keyframe.exact:
            return at
        if keyframe is not None:
            break
    return segment.base


def _first_good(run: Run, from_ns: int) -> KeyframeBlocks | None:
    """Return the first keyframe at or after a time that is not damaged."""
    while True:
        k = bisect.bisect_left(run.keyframes, from_ns, key=_time)
        if k == len(run.keyframes):
            return None
        at = run.keyframes[k]
        if run.keyframe(at) is not None:
            return at


def _time(at: KeyframeBlocks) -> int:
    return at.time_ns
