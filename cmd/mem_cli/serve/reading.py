"""One reader per process, shared by all clients.

Model: a `Reader` has one thread while somebody asks for its process, or a capture of its own runs.
The thread watches the process and takes readings; what the process wrote is read and answered by a
process without rights (`worker`), which lives as long. Whoever asks gets bytes, made once for each
moment. The thread takes a moment only for somebody who waits for one, at most once in `FRESH_S`,
and for no more than `COST_SHARE` of a core unless that made it wait for more than
`LONGEST_PAUSE_S`; it ends when nobody has asked for `GRACE_S`. Tools that scrape come less often
than pages: for them it rests instead for `SCRAPE_GRACE_S`, so that names are kept.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from mem_cli.serve.answers import About
from mem_cli.watching.worker import Question, Worker
from mem_parser.errors import MemError, TargetBusy, TargetError
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State, Watched
from mem_profiler.process import procfs
from mem_profiler.process.codefiles import CodeFiles
from mem_profiler.segment.file import Segment
from mem_sandbox.messages import Idle

FRESH_S = 1.0
COST_SHARE = 0.2
LONGEST_PAUSE_S = 5.0
GRACE_S = 15.0
SCRAPE_GRACE_S = 90.0
"""Scrapers come each quarter of a minute to each minute."""
MOST_READERS = 64
"""Processes that are read at the same time."""
MOST_WAITING = 1024
"""Questions that wait for one process."""
_STATE_EVERY_S = 0.5
_RESTING_EVERY_S = 5.0
LAST_WORDS_S = 60.0
"""How long the end of a process is kept for whoever asks next."""
_OF_SCRAPERS = ("metrics", "pprof", "keep", "heap", "text")

Work = Callable[["Reader", Watched], Any]
OpenWatched = Callable[[int], Watched]
OpenWorker = Callable[[int, Segment, CodeFiles | None], Worker]


@dataclass
class _Ask:
    """A question: ``after`` is the last moment that whoever asks has seen, None: one of now."""

    question: Question
    after: int | None
    since_s: float
    future: Future[bytes]


class Reader:
    """One process."""

    def __init__(
        self, pid: int, open_worker: OpenWorker, open_watched: OpenWatched = Watched
    ) -> None:
        self.pid = pid
        self._open = open_watched
        self._open_worker = open_worker
        self._lock = threading.Condition()
        self._asks: list[_Ask] = []
        self._works: list[tuple[Work, Future[Any]]] = []
        self._thread: threading.Thread | None = None
        self._asked_s = time.monotonic()
        self._scraped_s = 0.0
        self._closing = False
        self._own = False
        self._worker: Worker | None = None
        self._latest: About | None = None
        self._number = 0
        self._made: dict[Question, bytes] = {}
        self._next_s = 0.0
        self._cost_s = 0.0
        self._heard = False
        self._seq = 0

    @property
    def runs(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None

    @property
    def rests(self) -> bool:
        """Whether nobody would miss it: it reads for nobody, and has no capture of its own."""
        with self._lock:
            busy = self._own or self._asks or self._works
            return not self.runs or not (busy or self._is_watched())

    @property
    def idle_since_s(self) -> float:
        """When somebody last asked, by the monotonic clock."""
        return max(self._asked_s, self._scraped_s)

    def ask(self, question: Question, after: int | None = None) -> Future[bytes]:
        """Return a future of the answer (`answers`) about a moment later than ``after``, None:
        about one of now. The future may be cancelled.
        """
        future: Future[bytes] = Future()
        with self._lock:
            if len(self._asks) >= MOST_WAITING:
                raise TargetBusy(f"too many ask for pid {self.pid} at the same time")
            self._asks.append(_Ask(question, after, time.monotonic(), future))
            self._begin(scraped=question[0] in _OF_SCRAPERS)
        return future

    def look_on(self) -> None:
        """Go on watching, as if somebody asked."""
        with self._lock:
            self._scraped_s = time.monotonic()

    def begin(self, rates: Rates) -> Future[Any]:
        """Begin a capture, which runs until `end` or `close`."""

        def work(reader: Reader, watched: Watched) -> None:
            if watched.state is State.CAPTURED or not watched.begin(rates):
                raise TargetBusy(f"pid {reader.pid} is being captured already")
            reader._own = True

        return self._order(work)

    def end(self) -> Future[Any]:
        """End the capture of its own; what it has stays until the next one begins."""

        def work(reader: Reader, _watched: Watched) -> bool:
            if not reader._own:
                raise TargetError(
                    f"no capture of this server runs in pid {reader.pid}",
                    hint=f"mem_profiler stop {reader.pid} ends the capture of mem_profiler start",
                )
            reader._own = False
            return True

        return self._order(work)

    def leave(self) -> None:
        """End the thread soon, and a capture of its own."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()

    def close(self) -> None:
        """End the thread, and a capture of its own."""
        self.leave()
        thread = self._thread
        if thread is not None:
            thread.join()

    def _order(self, work: Work) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._works.append((work, future))
            self._begin()
        return future

    def _begin(self, *, scraped: bool = False) -> None:
        """With the lock: let the thread run."""
        if scraped:
            self._scraped_s = time.monotonic()
        else:
            self._asked_s = time.monotonic()
        if self._closing:
            raise TargetBusy("the server is ending")
        if self._thread is None:
            name = f"reader of {self.pid}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        self._lock.notify_all()

    def _is_watched(self) -> bool:
        return time.monotonic() - self._asked_s < GRACE_S

    # On the thread.

    def _run(self) -> None:
        """Watch the process until nobody asks any more, or it cannot be read."""
        error: BaseException | None = None
        goes_on = False
        while True:
            try:
                goes_on = not self._watch() and self._is_wanted()
            except BaseException as caught:
                error = caught
            left = self._end_thread(error, goes_on=goes_on)
            if left is not None:
                break
        for future in left:
            _fail(future, error or TargetBusy("the server is ending"))

    def _end_thread(
        self, error: BaseException | None, *, goes_on: bool
    ) -> list[Future[Any]] | None:
        """Return who waits and gets no answer; None: the thread goes on."""
        with self._lock:
            goes_on = goes_on or bool(self._asks or self._works)
            if error is None and not self._closing and goes_on:
                return None
            self._own = False
            self._thread = None
            left = [ask.future for ask in self._asks] + [future for _, future in self._works]
            self._asks, self._works = [], []
            self._forget()
            return left

    def _forget(self) -> None:
        """Forget what the process had, and end who knows it."""
        if self._worker is not None:
            self._worker.close()
        self._worker, self._latest, self._made = None, None, {}

    def _watch(self) -> bool:
        """Read the process for as long as somebody asks; returns whether it has ended."""
        watched = self._open(self.pid)
        self._next_s = 0.0
        try:
            if self._worker is not None and not self._worker.reads(watched.segment):
                self._forget()
            if self._worker is None:
                self._worker = self._open_worker(self.pid, watched.segment, watched.code_files)
            has_ended = self._look(watched, self._worker)
        finally:
            watched.close()
        if has_ended:
            # The number of the process may become another one's.
            if not self._heard:
                self._say_last_words(self._worker)
            self._forget()
        return has_ended

    def _look(self, watched: Watched, worker: Worker) -> bool:
        """Return whether the process has ended."""

        def meanwhile() -> None:
            if self._closing:
                raise TargetBusy("the server is ending")
            if watched.due_in() <= 0:
                watched.tick()

        while self._is_wanted():
            was_own = self._own
            self._work(watched)
            if was_own and not self._own:
                return False
            state = watched.tick()
            if self._wants_moment(watched, state):
                self._take(watched, worker, state, meanwhile)
            self._answer(worker, meanwhile)
            if state is State.ENDED:
                return True
            self._rest(watched)
        return False

    def _say_last_words(self, worker: Worker) -> None:
        """Tell the end to whoever asks first after it, where nobody waited when it came."""
        give_up = time.monotonic() + LAST_WORDS_S
        while time.monotonic() < give_up:
            with self._lock:
                if self._closing:
                    return
                if not self._asks:
                    self._lock.wait(_STATE_EVERY_S)
                    continue
            self._answer(worker, lambda: None)
            return

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._closing:
                return False
            if self._own or self._asks or self._works or self._is_watched():
                return True
            return time.monotonic() - self._scraped_s < SCRAPE_GRACE_S

    def _rest(self, watched: Watched) -> None:
        with self._lock:
            if self._works or self._closing:
                return
            pause_s = min(watched.due_in(), _STATE_EVERY_S)
            if not (self._own or self._asks or self._is_watched()):
                pause_s = _RESTING_EVERY_S
            if self._asks:
                pause_s = min(pause_s, max(self._next_s - time.monotonic(), 0.02))
            self._lock.wait(max(pause_s, 0.005))

    def _work(self, watched: Watched) -> None:
        with self._lock:
            works, self._works = self._works, []
        for work, future in works:
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work(self, watched))
            except MemError as error:
                future.set_exception(error)

    def _wants_moment(self, watched: Watched, state: State) -> bool:
        latest, now_s = self._latest, time.monotonic()
        with self._lock:
            self._asks = [ask for ask in self._asks if not ask.future.cancelled()]
            asks = list(self._asks)
        if state is State.ENDED and latest is not None:
            return latest.state is not State.ENDED
        if not asks:
            return False
        if latest is None:
            return True
        number = watched.segment.control().number("capture_number")
        changed = (state, number, watched.is_own) != (latest.state, self._number, latest.own)
        if changed:
            return True
        if now_s < self._next_s:
            return False
        if state is not State.CAPTURED:
            asks = [ask for ask in asks if ask.after is None]
        return not all(_is_answered(ask, latest) for ask in asks)

    def _take(self, watched: Watched, worker: Worker, state: State, meanwhile: Idle) -> None:
        began_s, self._cost_s = time.monotonic(), -time.thread_time() - worker.cost_s
        facts = watched.facts()
        self._seq = max(self._seq + 1, int(time.time() * 1000))
        about = About(
            seq=self._seq,
            pid=self.pid,
            at_s=began_s,
            clock=time.strftime("%H:%M:%S"),
            state=state,
            own=watched.is_own,
            why=watched.why,
            comm=procfs.comm(self.pid) or "",
        )
        worker.take(about, facts, meanwhile)
        self._latest, self._made = about, {}
        self._number = facts.number if facts is not None else 0
        self._cost_s += time.thread_time() + worker.cost_s
        self._pace(began_s)

    def _pace(self, began_s: float) -> None:
        """Let the work for the moment of ``began_s`` take no more than a share of a core."""
        pause_s = min(max(FRESH_S, self._cost_s / COST_SHARE), LONGEST_PAUSE_S)
        self._next_s = began_s + pause_s

    def _answer(self, worker: Worker, meanwhile: Idle) -> None:
        latest = self._latest
        if latest is None:
            return
        with self._lock:
            ready = [ask for ask in self._asks if _is_answered(ask, latest)]
            self._asks = [ask for ask in self._asks if ask not in ready]
        self._cost_s -= time.thread_time() + worker.cost_s
        for ask in ready:
            if not ask.future.set_running_or_notify_cancel():
                continue
            try:
                if ask.question not in self._made:
                    self._made[ask.question] = worker.make(ask.question, meanwhile)
                ask.future.set_result(self._made[ask.question])
            except MemError as error:
                ask.future.set_exception(error)
        self._cost_s += time.thread_time() + worker.cost_s
        self._heard = bool(ready)
        self._pace(latest.at_s)
        if worker.has_failed:
            raise TargetBusy(f"the process that reads pid {self.pid} has ended: ask again")


def _is_answered(ask: _Ask, latest: About) -> bool:
    return latest.at_s >= ask.since_s if ask.after is None else latest.seq > ask.after


def _fail(future: Future[Any], error: BaseException) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


class Readers:
    """The readers of a server, by process; used by one thread."""

    def __init__(self, open_worker: OpenWorker, open_watched: OpenWatched = Watched) -> None:
        self._open_worker = open_worker
        self._open = open_watched
        self._readers: dict[int, Reader] = {}

    def of(self, pid: int) -> Reader:
        """Return the reader of a process. Raises TargetBusy where there are too many."""
        found = self._readers.get(pid)
        if found is None:
            self._make_room()
            found = self._readers[pid] = Reader(pid, self._open_worker, self._open)
        return found

    def _make_room(self) -> None:
        """Make room for one more: those that rest go, the longest first. Raises TargetBusy."""
        resting = sorted(
            (one for one in self._readers.values() if one.rests), key=lambda r: r.idle_since_s
        )
        while len(self._readers) >= MOST_READERS:
            if not resting:
                raise TargetBusy(f"{MOST_READERS} processes are being read already")
            longest = resting.pop(0)
            longest.leave()
            del self._readers[longest.pid]

    def close(self) -> None:
        """End all threads, and the captures of their own."""
        for reader in self._readers.values():
            reader.leave()
        for reader in self._readers.values():
            with contextlib.suppress(RuntimeError):
                reader.close()
