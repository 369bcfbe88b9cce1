"""Attach to a process that nobody prepared: nothing it does changes, all is put back, and the time
that its threads stood still is told.
"""

import contextlib
import errno
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from attach_run import (
    SPAN_MS,
    Unprepared,
    await_threads,
    begin,
    die_at,
    end,
    end_storm,
    mappings,
    only_thread,
    signal_masks,
    storm,
    waits,
)
from controller_tools import HeapFile, command_ok, run_command, wait_until
from mem_cli.parser.group import cli
from mem_cli.profiler import attaching as by_hand
from mem_parser.errors import TargetBusy
from mem_parser.readers import read_profile
from mem_parser.reports.header import NOTED_STOP_S
from mem_profiler import attach as attaching
from mem_profiler._inject import lib
from mem_profiler.attach import control, kill_points, lock, remote, threads
from mem_profiler.attach.address_space import AddressSpace
from mem_profiler.attach.memory import Memory
from mem_profiler.capture import gate, listing, session
from mem_profiler.doctor import neighbours
from mem_profiler.live.watched import State, Watched
from mem_profiler.process import foreign, procfs
from mem_profiler.segment import discovery
from sampler_run import Controller, Counted, Target, build, environment

# kind of wait: result and errno when its time is over
WAITS = {
    "nanosleep": (0, 0),
    "until": (0, 0),
    "poll": (0, 0),
    "select": (0, 0),
    "cond": (-1, errno.ETIMEDOUT),
    "sem": (-1, errno.ETIMEDOUT),
    "epoll": (0, 0),
    "semop": (-1, errno.EAGAIN),
    "signal": (-1, errno.EAGAIN),
    "socket": (-1, errno.EAGAIN),
}
STEPS = [str(step) for step in range(1, lib.MP_STEP_DETACHED + 1)]
EARLY = STEPS[: lib.MP_STEP_CREATING]
"""Those after which no thread of ours is left: the next one may follow in the same process."""
LATE = [*STEPS[len(EARLY) :], "stage-2", "library-written", "stage-5", "acknowledged"]


def blocks(target: Unprepared) -> list[list[str]]:
    """End waits.c: its rounds, after a look at its blocks."""
    lines = [line.split() for line in target.finish().splitlines()]
    _, allocated, freed, wrong = lines.pop()
    assert (allocated, wrong) == (freed, "0")
    return lines


@pytest.mark.parametrize("kind", WAITS)
def test_an_interrupted_wait_ends_as_if_nothing_had_been(
    kind: str, segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with waits(kind, segment_dir) as target:
        with only_thread(monkeypatch, target.pid):
            begin(target.pid)
            end(target.pid)
        target.tell("end")
        rounds = blocks(target)

    assert rounds
    for _, result, error, span in rounds:
        assert (int(result), int(error)) == WAITS[kind]
        assert int(span) >= SPAN_MS


def test_every_register_and_the_signal_mask_are_as_they_were(segment_dir: Path) -> None:
    with Unprepared.started([build("registers.c")], segment_dir) as target:
        masks = signal_masks(target.pid, 1)
        for _ in range(3):
            begin(target.pid)
            assert target.ask("hello") == "same 6"
            end(target.pid)
            assert target.ask("hello") == "same 6"
            assert signal_masks(target.pid, 1) == masks
        target.finish()


def own_mask(pid: int) -> str:
    return procfs.status_words(pid)["SigBlk"]


def test_a_controller_that_dies_at_any_step_leaves_every_register_as_it_was(
    segment_dir: Path,
) -> None:
    with Unprepared.started([build("registers.c")], segment_dir) as target:
        mask = own_mask(target.pid)
        for step in EARLY:
            die_at(step, target.pid)
            assert target.ask("hello") == "same 6", step
            assert own_mask(target.pid) == mask, step
        target.finish()


@pytest.mark.parametrize("points", [EARLY, *([point] for point in LATE)], ids="-".join)
def test_the_target_goes_on_when_the_controller_dies(points: list[str], segment_dir: Path) -> None:
    with waits("nanosleep", segment_dir, 50) as target:
        for point in points:
            die_at(point, target.pid)
            target.line()
        if not attaching.is_attached(target.pid):
            attaching.attach(target.pid)
        attaching.detach(target.pid)
        target.tell("end")
        assert all(words[1:3] == ["0", "0"] for words in blocks(target))


KINDS = ["malloc", "compute", "threads", "forks", "dlopen", "alarms", "handler"]


@pytest.mark.parametrize(
    "times", [1, pytest.param(40, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_busy_process_is_captured_and_left(kind: str, times: int, segment_dir: Path) -> None:
    plugin = build("plugin.c", "-shared", "-fPIC", "-DNAME=a", "-DSIZE=500", out="storm_plugin.so")
    with storm(kind, segment_dir, plugin) as target:
        for _ in range(times):
            attaching.attach(target.pid).tick()
            attaching.detach(target.pid)
        assert end_storm(target) > 0


def test_no_thread_of_ours_stays_and_attaching_again_opens_nothing_again(segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target:
        before, threads = mappings(target.pid), sorted(os.listdir(f"/proc/{target.pid}/task"))
        attaching.attach(target.pid)
        await_threads(target.pid, len(threads))
        assert sorted(os.listdir(f"/proc/{target.pid}/task")) == threads
        attaching.detach(target.pid)
        after = mappings(target.pid)
        assert after - before == {"/memfd:libmem_sampler.so (deleted)"}
        count = len(procfs.maps(target.pid))
        for _ in range(3):
            begin(target.pid)
            end(target.pid)
        assert mappings(target.pid) == after
        assert abs(len(procfs.maps(target.pid)) - count) <= 2
        fds = os.listdir(f"/proc/{target.pid}/fd")
        assert not [fd for fd in fds if "memfd" in os.readlink(f"/proc/{target.pid}/fd/{fd}")]
        end_storm(target)


def test_only_one_at_a_time_holds_the_lock(segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target:
        with (
            lock.held(target.pid),
            pytest.raises(TargetBusy, match=f"pid {os.getpid()} .* is attaching to"),
        ):
            attaching.attach(target.pid)
        attaching.attach(target.pid)
        attaching.detach(target.pid)
        end_storm(target)


def test_the_file_of_one_who_is_out_of_sight_is_seen(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Controllers that know nothing of each other: the second finds the sampler of the first."""
    with storm("handler", segment_dir) as target:
        real_read = remote.address_space.read

        def late(pid: int, memory: Memory) -> AddressSpace:
            space = real_read(pid, memory)
            monkeypatch.setattr(remote.address_space, "read", real_read)
            monkeypatch.setattr(lock, "held", lambda _pid: contextlib.nullcontext())
            attaching.attach(pid)
            return space

        with monkeypatch.context() as patch:
            patch.setattr(remote.address_space, "read", late)
            with pytest.raises(TargetBusy, match="is attaching to"):
                remote.run(target.pid, remote.Command(remote.BEGIN))
        await_threads(target.pid, 2)
        attaching.detach(target.pid)
        end_storm(target)


def stepped(target: Target) -> tuple[int, int, int, int]:
    """Have stepper.c allocate and free what is known; blocks and bytes by it, all of main's."""
    with Controller(target) as controller:
        number = controller.start(1)
        for line in ("a 1000 40", "c 500 300", "a 20 100000"):
            assert target.ask(line) == "ok"
        counted = controller.stop(number)
    assert counted.missing == 0
    kept, all_ = counted.by("allocate"), counted.under("main")
    return kept.live_blocks, kept.live_bytes, all_.blocks, all_.bytes


def test_a_capture_by_attach_agrees_with_one_by_preload(segment_dir: Path) -> None:
    program = build("stepper.c")
    with Unprepared.started([program], segment_dir) as target:
        attaching.attach(target.pid)
        attached = stepped(target)
        attaching.detach(target.pid)
        target.finish()
    with Target.started([program], environment(segment_dir)) as target:
        preloaded = stepped(target)
        target.finish()
    assert attached == preloaded == (1020, 2040000, 1520, 2190000)


def test_the_halves_by_hand(segment_dir: Path, tmp_path: Path) -> None:
    with Unprepared.started([build("stepper.c")], segment_dir) as target:
        done = command_ok("attach", target.pid, "-c", "1")
        assert f"mem_profiler stop {target.pid}" in done.stdout
        assert target.ask("a 100 40") == "ok"
        refused = run_command("detach", target.pid)
        assert (refused.returncode, refused.stdout) == (4, "")
        assert f"mem_profiler stop {target.pid}" in refused.stderr
        assert run_command("stop", target.pid, "-o", tmp_path / "p").returncode == 0
        done = command_ok("detach", target.pid)
        assert " hooks removed" in done.stdout
        target.finish()
    assert HeapFile(next(tmp_path.glob("p.*.heap"))).total("alloc_blocks") >= 100


def test_a_second_attach_is_as_the_first_one(segment_dir: Path, tmp_path: Path) -> None:
    with Unprepared.started([build("stepper.c")], segment_dir) as target:
        out = tmp_path / "p"
        assert run_command("-s", "0.1", "-p", target.pid, "-o", out).returncode == 0
        command_ok("attach", target.pid)
        for command, said in (("snapshot", "has had no capture yet"), ("stop", "is running")):
            refused = run_command(command, target.pid, "-o", out)
            assert (refused.returncode, said in refused.stderr) == (4, True), refused.stderr
        [row] = [row for row in listing.listing().rows if row.pid == target.pid]
        assert (row.state, row.rate_bytes, row.samples) == ("idle", None, None)
        with contextlib.closing(Watched(target.pid)) as watched:
            assert (watched.tick(), watched.facts()) == (State.IDLE, None)
        command_ok("start", target.pid, "-c", "1")
        assert target.ask("a 100 40") == "ok"
        command_ok("stop", target.pid, "-o", tmp_path / "again")
        attaching.detach(target.pid)
        target.finish()
    assert HeapFile(next(tmp_path.glob("again.*.heap"))).total("alloc_blocks") >= 100


def test_libraries_that_come_and_go_are_seen(segment_dir: Path, tmp_path: Path) -> None:
    flags = ("-shared", "-fPIC", "-DNAME=b", "-DSIZE=700")
    early = build("plugin.c", *flags, f"-DAT_OPEN={1 << 20}", out="early_plugin.so")
    with Unprepared.started([build("late.c"), early], segment_dir) as target:
        attached = attaching.attach(target.pid)
        one = session.Session(target.pid)
        one.start(session.Rates(1), None)
        one.tick()
        assert target.ask("reload") == "reloaded"
        result = one.finish(str(tmp_path / "p"), "stopped")
        one.close()
        ended = attached.detach()
        assert ended is not None and (ended.kept, ended.failed) == (0, 0)
        target.finish()
    assert 5000 <= HeapFile(Path(result.path)).total("alloc_blocks") < 5050
    assert any("opened 50 libraries after the sampler came" in note for note in result.notes)
    # Blocks of constructors are missing, which is not said to be the program's mmap.
    assert any("libraries that it opened allocated before" in note for note in result.notes)


@pytest.mark.parametrize("again", [False, True], ids=["opened", "opened again where it lay"])
def test_libraries_opened_by_a_process_with_a_filter_are_seen_later(
    again: bool, segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "any_filtered", lambda _: True)
    monkeypatch.setattr(control, "CHECK_S", 0.01)
    plugin = build("plugin.c", "-shared", "-fPIC", "-DNAME=b", "-DSIZE=700", out="late_plugin.so")
    with Unprepared.started([build("late.c"), plugin], segment_dir) as target:
        if again:
            assert target.ask("open") == "opened"
        attached = attaching.attach(target.pid)

        def noticed() -> bool:
            attached.tick()
            return attached.rescans > 0

        with Controller(target) as controller:
            number = controller.start(1)
            if again:
                assert target.ask("close") == "closed"
            assert target.ask("open") == "opened"
            wait_until(noticed, "the library is noticed")
            assert target.ask("allocate") == "allocated"
            counted = controller.stop(number)
        assert counted.by("inner_b").blocks == 100
        assert "once" in (attached.note() or "")
        attaching.detach(target.pid)
        target.finish()


def test_one_who_asks_to_stop_finds_the_process_as_it_was(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_child = remote._in_child

    def once_told(pid: int, command: remote.Command, asked: Callable[[], bool]) -> Any:
        return in_child(pid, command, lambda: wait_until(asked, "told to stop") is None)

    # The child dies if it hands over the sampler before it looks whether it should.
    monkeypatch.setattr(remote, "_in_child", once_told)
    monkeypatch.setenv(kill_points.VARIABLE, "library-written")
    with storm("handler", segment_dir) as target:
        before = mappings(target.pid)
        with pytest.raises(attaching.Stopped):
            attaching.attach(target.pid, asked_to_stop=lambda: True)
        await_threads(target.pid, 2)
        assert mappings(target.pid) == before
        end_storm(target)


def test_one_who_asks_to_stop_too_late_has_attached(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_child, hand_over = remote._in_child, remote._Talk._hand_over
    handed: list[int] = []

    def told_late(pid: int, command: remote.Command, _asked: Callable[[], bool]) -> Any:
        def asked() -> bool:
            if handed:
                wait_until(lambda: attaching.is_attached(pid), "attached")
            return bool(handed)

        return in_child(pid, command, asked)

    def noted(talk: remote._Talk) -> None:
        hand_over(talk)
        handed.append(talk.pid)

    with storm("handler", segment_dir) as target:
        with monkeypatch.context() as patch:
            patch.setattr(remote, "_in_child", told_late)
            patch.setattr(remote._Talk, "_hand_over", noted)
            assert attaching.attach(target.pid).pid == target.pid
        attaching.detach(target.pid)
        end_storm(target)


def test_a_fork_child_of_an_attached_process_is_attached_to_as_well(segment_dir: Path) -> None:
    with Unprepared.started([build("stepper.c")], segment_dir) as target:
        attaching.attach(target.pid)
        assert target.ask("k") == "ok"
        children = Path(f"/proc/{target.pid}/task/{target.pid}/children")
        [child] = map(int, children.read_text().split())
        assert not attaching.is_attached(child)
        attaching.attach(child)
        with discovery.open_process(child) as segment:
            number = gate.start(segment, child, 1, None)
            assert target.ask("a 100 40") == "ok"
            gate.stop(segment, child, number)
            assert Counted.of(segment).by("allocate").live_bytes == 4000
            gate.mark_written(segment, number)
        attaching.detach(child)
        attaching.detach(target.pid)
        target.finish()


def test_one_command_detaches_from_a_family(segment_dir: Path, tmp_path: Path) -> None:
    with Unprepared.started([build("stepper.c")], segment_dir) as target:
        assert target.ask("k") == "ok"
        [child] = procfs.children(target.pid)
        begun = run_command("start", target.pid, "--children")
        command = f"mem_profiler detach {target.pid} --children\n"
        assert (begun.returncode, begun.stdout.count("detach")) == (0, 1), begun.stderr
        assert command in begun.stdout
        over = run_command("stop", target.pid, "--children", "-o", tmp_path / "p")
        assert f"are still in 2 processes; {command[:-1]} removes them" in over.stdout
        done = run_command("detach", target.pid, "--children")
        assert (done.returncode, done.stdout.count("detached from")) == (0, 2), done.stderr
        assert not any(map(attaching.is_attached, (target.pid, child)))
        target.finish()


def test_attaching_twice_is_refused_in_plain_words(segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target:
        attaching.attach(target.pid)
        with pytest.raises(TargetBusy, match="already attached to"):
            attaching.attach(target.pid)
        attaching.detach(target.pid)
        done = run_command("detach", target.pid)
        assert (done.returncode, done.stdout) == (4, "")
        assert "is not attached to" in done.stderr
        end_storm(target)


@pytest.mark.parametrize("may_open", [True, False])
def test_a_segment_whose_file_was_removed_can_be_left(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch, may_open: bool
) -> None:
    def denied(*_: object, **__: object) -> int:
        raise PermissionError(errno.EPERM, "denied")

    with storm("handler", segment_dir) as target:
        attaching.attach(target.pid)
        if not may_open:  # as without the right to /proc/PID/map_files
            monkeypatch.setattr(foreign, "open_plain", denied)
        next(segment_dir.rglob(f"{target.pid}-*")).unlink()
        if may_open:
            session.Session(target.pid).segment.close()
        else:
            for refused in (attaching.need, session.Session):
                with pytest.raises(discovery.SegmentRemoved) as caught:
                    refused(target.pid)
                assert f"mem_profiler detach {target.pid}" in str(caught.value.hint)
            [finding] = neighbours.sampler(target.pid)
            assert (finding.status, finding.cure) == ("blocker", caught.value.hint)
            assert str(target.pid) in str(listing.listing().removed)
        by_hand.detach_by_hand(target.pid)
        if may_open:  # the new segment has a name
            attaching.attach(target.pid)
            session.Session(target.pid).segment.close()
            attaching.detach(target.pid)
        end_storm(target)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_times_in_and_out_of_one_process(segment_dir: Path) -> None:
    rss: list[int] = []
    held: list[float] = []
    with storm("malloc", segment_dir) as target:
        for i in range(1000):
            held.append(attaching.attach(target.pid).answer.held_ns / 1e6)
            attaching.detach(target.pid)
            if i % 100 == 99:
                rss.append(procfs.status(target.pid).sizes["VmRSS"])
        rounds = end_storm(target)
    held.sort()
    print(f"{rounds} rounds, held {held[500]:.2f} ms median, {held[-1]:.2f} ms at most, RSS {rss}")
    assert rss[-1] < rss[0] + (4 << 20)


def test_threads_of_the_test_itself_do_not_disturb(segment_dir: Path) -> None:
    results: list[int] = []

    def work() -> None:
        with storm("handler", segment_dir) as target:
            results.append(attaching.attach(target.pid).answer.result)
            attaching.detach(target.pid)
            end_storm(target)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert results == [0, 0]


PLACE_BYTES = 256 << 20
STILL_INSIDE = "a thread may still be inside the sampler"


def spaces(target: Target) -> list[int]:
    """Sizes of the mappings without a file that a place of segments could be."""
    return [
        m.end - m.start
        for m in procfs.maps(target.pid)
        if not m.path and PLACE_BYTES - (1 << 20) <= m.end - m.start <= PLACE_BYTES
    ]


def test_the_place_of_the_segment_is_given_back_by_a_detach(segment_dir: Path) -> None:
    with Unprepared.started([build("stepper.c")], segment_dir) as target:
        for _ in range(2):
            before = len(procfs.maps(target.pid))
            begin(target.pid)
            with Controller(target) as controller:
                number = controller.start(1)
                assert target.ask("a 100 40") == "ok"
                assert controller.stop(number).total().blocks >= 100
                gate.mark_written(controller.segment, number)
            answer = attaching.detach(target.pid)
            assert answer.text == ""
            assert spaces(target) == []
        assert len(procfs.maps(target.pid)) <= before + 2
        assert target.ask("a 100 40") == "ok"
        target.finish()


@pytest.mark.parametrize("kind", ["malloc", "threads"])
def test_the_place_is_given_back_while_threads_allocate(segment_dir: Path, kind: str) -> None:
    kept: list[bool] = []
    with storm(kind, segment_dir) as target:
        # On a busy machine a thread may wait in a hook for its turn.
        while len(kept) < 2 or (all(kept) and len(kept) < 8):
            begin(target.pid)
            with Controller(target) as controller:
                controller.start(16)
                gate.mark_written(controller.segment, controller.start(16))
            text = attaching.detach(target.pid).text
            assert text == "" or STILL_INSIDE in text
            kept.append(bool(text))
            assert len(spaces(target)) == kept[-1]
        end_storm(target)
    assert not all(kept)


STOPPED = re.compile(r"paused one thread for ([\d.]+) ms|paused threads (\d+) times.* ms in all")


def report(name: str, path: Path) -> str:
    """What mem_parser prints of a file."""
    done = CliRunner().invoke(cli, [name, str(path)])
    assert done.exit_code == 0, done.output
    return done.stdout


def only_heap(folder: Path) -> Path:
    [path] = folder.glob("*.heap")
    return path


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_capture_after_an_attach_says_how_long_threads_stood_still(
    segment_dir: Path, tmp_path: Path, by_hand: bool
) -> None:
    with storm("malloc", segment_dir) as target:
        printed = ""
        if by_hand:
            said = command_ok("attach", target.pid)
            printed = said.stdout
        done = command_ok("-s", "0.1", "-c", "1024", "-p", target.pid, "-o", tmp_path / "p")
        printed = printed or done.stderr
        assert by_hand or "detached from storm" in done.stderr
        assert attaching.is_attached(target.pid) is by_hand
        end_storm(target)
    assert re.search(r"attached to \S+ \(pid \d+\): \d+ hooks placed in \d+ modules", printed)
    header = HeapFile(only_heap(tmp_path)).header
    assert header["samples"] > 0
    stops = header["attach"]
    assert stops["times"] >= 1
    assert 0 < stops["longest_s"] <= stops["total_s"] < 60  # seconds, not milliseconds
    assert STOPPED.search(printed), printed
    assert f"{stops['total_s'] * 1e3:.1f} ms" in printed
    capture = read_profile(str(only_heap(tmp_path))).capture
    shown = report("summary", only_heap(tmp_path))
    noted = f"attached while the program ran: {capture.attach.text()}" in shown
    assert noted is (capture.attach.longest_s >= NOTED_STOP_S)


def test_a_capture_of_a_program_that_began_with_the_sampler_says_nothing_of_it(
    segment_dir: Path, tmp_path: Path
) -> None:
    with Target.started([build("blocks.c")], environment(segment_dir)) as target:
        command_ok("-s", "0.2", "-c", "1", "-p", target.pid, "-o", tmp_path / "p")
        target.finish()
    assert HeapFile(only_heap(tmp_path)).header["attach"] is None
    assert "attached" not in report("summary", only_heap(tmp_path))
