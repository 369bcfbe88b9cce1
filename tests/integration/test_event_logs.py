"""Logs of events of real programs, as the commands write them, and how they end."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from controller_tools import Stepper, command_ok, run_command, small_disk, start_command, wait_until
from event_ledger import (
    FIELDS,
    RINGS_FOR_ALL,
    ROOM_FOR_ALL,
    TWO_FILES_OF,
    assert_equal,
    ledger,
    told_by,
)
from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.moments import known_span, live_at
from mem_parser.memlog.part import Part
from mem_parser.memlog.profiles import profiles_of, read_part
from mem_parser.memlog.reader import Memlog
from mem_parser.memlog.run import read_log
from mem_parser.memlog.sizeclasses import size_classes
from mem_parser.memlog.timeline import stretch_of
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_profiler.capture import gate
from mem_profiler.capture.output import ExactFile
from mem_profiler.capture.recording import Recording
from mem_profiler.events import FILE_LEAST_BYTES
from mem_profiler.events.collector import Limits, LogFiles
from mem_profiler.events.logs import Logging
from mem_profiler.process import procfs
from parser_run import told
from sampler_run import Controller, Target, build, environment, segments

pytestmark = pytest.mark.usefixtures("sampler", "segment_dir")
LIMIT_S = 120


def profiler(
    *arguments: str | Path, cwd: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command `mem_profiler`, with more variables."""
    return run_command(*arguments, cwd=cwd, input="go\nend\n", variables=variables)


def logs_in(folder: Path) -> list[Path]:
    """The log files of a folder, in the order in which they were written."""
    return sorted(folder.glob("*.memlog"), key=lambda p: int(p.stem.rpartition("-")[2]))


def events_of(path: Path) -> Events:
    with Memlog(path) as log:
        assert not log.holes
        return Events.joined([Events.none(), *log.events()])


def as_target_times(events: Events, path: Path) -> Events:
    """The events with the target's clock, as the ledger has it."""
    with Memlog(path) as log:
        events.time_ns += log.file_facts.start_ns
    return events


def live_after(events: Events, until_ns: int) -> Counter[tuple[int, int, int]]:
    """Blocks by (stack, domain, size class) that the events up to a time leave."""
    some = events.take(events.time_ns <= until_ns)
    classes = size_classes(some.size_bytes)
    counted: Counter[tuple[int, int, int]] = Counter()
    rows = zip(
        some.stack.tolist(), some.domain.tolist(), classes.tolist(), some.sign.tolist(), strict=True
    )
    for stack, domain, size_class, sign in rows:
        counted[stack, domain, size_class] += sign
    return Counter({key: n for key, n in counted.items() if n})


@pytest.fixture(scope="module")
def eventful() -> Path:
    return build("eventful.c")


def test_the_log_of_a_run_is_the_programs_ledger(tmp_path: Path, eventful: Path) -> None:
    truth = tmp_path / "ledger"
    done = profiler("run", "-c", "1", "--events", eventful, "4", "20000", truth, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [path] = logs_in(tmp_path)
    assert f"./{path.name}" in done.stderr
    assert "0 lost" in done.stderr.split(path.name)[1]
    told = told_by(as_target_times(events_of(path), path))
    assert_equal(told, ledger(truth))


def test_each_keyframe_is_what_the_events_before_it_leave(tmp_path: Path, eventful: Path) -> None:
    profiler("run", "-c", "1", "--events", eventful, "2", "20000", tmp_path / "l", cwd=tmp_path)
    [path] = logs_in(tmp_path)
    with Memlog(path) as log:
        keyframes = list(log.keyframes())
    events = events_of(path)
    assert keyframes
    for keyframe in keyframes:
        assert keyframe.exact
        rows = zip(
            keyframe.stack.tolist(), keyframe.domain.tolist(), keyframe.size_class.tolist(),
            strict=True,
        )  # fmt: skip
        told = dict(zip(rows, keyframe.blocks.tolist(), strict=True))
        assert told == live_after(events, keyframe.time_ns)


def test_files_of_a_long_log_go_on_from_one_another(tmp_path: Path, eventful: Path) -> None:
    truth = tmp_path / "ledger"
    profiler(
        "run", "-c", "1", "--events-file-size", "4M", "--events-memory", RINGS_FOR_ALL, "-o",
        "out.heap", eventful, "2", TWO_FILES_OF, truth, cwd=tmp_path,
        **ROOM_FOR_ALL,
    )  # fmt: skip
    paths = logs_in(tmp_path)
    assert len(paths) > 1
    assert [p.name for p in paths] == [f"out-{k}.memlog" for k in range(len(paths))]
    parts = [told_by(as_target_times(events_of(path), path)) for path in paths]
    assert_equal(np.concatenate(parts), ledger(truth))
    runs = set()
    for path in paths:
        assert path.stat().st_size <= FILE_LEAST_BYTES
        with Memlog(path) as log:
            runs.add(log.file_facts.run)
            assert log.facts is not None and log.facts.modules
            first = next(log.keyframes())
            assert first.exact
            events = Events.joined(list(log.events()))
            assert first.time_ns <= int(events.time_ns.min())
    assert len(runs) == 1


def test_a_target_that_is_killed_leaves_all_its_events(tmp_path: Path, eventful: Path) -> None:
    truth = tmp_path / "ledger"
    with Target([eventful, "2", "20000", str(truth)], environment(tmp_path)) as target:
        target.line()
        with Controller(target) as controller:
            recording = Recording(controller.segment, target.pid)
            recording.begin_log(1, target.pid, Logging(ExactFile(str(tmp_path / "x.heap"))))
            controller_start(controller, 8 << 20)
            target.ask("go")
            target.kill()
            result = recording.finish(
                str(tmp_path / "x"), target.pid, "capture", "signal 9 SIGKILL"
            )
    assert result.log is not None and result.log.told["lost"] == 0
    [path] = logs_in(tmp_path)
    assert_equal(told_by(as_target_times(events_of(path), path)), ledger(truth))


def controller_start(controller: Controller, ring_bytes: int) -> None:
    gate.start(controller.segment, controller.pid, 1, None, events_bytes=ring_bytes)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(word) for word in text.split()]


def _hold(pid: int) -> None:
    """Stop a process, and wait until it stands."""
    os.kill(pid, signal.SIGSTOP)
    status = Path(f"/proc/{pid}/status")
    wait_until(lambda: "T (stopped)" in status.read_text(encoding="ascii"), "it stands")


def _drain_of(parent: int, others: list[int]) -> tuple[int, int]:
    """The process that writes the files, none of the ``others`` that the test process has started
    before, and its child, which drains.
    """
    give_up = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up:
        for writer in set(_children(parent)).difference(others):
            for drain in _children(writer):
                return writer, drain
    raise AssertionError("no drain")


def test_a_drain_that_stands_still_leaves_holes_that_are_counted(
    tmp_path: Path, eventful: Path
) -> None:
    truth = tmp_path / "ledger"
    with Target([eventful, "1", "20000", str(truth)], environment(tmp_path)) as target:
        target.line()
        with Controller(target) as controller:
            recording = Recording(controller.segment, target.pid)
            others = _children(os.getpid())
            recording.begin_log(1, target.pid, Logging(ExactFile(str(tmp_path / "x.heap"))))
            writer, drain = _drain_of(os.getpid(), others)
            controller_start(controller, 64 << 10)
            _hold(writer)  # first: it would let the drain go on
            _hold(drain)
            target.ask("go")
            os.kill(drain, signal.SIGCONT)
            os.kill(writer, signal.SIGCONT)
            controller.stop(1)
            result = recording.finish(str(tmp_path / "x"), target.pid, "capture", "stopped")
    assert result.log is not None
    [path] = logs_in(tmp_path)
    true = ledger(truth)
    with Memlog(path) as log:
        events = Events.joined([Events.none(), *log.events()])
        lost = sum(hole.lost or 0 for hole in log.holes)
        frames = list(log.keyframes())
    assert lost == result.log.told["lost"] > len(true) // 2
    assert len(events) == result.log.told["events"]
    kept = told_by(events)
    assert kept[list(FIELDS)].tolist() == true[-len(kept) :][list(FIELDS)].tolist()
    assert not frames[-1].exact


def test_a_drain_that_is_killed_leaves_a_file_that_reads(tmp_path: Path, eventful: Path) -> None:
    with Target([eventful, "1", "20000", str(tmp_path / "l")], environment(tmp_path)) as target:
        target.line()
        with Controller(target) as controller:
            recording = Recording(controller.segment, target.pid)
            others = _children(os.getpid())
            recording.begin_log(1, target.pid, Logging(ExactFile(str(tmp_path / "x.heap"))))
            _, drain = _drain_of(os.getpid(), others)
            controller_start(controller, 8 << 20)
            target.ask("go")
            os.kill(drain, signal.SIGKILL)
            controller.stop(1)
            result = recording.finish(str(tmp_path / "x"), target.pid, "capture", "stopped")
    assert result.log is not None and result.log.problem
    assert result.samples > 0
    for path in logs_in(tmp_path):
        with Memlog(path) as log:
            assert log.end is None
            list(log.events())


def test_a_full_file_system_ends_the_log_and_nothing_else(tmp_path: Path, eventful: Path) -> None:
    with small_disk(tmp_path / "small", "1m") as small:
        with Target(
            [eventful, "2", "100000", str(tmp_path / "l")], environment(tmp_path)
        ) as target:
            target.line()
            with Controller(target) as controller:
                recording = Recording(controller.segment, target.pid)
                recording.begin_log(1, target.pid, Logging(ExactFile(str(small / "x.heap"))))
                controller_start(controller, 32 << 20)
                target.ask("go")
                controller.stop(1)
                result = recording.finish(str(tmp_path / "x"), target.pid, "capture", "stopped")
        assert "No space left" in result.log.problem
        [path] = logs_in(small)
        with Memlog(path) as log:
            assert not log.is_cut
            assert len(Events.joined([Events.none(), *log.events()])) > 0


def test_files_of_a_log_never_replace_another_file(tmp_path: Path) -> None:
    first = LogFiles(str(tmp_path / "a"), 7, Limits().files)
    first.write(b"one")
    first.end_file()
    second = LogFiles(str(tmp_path / "a"), 7, Limits().files)
    second.write(b"two")
    second.close()
    first.write(b"three")
    first.close()
    names = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert names == {"a.7.1-0.memlog": b"one", "a.7.2-0.memlog": b"two", "a.7.1-1.memlog": b"three"}


def test_a_capture_of_a_running_process_writes_a_log(tmp_path: Path, eventful: Path) -> None:
    env = environment(tmp_path)
    with Target([eventful, "1", "5000", str(tmp_path / "l")], env) as target:
        target.line()
        assert segments(tmp_path)
        capture = start_command(
            "-s", "60", "-c", "1", "--events", "-p", target.pid,
            cwd=tmp_path, env={**os.environ, "MEM_PROFILER_DIR": str(tmp_path)},
        )  # fmt: skip
        try:
            with Controller(target) as controller:
                control = controller.segment.control
                wait_until(lambda: bool(control().gate_capture), "the capture runs")
            target.ask("go")
            target.tell("end")
            target.finish()
            output, errors = capture.communicate(timeout=LIMIT_S)
        finally:
            capture.kill()
    assert capture.returncode == 0, errors
    [path] = logs_in(tmp_path)
    assert path.name in output
    assert_equal(told_by(as_target_times(events_of(path), path)), ledger(tmp_path / "l"))
    assert procfs.is_gone(target.pid)


def test_a_killed_service_leaves_its_last_events(tmp_path: Path, eventful: Path) -> None:
    truth = tmp_path / "ledger"
    env = environment(tmp_path, rate=1, events="1M")
    with Target([eventful, "2", "20000", str(truth)], env) as target:
        target.line()
        target.ask("go")
        target.kill()
    done = _in_folder("recover", "--all", "-o", "last", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    [path] = logs_in(tmp_path)
    assert path.name in done.stdout
    with Memlog(path) as log:
        events = Events.joined(list(log.events()))
        holes, [keyframe] = log.holes, list(log.keyframes())
        assert log.end is not None and log.end.last
    assert holes
    assert keyframe.time_ns == max(hole.to_ns for hole in holes)
    told = told_by(as_target_times(events.take(events.time_ns > keyframe.time_ns), path))
    true = ledger(truth)
    assert len(told) > 1000
    every = Counter(map(tuple, true[list(FIELDS)].tolist()))
    assert not Counter(map(tuple, told[list(FIELDS)].tolist())) - every
    left = sum(true["size"][np.isin(true["what"], (1, 4))].tolist()) - sum(
        true["size"][np.isin(true["what"], (2, 3))].tolist()
    )
    since = events.take((events.time_ns > keyframe.time_ns) & (events.size_bytes % 16 == 7))
    own_classes = _bytes_of_own(keyframe) + int(
        (since.sign * since.size_bytes.astype(np.int64)).sum()
    )
    assert own_classes == left


def _bytes_of_own(keyframe: Keyframe) -> int:
    """Bytes in a keyframe of the blocks whose sizes the program chose, all of one class each."""
    sizes = keyframe.bytes // np.maximum(keyframe.blocks, 1)
    own = (sizes % 16 == 7) & (keyframe.bytes == sizes * keyframe.blocks)
    return int(keyframe.bytes[own].sum())


def _in_folder(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=folder, variables={"MEM_PROFILER_DIR": str(folder)})


def test_a_snapshot_has_the_last_events_of_a_running_program(
    tmp_path: Path, eventful: Path
) -> None:
    env = environment(tmp_path, rate=1, events="16M")
    with Target([eventful, "1", "2000", str(tmp_path / "l")], env) as target:
        target.line()
        target.ask("go")
        done = _in_folder("snapshot", str(target.pid), "-o", "now", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        [path] = logs_in(tmp_path)
        told = told_by(as_target_times(events_of(path), path))
        assert_equal(told, ledger(tmp_path / "l"))


def test_a_script_that_becomes_a_program_leaves_the_programs_log_alone(
    tmp_path: Path, eventful: Path
) -> None:
    script = tmp_path / "start"
    script.write_text(f"#!/bin/sh\nexec {eventful} 1 1000 {tmp_path / 'l'}\n", encoding="ascii")
    script.chmod(0o755)
    done = profiler("run", "-c", "1", "--events", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [path] = logs_in(tmp_path)
    assert path.name.endswith(".1-0.memlog")
    assert_equal(told_by(as_target_times(events_of(path), path)), ledger(tmp_path / "l"))


def test_a_log_goes_on_to_the_end_of_its_program_with_its_rss(tmp_path: Path) -> None:
    """It was 40 MiB for a while; as the program ends its memory goes piece by piece."""
    text = "import time\nkept = bytearray(40 << 20)\ntime.sleep(0.3)\ndel kept\ntime.sleep(0.3)\n"
    command_ok("run", "--events", "-o", tmp_path / "x.heap", "--", sys.executable, "-S", "-c", text)
    of_heap = read_profile(str(tmp_path / "x.heap"))
    with read_log([str(tmp_path / "x-0.memlog")]) as run:
        [of_log] = profiles_of(run, Part())
        duration_s = of_heap.capture.duration_s
        assert duration_s is not None
        assert abs(run.end_ns / 1e9 - duration_s) < 0.25  # of the program, not of its last event
        live_at(run, [run.end_ns])
    memory = of_log.capture.memory
    assert memory.rss_bytes is not None
    assert memory.peak_rss_bytes is not None
    assert memory.peak_rss_bytes - memory.rss_bytes > 35 << 20
    assert (of_heap.capture.memory.peak_rss_bytes or 0) >= (of_heap.capture.memory.rss_bytes or 1)


def test_a_realloc_to_nothing_is_no_refusal(tmp_path: Path) -> None:
    source = tmp_path / "shrink.c"
    source.write_text(
        "#include <stdlib.h>\n"
        "int main(void) {\n"
        "    for (int i = 0; i < 10; i++) {\n"
        "        void *volatile p = malloc(100 + i);\n"
        "        p = realloc(p, 0);\n"
        "        if (p != NULL) return 1;\n"
        "    }\n"
        "}\n"
    )
    subprocess.run(["cc", source, "-o", tmp_path / "shrink"], check=True, timeout=60)
    command_ok("run", "-c", "1", "--events", "-o", tmp_path / "x.heap", tmp_path / "shrink")
    with read_log([str(tmp_path / "x-0.memlog")]) as run:
        [profile] = profiles_of(run, Part())
        first, last = known_span(run)
        kinds = Counter(
            Kind(kind).name
            for events in stretch_of(run, first, last).events()
            for kind in events.kind.tolist()
        )
    assert kinds == {"BIRTH": 10, "MOVED": 10}
    assert profile.total(Count.INUSE, Unit.OBJECTS).value == 0


ENDS = """
import os, signal, sys
kept = [bytes(100_000) for _ in range(20)]
del kept
{}
"""


def run_python(folder: Path, last: str, *options: str) -> tuple[Path, Path]:
    """The `.heap` file and the log of a program that ends so."""
    script = folder / "ends.py"
    script.write_text(ENDS.format(last), encoding="ascii")
    run_command("run", "-c", "4096", "--events", *options, "-o", "out.heap", script, cwd=folder)
    [log] = folder.glob("*.memlog")
    return folder / "out.heap", log


@pytest.mark.parametrize(
    ("last", "how"),
    [
        ("", "exited"),
        ("sys.exit(3)", "exited"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9 SIGKILL"),
    ],
)
def test_a_log_ends_as_its_program_did(last: str, how: str, tmp_path: Path) -> None:
    heap, log = run_python(tmp_path, last)
    with read_log([log]) as run:
        assert run.how_ended == how
        assert run.files[-1].end is not None
    of_heap, [of_log] = read_profile(heap), read_part([log])
    assert of_log.capture.end == of_heap.capture.end == how
    assert of_log.default_count is of_heap.default_count
    assert of_log.default_count is (Count.PEAK if how == "exited" else Count.INUSE)


def test_reports_of_a_log_and_of_a_file_count_the_same(tmp_path: Path) -> None:
    heap, log = run_python(tmp_path, "", "-c", "1")
    of_file, of_log = (told("top", path).splitlines() for path in (heap, log))
    assert "at the peak" in of_log[0]
    assert of_log[1:] == of_file[1:]


def test_a_capture_that_ends_before_its_program_says_so(stepper: Path, tmp_path: Path) -> None:
    with Stepper(stepper) as target:
        command_ok("-s", "0.3", "-c", "1", "--events", "-o", tmp_path / "x", "-p", target.pid)
        [log] = tmp_path.glob("*.memlog")
        with read_log([log]) as run:
            assert run.how_ended == "deadline"
        [profile] = read_part([log])
        assert profile.default_count is Count.INUSE


def test_the_last_events_of_a_killed_program_say_that_it_ended(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper, MEM_PROFILER_START="1", MEM_PROFILER_EVENTS="1M") as target:
        target.tell("a 10 100")
        command_ok("snapshot", target.pid, "-o", tmp_path / "now")
        target.tell("a 10 100")
        os.kill(target.pid, signal.SIGKILL)
        target.child.wait(30)
        command_ok("recover", target.pid, "-o", tmp_path / "last")
    for name, how in (("now", "running"), ("last", "target ended")):
        [log] = tmp_path.glob(f"{name}.*.memlog")
        with read_log([log]) as run:
            assert run.how_ended == how
