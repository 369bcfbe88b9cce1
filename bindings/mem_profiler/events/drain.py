"""The drain: from the rings of a capture to blocks of a log. It runs in a child without rights.

Model: the drain reads all rings in turn, again and again. It holds events for a moment (`HOLD_NS`),
until those that other threads wrote at the same time have arrived too, and then writes them in
order of time. An event that comes later still, because its thread was stopped between reading the
clock and writing, gets the time behind the last keyframe: so a keyframe stands for all events
before it. After a hole, the site counters say what is live.

The pause between two readings follows the fill of the rings: they should be an eighth full.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.filefacts import Hole
from mem_parser.memlog.launches import Launches
from mem_parser.memlog.rolling import RollingLog
from mem_parser.model import Reading
from mem_profiler.events.counted import counted
from mem_profiler.events.domains import Domains
from mem_profiler.events.livestate import LiveState
from mem_profiler.events.rings import Hole as RingHole
from mem_profiler.events.rings import RingReader
from mem_profiler.process import procfs
from mem_profiler.profile.tables import end_of
from mem_profiler.segment.file import Segment
from mem_sandbox.child import Asked

HOLD_NS = 20_000_000
KEYFRAME_NS = 5_000_000_000
CORRECTION_NS = 1_000_000_000
FACTS_NS = 30_000_000_000
FLUSH_NS = 1_000_000_000
READING_NS = 100_000_000
PAUSE_MIN_S, PAUSE_MAX_S = 0.001, 0.05
FILL_SHARE = 0.125
BATCH_EVENTS = 1 << 16
REST_READINGS = 64  # of a program that goes on to write, though its gate is shut
WAITING_MAX_EVENTS = 8 << 20  # some 400 MB


@dataclass
class _Due:
    """Something that is done again and again; times are since the capture's start."""

    every_ns: int
    next_ns: int = 0

    def now(self, now_ns: int) -> bool:
        """Whether it is due; then it is due again later."""
        if now_ns < self.next_ns:
            return False
        self.next_ns = now_ns + self.every_ns
        return True


@dataclass(frozen=True)
class Outlet:
    """A log, and what its source knows: the live blocks, the domains. `note_drained` says how far
    it has come.
    """

    log: RollingLog
    state: LiveState
    domains: Domains
    note_drained: Callable[[list[int]], None]


class Drain:
    """One capture's events on their way into a log."""

    def __init__(
        self,
        segment: Segment,
        reader: RingReader,
        outlet: Outlet,
        now_ns: Callable[[], int],
        *,
        prompt_facts: bool = False,
    ) -> None:
        """`now_ns` is the target's clock. `prompt_facts`: the log has the facts of new threads and
        marks soon after their events, for those who read it as it grows.
        """
        control = segment.control()
        self._segment = segment
        self._reader = reader
        self._log, self._state, self._domains = outlet.log, outlet.state, outlet.domains
        self._note_drained = outlet.note_drained
        self._now_ns = now_ns
        self._start_ns = int(control.capture["start_ns"])
        self._pid = control.number("pid")
        self._waiting: list[Events] = []
        self._launches: list[Launches] = []
        self._holes: list[RingHole] = []
        self._state_is_wrong = False
        self._read_ns = self._start_ns
        self._most_read = 0
        self._keyframe_ns = 0
        self._keyframes = _Due(KEYFRAME_NS, KEYFRAME_NS)
        self._corrections = _Due(CORRECTION_NS)
        self._facts = _Due(FACTS_NS, FACTS_NS)
        self._flushes = _Due(FLUSH_NS)
        self._readings = _Due(READING_NS)
        self._seen: list[tuple[int, int]] = []  # when, and how much was resident; not yet written
        self._high_bytes = 0
        self._prompt_facts = prompt_facts
        self._threads = 0
        self._has_news = False

    def run(self, asked: Asked) -> dict[str, int]:
        """Drain until the end is requested; returns the numbers of read and of lost events."""
        pause_s = PAUSE_MIN_S
        while True:
            ends = asked()
            self.read_rings()
            self._write()
            if ends:
                break
            pause_s = self._pause(pause_s)
            time.sleep(pause_s)
        self._write_rest()
        self._write_readings()
        return {
            "events": self._reader.read_events,
            "lost": self._reader.lost_events,
            "senseless": self._reader.senseless_events,
        }

    def _write_rest(self) -> None:
        """Write all held events, and the rest of the rings."""
        for _ in range(REST_READINGS):
            self._pass_on(None)
            self.read_rings()
            self._write()
            if not self._waiting and not self._launches and not self._holes:
                return

    def end_ns(self) -> int:
        """When the capture ended, since its start: on a busy machine that is noticed later."""
        control, now_ns = self._segment.control(), self._now_ns()
        if int(control.capture["start_ns"]) != self._start_ns:  # that of the next one
            return now_ns - self._start_ns
        return end_of(control, None if control.number("exited_ns") else now_ns) - self._start_ns

    def note_all(self) -> None:
        """Say that all that was read is in the file; the log has ended."""
        self._note_drained(self._reader.taken)

    def _pause(self, pause_s: float) -> float:
        """Twice as long, or half, so that the rings fill to the share that they should."""
        goal, read = self._reader.ring_events * FILL_SHARE, self._most_read
        self._most_read = 0
        factor = 2.0 if read < goal / 2 else 0.5 if read > goal else 1.0
        return min(max(pause_s * factor, PAUSE_MIN_S), PAUSE_MAX_S)

    def read_rings(self) -> None:
        """Read the rings, unless too many events are held already."""
        if sum(map(len, self._waiting)) > WAITING_MAX_EVENTS:
            return
        self._read_ns = self._now_ns()
        batch = self._reader.take(self._read_ns)
        self._most_read = max(self._most_read, batch.most_of_one_ring)
        if len(batch.events):
            self._waiting.append(
                dataclasses.replace(
                    batch.events,
                    time_ns=batch.events.time_ns - self._start_ns,
                    birth_ns=batch.events.birth_ns - self._start_ns,
                )
            )
        if len(batch.launches):
            since_ns = batch.launches.time_ns - self._start_ns
            self._launches.append(dataclasses.replace(batch.launches, time_ns=since_ns))
        self._holes += batch.holes

    def _write(self) -> None:
        """Write events that are old enough, and other due data."""
        since_ns = self._read_ns - self._start_ns
        holes, self._holes = self._holes, []
        self._pass_on(since_ns - HOLD_NS)
        self._write_holes(holes)
        self._do_what_is_due(since_ns)

    def _write_holes(self, holes: list[RingHole]) -> None:
        for hole in holes:
            begin, end = hole.from_ns - self._start_ns, hole.to_ns - self._start_ns
            self._log.append_hole(Hole(max(begin, 0), max(end, begin, 0), hole.events, hole.ring))
            self._state_is_wrong = True

    def _pass_on(self, until_ns: int | None) -> None:
        """Give the log the events that are old enough; None: all. Launches go first, and all of
        them: they wait for no others.
        """
        self._pass_on_launches()
        if not self._waiting:
            return
        events = Events.joined(self._waiting).in_order()
        ready, self._waiting = events, []
        if until_ns is not None:
            cut = int(np.searchsorted(events.time_ns, until_ns, side="right"))
            ready = events.take(slice(0, cut))
            if cut < len(events):
                self._waiting = [events.take(slice(cut, None))]
        if len(ready):
            self._log_events(ready)

    def _log_events(self, ready: Events) -> None:
        late = ready.time_ns <= self._keyframe_ns
        if late.any():
            ready = dataclasses.replace(
                ready, time_ns=np.maximum(ready.time_ns, self._keyframe_ns + 1)
            )
        if int(ready.domain.max()) >= len(self._domains.names):
            self._domains.update()
            self._log.begin_file(self._domains.names, self._domains.rates_bytes)
        for low in range(0, len(ready), BATCH_EVENTS):
            some = ready.take(slice(low, low + BATCH_EVENTS))
            self._state.add(some)
            self._log.append_events(some)  # which may begin a file, and ask for the state
            self._note_news(some)
            self.read_rings()

    def _pass_on_launches(self) -> None:
        waiting, self._launches = self._launches, []
        for launches in waiting:
            self._log.append_launches(launches)
            self._note_threads(1 + int(launches.thread.max()))

    def _note_news(self, events: Events) -> None:
        """Note threads and marks that the facts in the log do not have yet."""
        if bool((events.kind == Kind.MARK).any()):
            self._has_news = self._prompt_facts
        self._note_threads(1 + int(events.thread.max()))

    def _note_threads(self, threads: int) -> None:
        if threads > self._threads:
            self._threads = threads
            self._has_news = self._prompt_facts

    def _do_what_is_due(self, since_ns: int) -> None:
        self._look(since_ns)
        if self._keyframes.now(since_ns) or (
            self._state_is_wrong and self._corrections.now(since_ns)
        ):
            self._write_keyframe()
        if self._facts.now(since_ns):
            self._log.append_facts()
        if self._readings.now(since_ns):
            self._write_readings()
        if self._flushes.now(since_ns):
            self._write_what_is_noted()

    def _write_what_is_noted(self) -> None:
        """Record the log's progress. A successor continues there, so no earlier event may be held
        here; events read meanwhile are recorded the next time.
        """
        taken, (holes, self._holes) = self._reader.taken, (self._holes, [])
        self._pass_on(None)
        self._write_holes(holes)
        self._log.flush()
        if self._has_news:
            self._has_news = False
            self._log.append_facts()
        self._note_drained(taken)

    def _write_keyframe(self) -> None:
        if self._state_is_wrong:
            self._state_is_wrong = False
            found = counted(self._segment, self._now_ns() - self._start_ns)
            self.read_rings()
            self._pass_on(None)
            self._state.set_to(found)
        self._keyframe_ns = self._state.time_ns
        self._log.append_keyframe(self._state.keyframe())

    def _look(self, since_ns: int) -> None:
        """Note how much is resident: the highest and the latest since the last readings."""
        resident = procfs.resident(self._pid)
        if resident is None or not resident.rss_bytes:
            return
        latest, seen = (since_ns, resident.rss_bytes), self._seen
        high = procfs.kinds(self._pid)["peak_rss_bytes"] or 0
        if high > self._high_bytes:
            self._high_bytes = high
            seen = [*seen, (since_ns, high)]  # a moment ago, between two looks
        self._seen = [max([*seen, latest], key=lambda one: one[1]), latest]

    def _write_readings(self) -> None:
        seen, self._seen = sorted(set(self._seen)), []
        if seen:
            events = self._reader.read_events
            self._log.append_readings(
                [Reading(when_ns / 1e9, 0.0, 0.0, events, rss_bytes) for when_ns, rss_bytes in seen]
            )
