"""What a drain writes, and when: each reading of the rings is given by the test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_segment import FakeSegment
from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.events import Events
from mem_parser.memlog.launches import Launches
from mem_parser.memlog.reader import Memlog
from mem_parser.memlog.rolling import RollingLog
from mem_parser.memlog.writer import Put
from mem_parser.model import Profile, StackTable
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonStacks
from mem_profiler.events.drain import HOLD_NS, Drain, Outlet
from mem_profiler.events.livestate import LiveState
from mem_profiler.events.rings import Batch, Hole
from mem_profiler.segment.file import Segment
from memlogs import events_of, facts, facts_profile, stack_table

STEP_NS = HOLD_NS // 100
"""Between two events: all of a test's events are young enough to be held back."""
READINGS = 9


class OneFile:
    """The one file of a log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")

    def begin(self, number: int) -> Put:
        assert number == 1
        return self._put

    def _put(self, block: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(block)

    def end(self) -> None:
        raise AssertionError("a second file begins")

    def close(self) -> None:
        pass

    def times_ns(self) -> list[int]:
        """The times of the events that are in the file so far."""
        with Memlog(self.path) as log:
            return sorted(Events.joined([Events.none(), *log.events()]).time_ns.tolist())

    def lost(self) -> int:
        with Memlog(self.path) as log:
            return sum(hole.lost or 0 for hole in log.holes)


class OneStack:
    """A source of a log whose events all have stack 0."""

    def __init__(self, state: LiveState) -> None:
        self._state = state

    def facts(self) -> Profile:
        return facts_profile()

    def keyframe(self) -> Keyframe:
        return self._state.keyframe()

    def stacks(self, numbers: np.ndarray) -> StackTable:
        return stack_table([(1,) for _ in numbers])

    def python(self) -> PythonStacks:
        raise AssertionError("no stack has a frame of Python")

    def labels(self) -> Labels | None:
        raise AssertionError("no stack has a label")

    def texts(self, numbers: Sequence[int]) -> list[bytes]:
        raise AssertionError("nothing is launched")


class Rings:
    """As a RingReader: a ring that has one new event, or one that was overwritten, at each reading,
    so READINGS times.
    """

    ring_events = 1 << 10
    senseless_events = 0

    def __init__(self, start_ns: int, *, readings: int, lost: tuple[int, ...] = ()) -> None:
        self.start_ns, self.readings, self.lost = start_ns, readings, lost
        self.done = 0

    @property
    def now_ns(self) -> int:
        return self.start_ns + self.done * STEP_NS

    @property
    def taken(self) -> list[int]:
        return [self.done]

    @property
    def lost_events(self) -> int:
        return sum(k < self.done for k in self.lost)

    @property
    def read_events(self) -> int:
        return self.done - self.lost_events

    def take(self, _now_ns: int) -> Batch:
        if self.done == self.readings:
            return Batch(Events.none(), Launches.none(), [], 0, 0)
        k, self.done = self.done, self.done + 1
        if k in self.lost:
            hole = Hole(0, 1, self.now_ns, self.now_ns)
            return Batch(Events.none(), Launches.none(), [hole], 0, 1)
        rows: list[dict[str, int]] = [{"time_ns": self.now_ns, "address": 16 * (k + 1)}]
        return Batch(events_of(rows), Launches.none(), [], 0, 1)


@dataclasses.dataclass
class Domains:
    names: tuple[str, ...] = ("host",)
    rates_bytes: tuple[float, ...] = (1.0,)


@contextmanager
def draining(
    folder: Path, lost: tuple[int, ...], noted: Callable[[OneFile, Rings, int], None]
) -> Iterator[tuple[Drain, RollingLog, OneFile, Rings]]:
    """A drain of these rings into a log. `noted` gets the number that the drain notes."""
    fake = FakeSegment()
    fake.begin()
    with Segment.open(fake.save(folder), writable=False) as segment:
        start_ns = int(segment.control().capture["start_ns"])
        reader: Any = Rings(start_ns, readings=READINGS, lost=lost)
        file, state, domains = OneFile(folder / "x.memlog"), LiveState(), Domains()
        log = RollingLog(file, facts(), OneStack(state))
        outlet = Outlet(
            log,
            state,
            domains,
            lambda numbers: noted(file, reader, numbers[0]),  # type: ignore[arg-type]
        )
        yield Drain(segment, reader, outlet, lambda: reader.now_ns), log, file, reader


def nothing(_file: OneFile, _rings: Rings, _number: int) -> None:
    """Nobody goes on with this log."""


@pytest.mark.parametrize("lost", [(), (1, 2)])
def test_what_is_noted_as_drained_is_in_the_file(tmp_path: Path, lost: tuple[int, ...]) -> None:
    notes = []

    def check(file: OneFile, rings: Rings, number: int) -> None:
        notes.append(number)
        kept = [k for k in range(number) if k not in rings.lost]
        wanted = [(k + 1) * STEP_NS for k in kept]
        assert file.times_ns()[: len(wanted)] == wanted
        assert file.lost() >= number - len(kept)

    with draining(tmp_path, lost, check) as (drain, log, _, _):
        drain.run(lambda: True)
        log.end("stopped")
        drain.note_all()
    assert notes[0] > 0
    assert notes[-1] == READINGS


@pytest.mark.parametrize("lost", [(), (4, 8)])
def test_the_end_of_a_log_has_what_came_while_it_was_written(
    tmp_path: Path, lost: tuple[int, ...]
) -> None:
    with draining(tmp_path, lost, nothing) as (drain, log, file, rings):
        told = drain.run(lambda: True)
        assert rings.done == READINGS
        assert told == {"events": READINGS - len(lost), "lost": len(lost), "senseless": 0}
        log.end("stopped")
    assert file.times_ns() == [(k + 1) * STEP_NS for k in range(READINGS) if k not in lost]
    assert file.lost() == len(lost)
