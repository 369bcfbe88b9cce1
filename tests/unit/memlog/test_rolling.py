"""The files of a run: sizes, numbers, what each begins with."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.events import Events
from mem_parser.memlog.reader import open_memlog
from mem_parser.memlog.rolling import RollingLog
from mem_parser.memlog.writer import Put
from mem_parser.model import Profile, StackTable
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonCode, PythonStacks
from memlog_folder import Folder
from memlogs import events_of, facts, facts_profile, rows_of, stack_table

MOST = 5 << 20


class Program:
    """A source whose stacks have sparse numbers; stack n has the one frame n."""

    def __init__(self) -> None:
        self.time_ns = 0
        self.live: dict[int, int] = {}
        self.asked: list[int] = []

    def facts(self) -> Profile:
        return facts_profile()

    def keyframe(self) -> Keyframe:
        stacks = np.array(list(self.live), dtype=np.uint32)
        blocks = np.array(list(self.live.values()), dtype=np.int64)
        zero = np.zeros(len(stacks))
        return Keyframe(
            self.time_ns, stacks, zero.astype(np.uint8), zero.astype(np.uint16) + 8, blocks,
            8 * blocks,
        )  # fmt: skip

    def stacks(self, numbers: np.ndarray) -> StackTable:
        self.asked += numbers.tolist()
        stacks = stack_table([(n,) for n in numbers.tolist()], [n % 4 for n in numbers.tolist()])
        stacks.label = (numbers % 3).astype(np.uint32)
        return stacks

    def labels(self) -> Labels:
        return Labels(
            np.array([0, 0, 2], np.uint32), np.array([1, 1, 2], np.uint8), ["io", "net", "fetch"]
        )

    def texts(self, numbers: Sequence[int]) -> list[bytes]:
        return [b"text %d" % n for n in numbers]

    def python(self) -> PythonStacks:
        return PythonStacks(
            np.array([0, 0, 1], dtype=np.uint32),
            np.array([1, 2, 0], dtype=np.uint32),
            np.array([11, 22, 33], dtype=np.uint32),
            np.array([1, 1, 0], dtype=np.bool_),
            [PythonCode(name, name, "x.py", 1) for name in ("inner", "outer", "other")],
        )


def noise(rng: np.random.Generator, start: int, count: int) -> Events:
    """Events that do not compress."""
    time = start + np.cumsum(rng.integers(0, 1 << 20, count))
    return Events.of(
        time_ns=time, kind=np.ones(count), address=rng.integers(0, 1 << 63, count),
        size_bytes=rng.integers(0, 1 << 40, count), thread=np.zeros(count),
        stack=rng.choice([5, 1_000_000, 77], count), domain=np.zeros(count), birth_ns=time,
    )  # fmt: skip


def write(folder: Path, batches: int, most_files: int = 10) -> tuple[Folder, list[Events]]:
    source, rng, given = Program(), np.random.default_rng(1), []
    files = Folder(folder, most_files)
    log = RollingLog(files, facts(0), source, most_bytes=MOST)
    for _ in range(batches):
        events = noise(rng, source.time_ns + 1, 50_000)
        given.append(events)
        source.time_ns = int(events.time_ns[-1])
        for n in events.stack.tolist():
            source.live[n] = source.live.get(n, 0) + 1
        log.append_events(events)
    log.end("exited")
    return files, given


def test_files_are_limited_in_size_and_number(tmp_path: Path) -> None:
    log, given = write(tmp_path, 40, most_files=3)
    paths = sorted(tmp_path.iterdir(), key=lambda p: int(p.name.split(".")[1]))
    assert [p.name for p in paths] == log.names
    assert len(paths) == 3
    assert log.removed > 0
    assert paths[-1].name == f"x.{log.removed + 3}.memlog"
    assert all(p.stat().st_size <= MOST for p in paths)
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in paths)
    seen = []
    for path in paths:
        with open_memlog(path) as file:
            seen += [e for events in file.events() for e in events.time_ns.tolist()]
    everything = np.concatenate([e.time_ns for e in given]).tolist()
    assert seen == everything[-len(seen) :], "only the oldest are missing"


def test_each_file_stands_alone(tmp_path: Path) -> None:
    log, given = write(tmp_path, 16)
    assert len(log.names) > 2
    rows = []
    for number, name in enumerate(log.names, 1):
        with open_memlog(tmp_path / name) as file:
            assert file.file_facts.number == number
            assert file.facts is not None
            assert len(file.facts.threads) == 4
            first = next(iter(file.keyframes()))
            stacks, python = file.stacks, file.python
            frame = stacks.frames.astype(np.int64)
            assert stacks.depths.tolist() == [1] * len(stacks)
            for events in file.events():
                events.stack = frame[events.stack].astype(np.uint32)
                rows += rows_of(events)
            assert sum(rows_before(given, first.time_ns)) == int(first.blocks.sum())
            assert python is not None
            for n, node in zip(frame.tolist(), stacks.interpreters.tolist(), strict=True):
                names = [python.codes[int(python.code[k])].name for k in python.outwards(node)]
                assert names == [[], ["outer"], ["other"], ["inner", "outer"]][n % 4]
            assert file.labels is not None
            for n, label in zip(frame.tolist(), stacks.label_numbers.tolist(), strict=True):
                assert file.labels.path(label) == ["", "thread io", "thread net"][n % 3]
            assert file.end is not None
            assert file.end.last == (name == log.names[-1])
    assert rows == [row for events in given for row in rows_of(events)]


def rows_before(given: list[Events], time_ns: int) -> list[int]:
    return [int((e.time_ns <= time_ns).sum()) for e in given]


def test_a_stack_is_written_once_in_a_file(tmp_path: Path) -> None:
    source = Program()
    log = RollingLog(Folder(tmp_path), facts(0), source)
    for time in range(5):
        log.append_events(events_of([{"time_ns": time, "stack": s} for s in (9, 3, 9, time)]))
    log.end("exited")
    assert sorted(source.asked) == sorted({9, 3, 0, 1, 2, 4})


def test_a_disk_that_is_full_at_a_new_file_is_said_once(tmp_path: Path) -> None:
    rng, files = np.random.default_rng(1), Folder(tmp_path)
    begin, begun = files.begin, []

    def only_one(number: int) -> Put:
        begun.append(number)
        if number > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return begin(number)

    files.begin = only_one  # type: ignore[method-assign]
    source = Program()
    log = RollingLog(files, facts(0), source, most_bytes=MOST)

    def fill() -> None:
        for _ in range(20):
            log.append_events(noise(rng, 1, 50_000))

    with pytest.raises(OSError, match="No space"):
        fill()
    assert log.failed
    log.append_events(noise(rng, 1, 10))
    log.append_keyframe(source.keyframe())
    log.begin_file(("host",), (1.0,))
    log.end("exited")
    assert begun == [1, 2]
    with open_memlog(tmp_path / "x.1.memlog") as file:
        assert file.end is not None
        assert sum(map(len, file.events())) == file.end.events > 50_000


def test_a_mark_has_no_stack(tmp_path: Path) -> None:
    source = Program()
    log = RollingLog(Folder(tmp_path), facts(0), source)
    log.append_events(events_of([{"time_ns": 1, "kind": 6, "stack": 99, "address": 3}]))
    log.end("exited")
    assert source.asked == []
    with open_memlog(tmp_path / "x.1.memlog") as file:
        (events,) = file.events()
    assert (events.kind.tolist(), events.address.tolist()) == ([6], [3])


def test_a_file_that_is_there_already_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "x.1.memlog").write_text("mine")
    with pytest.raises(FileExistsError):
        RollingLog(Folder(tmp_path), facts(0), Program())
    assert (tmp_path / "x.1.memlog").read_text() == "mine"
