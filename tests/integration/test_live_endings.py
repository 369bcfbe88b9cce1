"""What ends the watching of a process, and what does not: each is told from the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from attach_run import Unprepared
from controller_tools import HeapFile, run_command
from mem_parser.errors import TargetBusy
from mem_profiler import attach as attaching
from mem_profiler.capture import toggle
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State, Watched
from mem_profiler.segment.presence import Left
from sampler_run import Target, build, environment, segments
from watching import COMMAND, OFTEN, held, keeper, until

BOTH = pytest.mark.parametrize("rates", [None, Rates(1)], ids=["looks on", "own capture"])


@pytest.fixture
def target(segment_dir: Path) -> Iterator[Target]:
    """A program that keeps a block of each size that it is told."""
    with keeper(segment_dir) as running:
        assert running.line() == "ready"
        yield running


@pytest.fixture
def attached(segment_dir: Path) -> Iterator[Target]:
    """The same, which was attached to."""
    with Unprepared(COMMAND, segment_dir) as running:
        assert running.line() == "ready"
        attaching.attach(running.pid)
        yield running


def watch(target: Target, rates: Rates | None) -> Watched:
    """Watch a capture of somebody else, or one of one's own."""
    if rates is None:
        toggle.start(target.pid, 1)
    return Watched(target.pid, rates, OFTEN)


@BOTH
def test_the_last_state_of_a_killed_program_is_still_there(
    target: Target, rates: Rates | None, tmp_path: Path
) -> None:
    watched = watch(target, rates)
    target.ask("5000000")
    target.kill()
    until(watched, State.ENDED)
    assert "SIGKILL" in watched.why or watched.why == "target ended"
    assert watched.left is None
    assert held(watched) >= 5_000_000
    written = HeapFile(watched.write(str(tmp_path / "p")).path)
    assert written.header["kind"] == ("capture" if rates else "snapshot")
    assert written.header["end"] == watched.why
    watched.close()


@BOTH
@pytest.mark.parametrize("how", ["exec", "exec without"])
def test_a_program_that_becomes_another_one_has_ended(
    target: Target, rates: Rates | None, how: str
) -> None:
    watched = watch(target, rates)
    target.ask("5000000")
    target.tell(how)
    until(watched, State.ENDED)
    assert watched.left is Left.EXEC
    assert watched.why == "it started another program (exec)"
    assert held(watched) >= 5_000_000
    watched.close()


def test_a_detach_by_somebody_else_is_told_from_an_exec(attached: Target, tmp_path: Path) -> None:
    watched = watch(attached, None)
    attached.ask("5000000")
    watched.tick()
    toggle.stop(attached.pid, str(tmp_path / "p"))
    until(watched, State.IDLE)
    attaching.detach(attached.pid)
    until(watched, State.ENDED)
    assert watched.left is Left.DETACHED
    assert watched.why == "its sampler was taken out (mem_profiler detach)"
    assert held(watched) >= 5_000_000
    moment = watched.moment()
    assert moment is not None
    assert moment.profiles[0].capture.end == "stopped"
    watched.close()
    assert attached.ask("1") == "ok"


def test_who_detaches_meets_a_line_while_somebody_captures(attached: Target) -> None:
    watched = watch(attached, Rates(1))
    done = run_command("detach", attached.pid, variables={"MEM_PROFILER_DIR": str(attached.folder)})
    assert done.returncode == 4
    assert "is being captured" in done.stderr
    assert watched.tick() is State.CAPTURED
    watched.close()


@BOTH
def test_an_exec_of_an_attached_process_is_no_detach(attached: Target, rates: Rates | None) -> None:
    watched = watch(attached, rates)
    attached.tell("exec")
    until(watched, State.ENDED)
    assert watched.left is Left.EXEC
    watched.close()


@BOTH
def test_a_child_that_is_forked_is_another_process(target: Target, rates: Rates | None) -> None:
    watched = watch(target, rates)
    target.ask("5000000")
    assert target.ask("fork") == "ok"
    assert watched.tick() is State.CAPTURED
    assert 5_000_000 <= held(watched) < 9_000_000
    watched.close()


@BOTH
def test_a_segment_that_somebody_removed_is_watched_on(target: Target, rates: Rates | None) -> None:
    watched = watch(target, rates)
    [path] = segments(target.folder)
    path.unlink()
    target.ask("5000000")
    watched._next_check = 0.0
    assert watched.tick() is State.CAPTURED
    assert held(watched) >= 5_000_000
    target.kill()
    until(watched, State.ENDED)
    assert watched.left is None
    assert held(watched) >= 5_000_000
    watched.close()


@BOTH
def test_a_program_that_refuses_from_now_on_says_why(
    segment_dir: Path, rates: Rates | None
) -> None:
    with Target([build("undumpable.c"), "prctl"], environment(segment_dir)) as running:
        assert running.line() == "ready"
        watched = watch(running, rates)
        assert running.ask("go") == "undumpable"
        until(watched, State.ENDED)
        assert "made itself undumpable" in watched.why
        assert watched.left is None
        watched.close()
        running.tell("end")
        running.finish()


def test_a_capture_from_the_start_is_looked_at_whoever_asks(segment_dir: Path) -> None:
    with keeper(segment_dir, rate=1) as running:
        assert running.line() == "ready"
        running.ask("5000000")
        watched = Watched(running.pid, Rates(64), OFTEN)
        assert (watched.is_own, watched.tick()) == (False, State.CAPTURED)
        moment = watched.moment()
        assert moment is not None
        assert moment.profiles[0].rate_bytes == 1
        assert moment.profiles[0].capture.from_start
        assert held(watched) >= 5_000_000
        watched.close()
        assert Watched(running.pid, None, OFTEN).tick() is State.CAPTURED


def test_who_looks_on_sees_a_capture_of_another_viewer_end(target: Target) -> None:
    first = Watched(target.pid, Rates(1), OFTEN)
    others = [Watched(target.pid, Rates(1), OFTEN) for _ in range(3)]
    target.ask("5000000")
    assert [one.tick() for one in (first, *others)] == [State.CAPTURED] * 4
    with pytest.raises(TargetBusy):
        toggle.start(target.pid, 1)
    first.close()
    assert [one.tick() for one in others] == [State.IDLE] * 3
    assert all(held(one) >= 5_000_000 for one in others)
    assert [one.begin(Rates(1)) for one in others] == [True, False, False]
    assert [one.tick() for one in others] == [State.CAPTURED] * 3
    for one in others:
        one.close()


def test_a_killed_viewer_leaves_its_capture_to_those_who_look_on(target: Target) -> None:
    told, tell = os.pipe()
    viewer = os.fork()
    if viewer == 0:
        try:
            kept = Watched(target.pid, Rates(1), OFTEN)
            os.write(tell, b"!")
            while kept.tick() is State.CAPTURED:
                os.read(told, 0)
        finally:
            os._exit(1)
    os.read(told, 1)
    watched = Watched(target.pid, Rates(1), OFTEN)
    os.kill(viewer, 9)
    os.waitpid(viewer, 0)
    os.close(told)
    os.close(tell)
    target.ask("5000000")
    assert watched.tick() is State.CAPTURED
    assert held(watched) >= 5_000_000
    watched.close()
