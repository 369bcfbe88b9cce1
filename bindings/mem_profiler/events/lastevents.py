"""Write the events that the rings still hold at the end of an undrained capture.

Model: each ring still has its latest events, from a different time on. The site counters give the
live blocks at the end; undoing the events since the latest of these times gives the live blocks at
that time, and the log begins with them. Earlier events are in the log too, after a hole.
"""

from __future__ import annotations

import dataclasses

from mem_parser.memlog.events import Events
from mem_parser.memlog.filefacts import Hole
from mem_parser.memlog.rolling import RollingLog
from mem_profiler.events.counted import counted
from mem_profiler.events.livestate import LiveState
from mem_profiler.events.rings import Batch, RingReader
from mem_profiler.segment.file import Segment

ANY_TIME_NS = 1 << 59  # the clock of a dead process may be that of another machine
BATCH_EVENTS = 1 << 16


class LastEvents:
    """The content of a segment's rings, read once."""

    def __init__(self, segment: Segment) -> None:
        control = segment.control()
        reader = RingReader(segment, control, drained=True)
        batch = reader.take(ANY_TIME_NS)
        self._start_ns = int(control.capture["start_ns"])
        self.events: Events = dataclasses.replace(
            batch.events,
            time_ns=batch.events.time_ns - self._start_ns,
            birth_ns=batch.events.birth_ns - self._start_ns,
        )
        self.launches = dataclasses.replace(
            batch.launches, time_ns=batch.launches.time_ns - self._start_ns
        )
        self.holes = [self._hole(hole.from_ns, hole.to_ns, hole.events) for hole in batch.holes]
        self.told = {
            "events": reader.read_events,
            "lost": reader.lost_events,
            "senseless": reader.senseless_events,
        }
        self.taken = reader.taken
        """The number of each ring's first event that is not among these."""
        self.state = self._state_before(segment, batch)

    def _hole(self, from_ns: int, to_ns: int, lost: int) -> Hole:
        last_ns = int(self.events.time_ns[-1]) if len(self.events) else 0
        begin = min(max(from_ns - self._start_ns, 0), last_ns)
        return Hole(begin, min(max(to_ns - self._start_ns, begin), last_ns), lost)

    def _state_before(self, segment: Segment, batch: Batch) -> LiveState:
        """The live blocks at the time when all rings have events."""
        state = LiveState()
        if not len(self.events):
            return state
        last_ns = int(self.events.time_ns[-1])
        whole_ns = max((hole.to_ns for hole in self.holes), default=-1)
        state.set_to(counted(segment, last_ns))
        since = self.events.take(self.events.time_ns > whole_ns)
        state.go_back(since, max(whole_ns, 0))
        state.exact = not batch.holes
        return state

    def write_to(self, log: RollingLog) -> None:
        """Put all of it into a log, whose source has `state`."""
        for hole in self.holes:
            log.append_hole(hole)
        log.append_launches(self.launches)
        for low in range(0, len(self.events), BATCH_EVENTS):
            some = self.events.take(slice(low, low + BATCH_EVENTS))
            self.state.add(some.take(some.time_ns > self._covered_ns))
            log.append_events(some)

    @property
    def _covered_ns(self) -> int:
        """The keyframe at the beginning of the log stands for all events up to this time."""
        return max((hole.to_ns for hole in self.holes), default=-1)
