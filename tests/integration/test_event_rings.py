"""Rings of events of a real program, and the logs that `mem_profiler start --events` writes of
them.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from controller_tools import command_ok, run_command, wait_until
from event_ledger import (
    FIELDS,
    RINGS_FOR_ALL,
    ROOM_FOR_ALL,
    TWO_FILES_OF,
    assert_equal,
    ledger,
    told_by,
)
from mem_parser.memlog.events import Events
from mem_parser.memlog.run import read_log
from mem_parser.readers import read_profile
from mem_profiler.capture import gate
from mem_profiler.events.rings import RingReader, note_drained
from mem_profiler.process import procfs
from mem_profiler.segment import collect, discovery, layout
from mem_profiler.segment.file import Segment
from sampler_run import Controller, Target, build, environment, segments

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(180)]


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


def test_fork_children_that_are_followed_write_events_of_their_own(tmp_path: Path) -> None:
    env = environment(tmp_path, rate=1, events="1M", follow_fork="1")
    with Target([build("forks.c"), "fork"], env) as target:
        while target.line() != "done":
            pass
        found = [read_all(path)[1].read_events for path in segments(tmp_path)]
        target.kill()
    assert len(found) > 1
    assert all(found)


@pytest.fixture(scope="module")
def eventful() -> Path:
    return build("eventful.c")


@pytest.fixture
def target(eventful: Path, segment_dir: Path, tmp_path: Path) -> Iterator[Target]:
    """A program that makes events when it is told to, and writes them down."""
    words = [eventful, "2", "20000", str(tmp_path / "ledger")]
    with Target(words, environment(segment_dir)) as program:
        program.line()
        yield program


def start(target: Target, folder: Path, *words: object) -> int:
    """Begin a capture with a log; the process that writes it."""
    command_ok("start", target.pid, "-c", "1", "--events", "-o", folder / "x", *words)
    with discovery.open_process(target.pid, writable=False) as segment:
        keeper = segment.lock_holder()
    assert keeper is not None
    assert b"mem_profiler.helper\0log\0" in Path(f"/proc/{keeper}/cmdline").read_bytes()
    return keeper


def logs_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.memlog"), key=lambda p: int(p.stem.rpartition("-")[2]))


def events_in(paths: list[Path]) -> tuple[Events, str, int]:
    """The events of a log with the target's clock, how it ended, and how many it lost."""
    with read_log(paths) as run:
        found = [e for file in run.files for e in file.events()]
        events = Events.joined([Events.none(), *found]).in_order()
        events.time_ns += run.file_facts.start_ns
        return events, run.how_ended, sum(hole.lost or 0 for hole in run.holes)


def state_of(pid: int) -> str:
    [line] = [one for one in command_ok("ps").stdout.splitlines() if one.split()[0] == str(pid)]
    return line


def has_ended(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    return procfs.is_gone(pid)


def processes_of(keeper: int) -> list[int]:
    """A process and all below it."""
    text = Path(f"/proc/{keeper}/task/{keeper}/children").read_text(encoding="ascii")
    return [keeper, *(pid for word in text.split() for pid in processes_of(int(word)))]


def test_a_log_goes_on_until_it_is_stopped(target: Target, tmp_path: Path) -> None:
    keeper = start(target, tmp_path)
    processes = processes_of(keeper)
    assert len(processes) == 3
    assert "capturing, events" in state_of(target.pid)
    target.ask("go")
    done = command_ok("stop", target.pid, "-o", tmp_path / "y")
    [path] = logs_in(tmp_path)
    assert path.name == f"x.{target.pid}.1-0.memlog"
    assert str(path) in done.stdout
    assert "0 lost" in done.stdout.split(path.name)[1]
    assert "note:" not in done.stdout
    events, how, lost = events_in([path])
    assert (how, lost) == ("stopped", 0)
    assert_equal(told_by(events), ledger(tmp_path / "ledger"))
    [heap] = tmp_path.glob("y.*.heap")
    assert read_profile(heap).capture.end == "stopped"
    wait_until(lambda: all(map(has_ended, processes)), "nothing of the log runs")
    assert "idle" in state_of(target.pid)
    command_ok("snapshot", target.pid, "-o", tmp_path / "z")
    assert logs_in(tmp_path) == [path], "a capture in a file has its log"


def test_only_the_latest_files_stay(
    eventful: Path, segment_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [eventful, "2", TWO_FILES_OF, str(tmp_path / "ledger")]
    for name, value in ROOM_FOR_ALL.items():
        monkeypatch.setenv(name, value)
    with Target(words, environment(segment_dir)) as target:
        target.line()
        start(
            target, tmp_path, "--events-file-size", "4M", "--events-files", "1",
            "--events-memory", RINGS_FOR_ALL,
        )  # fmt: skip
        target.ask("go")
        done = command_ok("stop", target.pid, "-o", tmp_path / "x")
    [path] = logs_in(tmp_path)
    assert not path.name.endswith("-0.memlog")
    assert path.stat().st_size <= 4 << 20
    assert "1 older file removed" in done.stdout.split(path.name)[1]
    with read_log([path]) as run:
        assert run.files[-1].end is not None and run.files[-1].end.last


def test_a_log_ends_with_its_program(target: Target, tmp_path: Path) -> None:
    processes = processes_of(start(target, tmp_path))
    target.ask("go")
    target.kill()
    wait_until(lambda: all(map(has_ended, processes)), "nothing of the log runs")
    events, how, lost = events_in(logs_in(tmp_path))
    assert lost == 0
    assert how in {"signal 9 SIGKILL", "target ended"}
    assert_equal(told_by(events), ledger(tmp_path / "ledger"))
    done = command_ok("recover", target.pid, "-o", tmp_path / "r")
    assert len(list(tmp_path.glob("r.*.heap"))) == 1, done.stdout
    assert not list(tmp_path.glob("r.*.memlog")), "the log has them all"


def test_a_log_whose_processes_are_killed_is_missed_and_goes_on(
    target: Target, tmp_path: Path
) -> None:
    keeper = start(target, tmp_path)
    processes = processes_of(keeper)
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: all(map(has_ended, processes)), "nothing of the log runs")
    assert "capturing, log ended" in state_of(target.pid)
    target.ask("go")
    done = command_ok("stop", target.pid, "-o", tmp_path / "y")
    assert "note: the process that wrote the log of events had ended" in done.stdout
    paths = logs_in(tmp_path)
    last = [path for path in paths if path.name.startswith("y")]
    events, how, lost = events_in(last)
    assert (how, lost) == ("stopped", 0)
    assert_equal(told_by(events), ledger(tmp_path / "ledger"))


def test_a_log_that_is_told_to_end_is_whole_and_the_capture_goes_on(
    target: Target, tmp_path: Path
) -> None:
    keeper = start(target, tmp_path)
    processes = processes_of(keeper)
    target.ask("go")
    os.kill(keeper, signal.SIGTERM)
    wait_until(lambda: all(map(has_ended, processes)), "nothing of the log runs")
    events, how, lost = events_in(logs_in(tmp_path))
    assert (how, lost) == ("log stopped", 0)
    assert_equal(told_by(events), ledger(tmp_path / "ledger"))
    assert "capturing, log ended" in state_of(target.pid)
    done = command_ok("stop", target.pid, "-o", tmp_path / "y")
    assert "note: the process that wrote the log of events had ended" in done.stdout


def test_the_process_beside_says_why_a_log_ended_early(target: Target, tmp_path: Path) -> None:
    keeper, _writer, drain = processes_of(start(target, tmp_path))
    os.kill(drain, signal.SIGKILL)
    wait_until(lambda: "capturing, log ended" in state_of(target.pid), "the end is seen")
    assert not has_ended(keeper)
    target.ask("go")
    done = command_ok("stop", target.pid, "-o", tmp_path / "y")
    assert "SIGKILL" in done.stdout
    assert has_ended(keeper)
    last = [path for path in logs_in(tmp_path) if path.name.startswith("y")]
    assert_equal(told_by(events_in(last)[0]), ledger(tmp_path / "ledger"))


def test_a_log_ends_with_its_segment(target: Target, tmp_path: Path, segment_dir: Path) -> None:
    processes = processes_of(start(target, tmp_path))
    [path] = [
        p for p in segment_dir.rglob("*") if p.is_file() and p.name.startswith(f"{target.pid}-")
    ]
    path.unlink()
    wait_until(lambda: all(map(has_ended, processes)), "nothing of the log runs")
    assert events_in(logs_in(tmp_path))[1] == "stopped"


def test_a_second_capture_is_refused_while_a_log_is_written(target: Target, tmp_path: Path) -> None:
    keeper = start(target, tmp_path)
    for words in (("start", target.pid), ("start", target.pid, "--events", "-o", tmp_path / "y"),
                  ("-s", "1", "-p", target.pid, "-o", tmp_path / "y")):  # fmt: skip
        done = run_command(*words)
        assert done.returncode not in {0, 1}
        assert f"is being captured by mem_profiler (pid {keeper})" in done.stderr
    command_ok("stop", target.pid, "-o", tmp_path / "x")
    assert not list(tmp_path.glob("y*"))


def test_what_cannot_begin_is_refused(target: Target, tmp_path: Path) -> None:
    cases = [
        (("--events", "-o", tmp_path / "none" / "x"), 2, "there is no folder"),
        (("-o", tmp_path / "x"), 2, "-o is for --events"),
        (("--events", "--events-memory", "1K"), 2, "between 64K and 64G"),
        (("--events", "--events-files", "0"), 2, "--events-files"),
    ]
    for words, code, text in cases:
        done = run_command("start", target.pid, *words, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert text in " ".join(done.stderr.split())
    with discovery.open_process(target.pid, writable=False) as segment:
        assert segment.control().number("capture_number") == 0
        assert segment.lock_holder() is None
