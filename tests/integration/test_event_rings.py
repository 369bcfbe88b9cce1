"""What the rings of events say of a real program is what the program wrote down itself."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from event_ledger import FIELDS, assert_equal, ledger, told_by
from mem_parser.memlog.events import Events
from mem_profiler.capture import gate
from mem_profiler.events.rings import RingReader, note_drained
from mem_profiler.segment import collect, layout
from mem_profiler.segment.file import Segment
from sampler_run import Controller, Target, build, environment, segments


def read_all(path: Path) -> tuple[Events, RingReader]:
    """All events of the latest capture in a segment."""
    with Segment.open(path, writable=False) as segment:
        reader = RingReader(segment, segment.control())
        assert reader.found
        batch = reader.take(time.monotonic_ns())
    return batch.events, reader


@pytest.mark.parametrize("threads", [1, 4])
def test_events_are_those_of_the_programs_ledger(tmp_path: Path, threads: int) -> None:
    env = environment(tmp_path, rate=1, events="32M")
    truth = tmp_path / "ledger"
    with Target([build("eventful.c"), str(threads), "20000", str(truth)], env) as target:
        target.line()
        assert target.ask("go") == "done"
        [path] = segments(tmp_path)
        events, reader = read_all(path)
        assert (reader.lost_events, reader.senseless_events) == (0, 0)
        assert_equal(told_by(events), ledger(truth))
        target.tell("end")
        target.finish()


def test_the_life_of_each_address_is_in_order_across_threads(tmp_path: Path) -> None:
    env = environment(tmp_path, rate=1, events="32M")
    truth = tmp_path / "ledger"
    with Target([build("eventful.c"), "4", "20000", str(truth)], env) as target:
        target.line()
        target.ask("go")
        [path] = segments(tmp_path)
        events, _ = read_all(path)
    here = np.isin(events.kind, (layout.EVENT_BIRTH, layout.EVENT_BACK))
    gone = np.isin(events.kind, (layout.EVENT_DEATH, layout.EVENT_MOVED))
    step = here.astype(np.int64) - gone
    block = here | gone
    order = np.argsort(events.address[block], kind="stable")
    address, change = events.address[block][order], step[block][order]
    begins = np.flatnonzero(np.concatenate(([True], address[1:] != address[:-1])))
    assert (change[begins] == 1).all()
    follows = np.ones(len(change), np.bool_)
    follows[begins] = False
    assert (change[1:] == -change[:-1])[follows[1:]].all()


@pytest.mark.parametrize("rate", [1, 1024])
def test_births_less_deaths_are_the_counters_of_the_same_capture(tmp_path: Path, rate: int) -> None:
    env = environment(tmp_path, rate=rate, events="32M")
    with Target([build("eventful.c"), "4", "20000", str(tmp_path / "ledger")], env) as target:
        target.line()
        target.ask("go")
        [path] = segments(tmp_path)
        with Segment.open(path, writable=False) as segment:
            control = segment.control()
            sites = collect.read_sites(segment, control, control.number("capture_number"))
            events = RingReader(segment, control).take(time.monotonic_ns()).events
    born = np.isin(events.kind, (layout.EVENT_BIRTH, layout.EVENT_BACK))
    gone = np.isin(events.kind, (layout.EVENT_DEATH, layout.EVENT_MOVED))
    stacks = (sites.keys & np.uint64((1 << layout.STACK_BITS) - 1)).astype(np.int64)
    size = int(max(stacks.max(), events.stack.max())) + 1
    live = np.bincount(stacks, sites.alloc_bytes - sites.freed_bytes, size)
    sign = born.astype(np.float64) - gone
    told = np.bincount(events.stack, sign * events.size_bytes, size)
    assert told.tolist() == live.tolist()
    births = events.stack[events.kind == layout.EVENT_BIRTH]
    made = np.bincount(stacks, sites.alloc_blocks, size)
    assert np.bincount(births, minlength=size).tolist() == made.tolist()


def test_small_rings_keep_the_latest_and_count_the_rest(tmp_path: Path) -> None:
    env = environment(tmp_path, rate=1, events="64K")
    truth = tmp_path / "ledger"
    with Target([build("eventful.c"), "1", "20000", str(truth)], env) as target:
        target.line()
        target.ask("go")
        [path] = segments(tmp_path)
        with Segment.open(path, writable=False) as segment:
            reader = RingReader(segment, segment.control())
            batch = reader.take(time.monotonic_ns())
    kept = told_by(batch.events)
    [hole] = batch.holes
    assert reader.ring_events - 1 <= len(kept) <= reader.ring_events
    true = ledger(truth)
    assert kept[list(FIELDS)].tolist() == true[-len(kept) :][list(FIELDS)].tolist()
    assert hole.events + len(batch.events) == reader.read_events + reader.lost_events
    assert hole.events >= len(true) - len(batch.events)
    assert hole.from_ns < hole.to_ns == int(kept["before_ns"][0])


def test_a_controller_starts_a_capture_with_events_and_one_without(tmp_path: Path) -> None:
    argv = [build("eventful.c"), "1", "1000", str(tmp_path / "l")]
    with Target(argv, environment(tmp_path)) as target:
        target.line()
        with Controller(target) as controller:
            segment = controller.segment
            gate.start(segment, target.pid, 1, None, events_bytes=4 << 20)
            reader = RingReader(segment, segment.control())
            assert reader.found
            target.ask("go")
            seen = told_by(reader.take(time.monotonic_ns()).events)
            assert len(seen) == len(ledger(tmp_path / "l"))
            note_drained(segment, reader.taken)
            again = RingReader(segment, segment.control(), drained=True)
            assert len(again.take(time.monotonic_ns()).events) == 0
            gate.stop(segment, target.pid, 1)
            gate.start(segment, target.pid, 1, None)
            assert not RingReader(segment, segment.control()).found


def test_events_outlive_a_killed_program(tmp_path: Path) -> None:
    env = environment(tmp_path, rate=1, events="8M")
    truth = tmp_path / "ledger"
    with Target([build("eventful.c"), "2", "2000", str(truth)], env) as target:
        target.line()
        target.ask("go")
        target.kill()
    [path] = segments(tmp_path)
    events, _ = read_all(path)
    assert_equal(told_by(events), ledger(truth))


def test_fork_children_that_are_followed_write_events_of_their_own(tmp_path: Path) -> None:
    env = environment(tmp_path, rate=1, events="1M", follow_fork="1")
    with Target([build("forks.c"), "fork"], env) as target:
        while target.line() != "done":
            pass
        found = [read_all(path)[1].read_events for path in segments(tmp_path)]
        target.kill()
    assert len(found) > 1
    assert all(found)
