"""One reader for a process: shared by all who ask, and gone when nobody does."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from fake_watched import FakeWatched, FakeWorker
from mem_cli.watching import watcher
from mem_cli.watching.watcher import Manner, Readers, Watcher
from mem_parser.errors import ProcessGone, TargetBusy, TargetError
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State

WAIT_S = 30.0
QUICK = Manner(fresh_s=0.05, longest_pause_s=0.1, rest_s=0.05)


class Opened:
    """All that a reader opened."""

    def __init__(self, number: int = 1) -> None:
        self.every: list[FakeWatched] = []
        self.workers: list[FakeWorker] = []
        self.number = number
        self.gone = False

    def __call__(self, pid: int) -> Any:
        if self.gone:
            raise ProcessGone(f"there is no process {pid}")
        self.every.append(FakeWatched(pid, self.number))
        return contextlib.closing(self.every[-1])

    def worker(self, *_given: Any) -> Any:
        self.workers.append(FakeWorker(self.every[-1]))
        return self.workers[-1]

    def reader(self, pid: int = 7, **more: float) -> Watcher:
        return Watcher(pid, self.worker, self, dataclasses.replace(QUICK, **more))


@pytest.fixture
def opened() -> Opened:
    return Opened()


@pytest.fixture
def reader(opened: Opened) -> Iterator[Watcher]:
    one = opened.reader()
    yield one
    one.close()


MOMENT = ("moment",)


def change(reader: Watcher, **words: float) -> None:
    """Let a reader watch in another manner from now on."""
    reader.manner = dataclasses.replace(reader.manner, **words)  # type: ignore[arg-type]


def told(reader: Watcher, after: int | None = None) -> dict[str, Any]:
    """What the moment is that an answer is about."""
    found: dict[str, Any] = json.loads(reader.ask(MOMENT, after).result(WAIT_S))
    return found


def marks(reader: Watcher) -> list[str]:
    """The names of the marks that a page gets."""
    found = json.loads(reader.ask(("live", "", False)).result(WAIT_S))
    return [mark["id"] for mark in found["marks"]]


def test_all_who_ask_share_one_thread_and_one_answer(reader: Watcher, opened: Opened) -> None:
    futures = [reader.ask(("live", "", False), 0) for _ in range(200)]
    answers = [future.result(WAIT_S) for future in futures]
    (worker,) = opened.workers
    made = len(worker.asked)
    assert len({id(answer) for answer in answers}) == made == len(worker.taken)
    assert made <= 3
    assert len(opened.every) == 1
    assert len(opened.every[0].threads) == 1
    assert threading.get_ident() not in opened.every[0].threads


def test_whoever_has_seen_a_snapshot_waits_for_a_later_one(reader: Watcher) -> None:
    first = told(reader, 0)["seq"]
    second = told(reader, first)["seq"]
    assert second > first


def test_nobody_reads_when_nobody_asks(reader: Watcher, opened: Opened) -> None:
    change(reader, grace_s=0.2)
    told(reader, 0)
    assert opened.every[0].closed.wait(WAIT_S)
    assert opened.every[0].moments == 1
    # And again, for the next one who asks.
    told(reader, 0)
    assert len(opened.every) == 2


def test_moments_are_taken_only_for_somebody_who_waits(reader: Watcher, opened: Opened) -> None:
    told(reader, 0)
    watched = opened.every[0]
    ticks = watched.ticks
    while watched.ticks < ticks + 5:
        assert not watched.closed.wait(0.01)
    assert watched.moments == 1


def test_a_capture_that_has_ended_is_read_once(reader: Watcher, opened: Opened) -> None:
    first = told(reader, 0)["seq"]
    opened.every[0].state = State.IDLE
    second = told(reader, first)
    assert (second["state"], second["seq"] > first) == ("idle", True)
    waits: Future[bytes] = reader.ask(MOMENT, second["seq"])
    moments = opened.every[0].moments
    ticks = opened.every[0].ticks
    while opened.every[0].ticks < ticks + 5:
        assert not opened.every[0].closed.wait(0.01)
    assert opened.every[0].moments == moments
    assert not waits.done()
    assert told(reader)["seq"] >= second["seq"]


def test_the_last_of_a_process_that_ended_is_still_told(reader: Watcher, opened: Opened) -> None:
    first = told(reader, 0)["seq"]
    opened.every[0].state, opened.every[0].why = State.ENDED, "signal 9 SIGKILL"
    opened.gone = True
    last = told(reader, first)
    assert (last["state"], last["why"], last["had"]) == ("ended", "signal 9 SIGKILL", True)
    assert opened.every[0].closed.wait(WAIT_S)
    assert not opened.workers[0].closed


def test_the_last_of_a_process_that_is_gone_is_told_again_and_again(
    reader: Watcher, opened: Opened
) -> None:
    opened.number = 0
    reader.begin(Rates(1024)).result(WAIT_S)
    opened.gone = True
    opened.every[0].state = State.ENDED
    assert opened.every[0].closed.wait(WAIT_S)
    last = told(reader, 0)
    assert (last["state"], last["own"], last["had"]) == ("ended", True, True)
    assert told(reader) == told(reader, 0) == last
    assert reader.ask(("heap", "")).result(WAIT_S)
    with pytest.raises(ProcessGone):
        reader.begin(Rates(1024)).result(WAIT_S)
    waits = reader.ask(MOMENT, last["seq"])
    assert told(reader) == last
    assert not waits.done()
    opened.gone = False
    assert json.loads(waits.result(WAIT_S))["state"] == "idle"
    assert opened.workers[0].closed


def test_of_no_more_than_some_that_are_gone_the_last_is_kept(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "MOST_ENDED", 1)
    readers = Readers(opened.worker, opened, dataclasses.replace(QUICK, grace_s=0.0))
    for pid in (1, 2):
        opened.gone, opened.number = False, 0
        readers.of(pid).begin(Rates(1024)).result(WAIT_S)
        opened.gone = True
        opened.every[-1].state = State.ENDED
        assert opened.every[-1].closed.wait(WAIT_S)
    readers.of(3)
    with pytest.raises(ProcessGone):
        told(readers.of(1), 0)
    assert told(readers.of(2))["state"] == "ended"
    readers.close()


def test_marks_of_another_process_with_the_number_are_forgotten(
    reader: Watcher, opened: Opened
) -> None:
    name = reader.ask(("mark",)).result(WAIT_S).decode()
    assert marks(reader) == [name]
    opened.every[0].state = State.ENDED
    assert opened.every[0].closed.wait(WAIT_S)
    assert marks(reader) == []
    assert len(opened.workers) == 2
    assert opened.workers[0].closed


def test_an_error_of_an_answer_is_that_answers_alone(reader: Watcher) -> None:
    bad, good = reader.ask(("heap", "no-such-domain"), 0), reader.ask(MOMENT, 0)
    with pytest.raises(TargetError, match="no domain"):
        bad.result(WAIT_S)
    assert json.loads(good.result(WAIT_S))["seq"] > 0


def test_a_process_that_cannot_be_read_says_so_to_all(opened: Opened) -> None:
    opened.gone = True
    reader = opened.reader()
    for _ in range(2):
        with pytest.raises(ProcessGone):
            told(reader, 0)
    reader.close()


def test_a_capture_of_its_own_goes_on_unwatched_until_it_is_ended() -> None:
    opened = Opened(number=0)
    reader = opened.reader(grace_s=0.05)
    idle = told(reader, 0)
    assert (idle["state"], idle["had"]) == ("idle", False)
    with pytest.raises(TargetError, match="nothing to mark"):
        reader.ask(("mark",)).result(WAIT_S)
    reader.begin(Rates(1024)).result(WAIT_S)
    watched = opened.every[-1]
    ticks = watched.ticks
    while watched.ticks < ticks + 10:
        assert not watched.closed.wait(0.02)
    assert told(reader)["own"] is True
    with pytest.raises(TargetBusy, match="captured already"):
        reader.begin(Rates(1024)).result(WAIT_S)
    reader.end().result(WAIT_S)
    assert watched.closed.wait(WAIT_S)
    with pytest.raises(TargetError, match="no capture of this server"):
        reader.end().result(WAIT_S)
    reader.close()


def test_an_end_is_told_when_others_may_capture() -> None:
    opened = Opened(number=0)
    reader = opened.reader()
    reader.begin(Rates(1024)).result(WAIT_S)
    watched = opened.every[-1]
    watched.may_close.clear()
    ended, refused = reader.end(), reader.end()
    with pytest.raises(TargetError, match="no capture of this server"):
        refused.result(WAIT_S)
    assert not ended.done()
    assert not watched.closed.is_set()
    watched.may_close.set()
    ended.result(WAIT_S)
    assert watched.closed.is_set()
    reader.close()


def test_a_capture_of_somebody_else_is_not_ended(reader: Watcher, opened: Opened) -> None:
    with pytest.raises(TargetError, match="no capture of this server"):
        reader.end().result(WAIT_S)
    assert opened.every[0].state is State.CAPTURED


def test_closing_answers_everybody_and_closes_the_process(opened: Opened) -> None:
    reader = opened.reader()
    last = told(reader, 0)["seq"]
    opened.every[0].state = State.IDLE
    last = told(reader, last)["seq"]
    waits = reader.ask(MOMENT, last)
    reader.close()
    with pytest.raises(TargetBusy, match="ending"):
        waits.result(WAIT_S)
    assert opened.every[0].closed.is_set()
    with pytest.raises(TargetBusy):
        reader.ask(MOMENT)


def test_questions_and_processes_are_bounded(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "MOST_WAITING", 3)
    monkeypatch.setattr(watcher, "MOST_READERS", 2)
    opened.number = 0
    readers = Readers(opened.worker, opened, QUICK)
    one = readers.of(1)
    seen = told(one, 0)["seq"]
    for _ in range(3):
        one.ask(MOMENT, seen)
    with pytest.raises(TargetBusy, match="too many"):
        one.ask(MOMENT, seen)
    told(readers.of(2), 0)
    with pytest.raises(TargetBusy, match="2 processes are being read"):
        readers.of(3)
    assert readers.of(1) is one
    readers.close()


def test_a_worker_that_fails_is_said_to_all_and_replaced(reader: Watcher, opened: Opened) -> None:
    name = reader.ask(("mark",)).result(WAIT_S).decode()
    opened.workers[0].fails = True
    seen = opened.workers[0].taken[-1][0].seq
    waits = [reader.ask(MOMENT, seen), reader.ask(("live", "", False), seen)]
    for one in waits:
        with pytest.raises(TargetBusy, match=r"failed|has ended"):
            one.result(WAIT_S)
    assert name not in marks(reader)
    assert len(opened.workers) == 2
    assert opened.workers[0].closed


def test_what_scrapers_ask_for_is_kept_for_longer_than_what_pages_do(
    reader: Watcher, opened: Opened
) -> None:
    change(reader, grace_s=0.2)
    reader.ask(("metrics", 1)).result(WAIT_S)
    ticks = opened.every[0].ticks
    while opened.every[0].ticks < ticks + 10:
        assert not opened.every[0].closed.wait(0.05)
    reader.ask(("metrics", 1)).result(WAIT_S)
    assert len(opened.workers) == 1
    assert opened.every[0].moments == 2
    change(reader, scrape_grace_s=0.1)
    assert opened.every[0].closed.wait(WAIT_S)


def test_one_that_rests_makes_room_for_another_process(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "MOST_READERS", 1)
    readers = Readers(opened.worker, opened, dataclasses.replace(QUICK, grace_s=0.0))
    readers.of(1).ask(("metrics", 1)).result(WAIT_S)
    told(readers.of(2), 0)
    assert opened.every[0].closed.wait(WAIT_S)
    readers.close()


def test_marks_stay_when_the_servers_own_capture_ends(reader: Watcher, opened: Opened) -> None:
    told(reader, 0)
    opened.every[0].state = State.IDLE
    reader.begin(Rates(1024)).result(WAIT_S)
    opened.number = opened.every[0].number
    name = reader.ask(("mark",)).result(WAIT_S).decode()
    reader.end().result(WAIT_S)
    assert marks(reader) == [name]
    assert len(opened.workers) == 1


def test_one_that_stays_keeps_the_end_and_a_mark_changes_what_a_moment_shows(
    opened: Opened,
) -> None:
    reader = opened.reader(stays=True, fresh_s=1e6, longest_pause_s=1e6)
    page = ("live", "", False)
    first = json.loads(reader.ask(page, 0).result(WAIT_S))
    name = reader.ask(("mark",), 0).result(WAIT_S).decode()
    marked = json.loads(reader.ask(page, 0).result(WAIT_S))
    assert (first["marks"], [one["id"] for one in marked["marks"]]) == ([], [name])
    assert marked["seq"] == first["seq"]
    opened.every[0].state = State.ENDED
    last = told(reader, first["seq"])
    assert [last["state"], told(reader, 0)["state"]] == ["ended", "ended"]
    assert len(opened.every) == 1
    assert not opened.every[0].closed.is_set()
    reader.close()
