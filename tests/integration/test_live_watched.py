"""A process that is watched while it runs: nothing in it is changed, what ends the watching is
told, and a program that was started again is found.
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attach_run import Unprepared
from controller_tools import HeapFile, refused, wait_until
from javascript import JAVASCRIPT, OPTIONS
from mem_parser.errors import TargetBusy
from mem_parser.live.naming import Naming
from mem_profiler import attach as attaching
from mem_profiler.capture import recover, toggle
from mem_profiler.capture.session import Rates
from mem_profiler.live import jit_watch, successor, watched
from mem_profiler.live.successor import Identity
from mem_profiler.live.watched import State, Watched
from mem_profiler.process import cgroup
from mem_profiler.segment.presence import Left
from sampler_run import WAIT_S, Target, build, environment, segments
from watching import COMMAND, OFTEN, content, held, keeper, until


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


BOTH = pytest.mark.parametrize("rates", [None, Rates(1)], ids=["looks on", "own capture"])


@pytest.fixture
def attached(segment_dir: Path) -> Iterator[Target]:
    """The same, which was attached to."""
    with Unprepared.started(COMMAND, segment_dir) as running:
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


@pytest.mark.parametrize("sees", [True, False], ids=["seen", "not seen"])
def test_an_own_capture_of_a_killed_program_is_left_until_it_is_in_a_file(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, sees: bool
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DIR", str(target.folder))
    watched = Watched(target.pid, Rates(1), OFTEN)
    target.ask("5000000")
    target.kill()
    if sees:
        until(watched, State.ENDED)
    watched.close()
    [result] = recover.recover_pid(target.pid, str(tmp_path / "p"))
    written = HeapFile(result.path)
    assert written.header["kind"] == "recovered"
    assert int(written.first_line.split()[3]) >= 5_000_000
    assert not segments(target.folder)


def test_an_own_capture_that_is_in_a_file_leaves_nothing(target: Target, tmp_path: Path) -> None:
    watched = Watched(target.pid, Rates(1), OFTEN)
    target.kill()
    until(watched, State.ENDED)
    assert watched.leaves
    watched.write(str(tmp_path / "p"))
    watched.close()
    assert not segments(target.folder)


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
    assert moment.profiles[0].capture.end == "stopped"
    watched.close()
    assert attached.ask("1") == "ok"


def test_who_detaches_meets_a_line_while_somebody_captures(attached: Target) -> None:
    watched = watch(attached, Rates(1))
    done = refused(4, "detach", attached.pid, variables={"MEM_PROFILER_DIR": str(attached.folder)})
    assert "is being captured" in done
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
    with Target.started([build("undumpable.c"), "prctl"], environment(segment_dir)) as running:
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


WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


def started(stack: contextlib.ExitStack, *arguments: str) -> subprocess.Popen[str]:
    child = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", WAIT, *arguments], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
    )  # fmt: skip
    stack.callback(child.kill)
    assert child.stdout.readline() == "ready\n"
    return child


def identity(child: subprocess.Popen[str]) -> Identity:
    found = Identity.of(child.pid)
    assert found is not None
    return found


def test_the_one_of_the_same_command_line_that_was_started_later_is_found() -> None:
    with contextlib.ExitStack() as stack:
        earlier = started(stack, "serve-this")
        first = started(stack, "serve-this")
        ended = identity(first)
        first.kill()
        first.wait(timeout=60)
        assert identity(earlier).started_ticks <= ended.started_ticks
        seen_s = watched._since_boot_s()
        started(stack, "serve-other")
        again = started(stack, "serve-this")
        earlier.kill()
        earlier.wait(timeout=60)
        assert successor.find(ended, seen_s) == [again.pid]


def test_a_worker_that_was_there_all_along_does_not_take_the_place_of_one_that_was_killed() -> None:
    with contextlib.ExitStack() as stack:
        first = started(stack, "serve-workers")
        ended = identity(first)
        others = [started(stack, "serve-workers") for _ in range(2)]
        seen_s = identity(others[1]).started_ticks / os.sysconf("SC_CLK_TCK") + 0.015
        first.kill()
        first.wait(timeout=60)
        assert successor.find(ended, seen_s) == []
        # Of another parent, as after a restart without a gap: any of them.
        of_other = dataclasses.replace(ended, parent=1)
        assert successor.find(of_other, seen_s) == [one.pid for one in others]
        wait_until(lambda: watched._since_boot_s() > seen_s + 0.02, "the next clock ticks")
        again = started(stack, "serve-workers")
        assert successor.find(ended, seen_s) == [again.pid]


def test_without_one_there_is_none() -> None:
    with contextlib.ExitStack() as stack:
        first = started(stack, "serve-alone")
        ended = identity(first)
        first.kill()
        first.wait(timeout=60)
        started(stack, "serve-other")
        assert Identity.of(ended.pid) is None
        assert successor.find(ended, watched._since_boot_s()) == []


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("0::/system.slice/redis.service", "/system.slice/redis.service"),
        ("0::/user.slice/user-0.slice/session-1.scope", ""),
        ("0::/", ""),
        ("1:name=systemd:/system.slice/a.service", "/system.slice/a.service"),
        ("4:memory:/system.slice/a.service", ""),
    ],
)
def test_only_a_group_of_one_service_tells_who_belongs_together(
    tmp_path: Path, line: str, unit: str
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"{line}\n", encoding="ascii")
    assert cgroup.unit_of(7, proc=tmp_path) == unit


@pytest.fixture
def node(segment_dir: Path, tmp_path: Path) -> Iterator[Target]:
    """A program of JavaScript whose runtime lists its code."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    script = tmp_path / "serving.js"
    script.write_text(JAVASCRIPT)
    words = [found, *OPTIONS, str(script)]
    with Target.started(words, environment(segment_dir), cwd=tmp_path) as running:
        yield running
    Path(f"/tmp/perf-{running.pid}.map").unlink(missing_ok=True)


def names(watched: Watched, naming: Naming) -> set[str]:
    watched.tick()
    moment = watched.moment()
    return {one.name for one in naming.names(moment.profiles[0]).functions}


def test_names_come_with_the_code_and_not_anew_for_each_moment(
    node: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit_watch, "EVERY_S", 0.05)
    watched, naming = Watched(node.pid, Rates(1), OFTEN), Naming()
    assert node.ask("go") == "ok"
    give_up = time.monotonic() + WAIT_S
    while not {"makeBuffer", "handleRequest"} <= names(watched, naming):
        assert time.monotonic() < give_up
    assert "laterOne" not in names(watched, naming)
    assert node.ask("later") == "ok"
    while "laterOne" not in names(watched, naming):
        assert time.monotonic() < give_up
    monkeypatch.setattr(jit_watch, "EVERY_S", 1000.0)
    first, second = watched.moment(), watched.moment()
    assert first.profiles[0].embedded is second.profiles[0].embedded is not None
    watched.close()


@pytest.mark.parametrize(
    "told",
    [
        None,
        7,
        [None],
        [[1]],
        [["a", "b"]],
        [[-1, "x"]],
        [[2, "x"]],
        [[0, 5]],
        [[0, "x", 1]],
        {"a": 1},
    ],
)
def test_an_answer_that_makes_no_sense_names_nothing(told: object) -> None:
    addresses = np.array([0x9000, 0x9008], dtype=np.uint64)
    assert jit_watch._checked(told, addresses) == {}
    assert jit_watch._checked([[1, "serve"]], addresses)[0x9008].name == "serve"
