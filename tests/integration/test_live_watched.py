"""A process that is watched while it runs, by real segments: nothing in them is changed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mem_profiler.capture import toggle
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State, Watched
from sampler_run import Target
from watching import OFTEN, content, held, keeper


@pytest.fixture
def target(segment_dir: Path) -> Iterator[Target]:
    """A program that keeps a block of each size that it is told."""
    with keeper(segment_dir) as running:
        assert running.line() == "ready"
        yield running


def test_an_own_capture_shows_what_the_program_allocates_and_ends_with_the_watching(
    target: Target,
) -> None:
    watched = Watched(target.pid, Rates(1), OFTEN)
    assert (watched.is_own, watched.tick()) == (True, State.CAPTURED)
    assert held(watched) < 300_000
    target.ask("7654321")
    assert 7_654_321 <= held(watched) < 8_000_000, "what was held before may be freed"
    watched.close()
    with Watched(target.pid, None, OFTEN).segment as segment:
        control = segment.control()
        assert not control.gate_capture
        assert control.number("written_capture") == control.number("capture_number") == 1
        assert segment.lock_holder() is None


def test_any_number_look_on_and_change_nothing(target: Target) -> None:
    toggle.start(target.pid, 1)
    target.ask("1000000")
    os.kill(target.pid, signal.SIGSTOP)
    os.waitpid(target.pid, os.WUNTRACED)
    before = content(target)
    watchers = [Watched(target.pid, Rates(1), OFTEN) for _ in range(3)]
    for one in watchers:
        assert one.segment.lock_holder() is None
        assert (one.is_own, one.tick()) == (False, State.CAPTURED)
        assert held(one) > 1_000_000
    assert len({held(one) for one in watchers}) == 1
    for one in watchers:
        one.close()
    assert content(target) == before


def test_a_capture_that_another_ended_is_idle_and_the_next_one_is_followed(
    target: Target, tmp_path: Path
) -> None:
    toggle.start(target.pid, 1)
    watched = Watched(target.pid, None, OFTEN)
    target.ask("3000000")
    watched.tick()
    first = watched.moment()
    assert first is not None
    toggle.stop(target.pid, str(tmp_path / "p"))
    assert watched.tick() is State.IDLE
    toggle.start(target.pid, 1)
    assert watched.tick() is State.CAPTURED
    second = watched.moment()
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    assert int(second.profiles[0].sites.inuse_bytes.sum()) < 3_000_000
    assert second.profiles[0].stacks.series is not first.profiles[0].stacks.series
    assert all(reading.estimate_bytes < 3_000_000 for reading in watched.readings.host.series)
    watched.close()


def test_a_file_that_is_written_leaves_the_capture_running_and_unwritten(
    target: Target, tmp_path: Path
) -> None:
    toggle.start(target.pid, 1)
    watched = Watched(target.pid, None, OFTEN)
    result = watched.write(str(tmp_path / "p"))
    assert (result.end, os.path.exists(result.path)) == ("running", True)
    assert watched.segment.control().number("written_capture") == 0
    assert watched.tick() is State.CAPTURED
    watched.close()
