"""One reader for a process: shared by all who ask, and gone when nobody does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from fake_watched import FakeWatched
from mem_cli.serve import reading
from mem_cli.serve.past import Snapshot
from mem_cli.serve.reading import Reader, Readers
from mem_parser.errors import ProcessGone, TargetBusy, TargetError
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State

WAIT_S = 30.0


class Opened:
    """All that a reader opened."""

    def __init__(self, number: int = 1) -> None:
        self.every: list[FakeWatched] = []
        self.number = number
        self.gone = False

    def __call__(self, pid: int) -> Any:
        if self.gone:
            raise ProcessGone(f"there is no process {pid}")
        self.every.append(FakeWatched(pid, self.number))
        return self.every[-1]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FRESH_S", 0.05)
    monkeypatch.setattr(reading, "LONGEST_PAUSE_S", 0.1)


@pytest.fixture
def opened() -> Opened:
    return Opened()


@pytest.fixture
def reader(opened: Opened) -> Iterator[Reader]:
    one = Reader(7, opened)
    yield one
    one.close()


def seq(snapshot: Snapshot) -> int:
    return snapshot.seq


def test_all_who_ask_share_one_thread_and_one_answer(reader: Reader, opened: Opened) -> None:
    made: list[int] = []

    def make(snapshot: Snapshot) -> bytes:
        made.append(snapshot.seq)
        return b"x" * 1000

    futures = [reader.ask(("page",), make, 0) for _ in range(200)]
    answers = [future.result(WAIT_S) for future in futures]
    assert len({id(answer) for answer in answers}) == len(set(made)) == len(made)
    assert len(made) <= 3
    assert len(opened.every) == 1
    assert len(opened.every[0].threads) == 1
    assert threading.get_ident() not in opened.every[0].threads


def test_whoever_has_seen_a_snapshot_waits_for_a_later_one(reader: Reader) -> None:
    first = reader.ask(("a",), seq, 0).result(WAIT_S)
    second = reader.ask(("a",), seq, first).result(WAIT_S)
    assert second > first


def test_nobody_reads_when_nobody_asks(
    reader: Reader, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "GRACE_S", 0.2)
    reader.ask(("a",), seq, 0).result(WAIT_S)
    assert opened.every[0].closed.wait(WAIT_S)
    assert opened.every[0].moments == 1
    # And again, for the next one who asks.
    reader.ask(("a",), seq, 0).result(WAIT_S)
    assert len(opened.every) == 2


def test_moments_are_taken_only_for_somebody_who_waits(reader: Reader, opened: Opened) -> None:
    reader.ask(("a",), seq, 0).result(WAIT_S)
    watched = opened.every[0]
    ticks = watched.ticks
    while watched.ticks < ticks + 5:
        assert not watched.closed.wait(0.01)
    assert watched.moments == 1


def test_a_capture_that_has_ended_is_read_once(reader: Reader, opened: Opened) -> None:
    first = reader.ask(("a",), seq, 0).result(WAIT_S)
    opened.every[0].state = State.IDLE
    second = reader.ask(("a",), lambda s: s, first).result(WAIT_S)
    assert (second.state, second.seq > first) == (State.IDLE, True)
    waits: Future[Any] = reader.ask(("a",), seq, second.seq)
    moments = opened.every[0].moments
    ticks = opened.every[0].ticks
    while opened.every[0].ticks < ticks + 5:
        assert not opened.every[0].closed.wait(0.01)
    assert opened.every[0].moments == moments
    assert not waits.done()
    assert reader.ask(("b",), seq).result(WAIT_S) >= second.seq


def test_the_last_of_a_process_that_ended_is_still_told(reader: Reader, opened: Opened) -> None:
    first = reader.ask(("a",), seq, 0).result(WAIT_S)
    opened.every[0].state, opened.every[0].why = State.ENDED, "signal 9 SIGKILL"
    opened.gone = True
    last = reader.ask(("a",), lambda s: s, first).result(WAIT_S)
    assert (last.state, last.why) == (State.ENDED, "signal 9 SIGKILL")
    assert last.had is not None
    assert opened.every[0].closed.wait(WAIT_S)
    with pytest.raises(ProcessGone):
        reader.ask(("a",), seq, last.seq).result(WAIT_S)


def test_an_end_that_nobody_waited_for_is_told_to_the_next_one(
    reader: Reader, opened: Opened
) -> None:
    first = reader.ask(("a",), seq, 0).result(WAIT_S)
    opened.gone = True
    opened.every[0].state = State.ENDED
    assert opened.every[0].closed.wait(WAIT_S)
    last = reader.ask(("a",), lambda s: s, first).result(WAIT_S)
    assert last.state is State.ENDED
    with pytest.raises(ProcessGone):
        reader.ask(("a",), seq, last.seq).result(WAIT_S)


def test_marks_of_another_process_with_the_number_are_forgotten(
    reader: Reader, opened: Opened
) -> None:
    name = reader.mark().result(WAIT_S)
    assert [m.id for m in reader.ask(("a",), lambda s: s).result(WAIT_S).marks] == [name]
    opened.every[0].state = State.ENDED
    assert opened.every[0].closed.wait(WAIT_S)
    fresh = reader.ask(("a",), lambda s: s).result(WAIT_S)
    assert len(opened.every) == 2
    assert list(fresh.marks) == []


def test_an_error_of_an_answer_is_that_answers_alone(reader: Reader) -> None:
    def broken(_snapshot: Snapshot) -> None:
        raise ValueError("broken")

    bad, good = reader.ask(("bad",), broken, 0), reader.ask(("good",), seq, 0)
    with pytest.raises(ValueError, match="broken"):
        bad.result(WAIT_S)
    assert good.result(WAIT_S) > 0


def test_a_process_that_cannot_be_read_says_so_to_all(opened: Opened) -> None:
    opened.gone = True
    reader = Reader(7, opened)
    for _ in range(2):
        with pytest.raises(ProcessGone):
            reader.ask(("a",), seq, 0).result(WAIT_S)
    reader.close()


def test_a_capture_of_its_own_goes_on_unwatched_until_it_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "GRACE_S", 0.05)
    opened = Opened(number=0)
    reader = Reader(7, opened)
    idle = reader.ask(("a",), lambda s: s, 0).result(WAIT_S)
    assert (idle.state, idle.had) == (State.IDLE, None)
    with pytest.raises(TargetError, match="nothing to mark"):
        reader.mark().result(WAIT_S)
    reader.begin(Rates(1024)).result(WAIT_S)
    watched = opened.every[-1]
    ticks = watched.ticks
    while watched.ticks < ticks + 10:
        assert not watched.closed.wait(0.02)
    assert reader.ask(("a",), lambda s: s.own).result(WAIT_S) is True
    with pytest.raises(TargetBusy, match="captured already"):
        reader.begin(Rates(1024)).result(WAIT_S)
    reader.end().result(WAIT_S)
    assert watched.closed.wait(WAIT_S)
    with pytest.raises(TargetError, match="no capture of this server"):
        reader.end().result(WAIT_S)
    reader.close()


def test_a_capture_of_somebody_else_is_not_ended(reader: Reader, opened: Opened) -> None:
    with pytest.raises(TargetError, match="no capture of this server"):
        reader.end().result(WAIT_S)
    assert opened.every[0].state is State.CAPTURED


def test_closing_answers_everybody_and_closes_the_process(opened: Opened) -> None:
    reader = Reader(7, opened)
    last = reader.ask(("a",), seq, 0).result(WAIT_S)
    opened.every[0].state = State.IDLE
    last = reader.ask(("a",), seq, last).result(WAIT_S)
    waits = reader.ask(("a",), seq, last)
    reader.close()
    with pytest.raises(TargetBusy, match="ending"):
        waits.result(WAIT_S)
    assert opened.every[0].closed.is_set()
    with pytest.raises(TargetBusy):
        reader.ask(("a",), seq)


def test_questions_and_processes_are_bounded(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_WAITING", 3)
    monkeypatch.setattr(reading, "MOST_READERS", 2)
    opened.number = 0
    readers = Readers(opened)
    one = readers.of(1)
    seen = one.ask(("a",), seq, 0).result(WAIT_S)
    for _ in range(3):
        one.ask(("a",), seq, seen)
    with pytest.raises(TargetBusy, match="too many"):
        one.ask(("a",), seq, seen)
    readers.of(2).ask(("a",), seq, 0).result(WAIT_S)
    with pytest.raises(TargetBusy, match="2 processes are being read"):
        readers.of(3)
    assert readers.of(1) is one
    readers.close()
