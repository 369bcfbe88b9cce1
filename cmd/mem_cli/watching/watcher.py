"""Watch one process for all who ask about it.

Model: a `Watcher` has one thread while somebody asks for its process, or a capture of its own runs.
The thread watches the process and takes readings; what the process wrote is read and answered by a
process without rights (`worker`), which lives as long. Whoever asks gets bytes, made once for each
moment. The thread takes a moment only for somebody who waits for one. How often, at which cost and
for how long is the asker's `Manner`: a server's for a crowd of pages and scrapers, which come and
go, or a terminal's, which stays also when the process has ended or an error came.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mem_cli.watching.worker import About, Question, Worker
from mem_parser.errors import MemError, ProcessGone, TargetBusy, TargetError
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State, Watched
from mem_profiler.process import procfs
from mem_profiler.process.codefiles import CodeFiles
from mem_profiler.segment.file import Segment

COST_SHARE = 0.2
MOST_READERS = 64
"""Processes that are read at the same time."""
MOST_WAITING = 1024
"""Questions that wait for one process."""
STATE_EVERY_S = 0.5
MOST_ENDED = 8
"""Processes that have ended whose last moment is kept."""
_OF_SCRAPERS = ("metrics", "pprof", "keep", "heap", "text")
_CHANGES = ("mark", "unmark")
"""Questions after which others have another answer at the same moment."""

T = TypeVar("T")
Work = Callable[[Watched], T]
OpenWatched = Callable[[int], AbstractContextManager[Watched]]
OpenWorker = Callable[[int, Segment, CodeFiles | None], Worker]


@dataclass(frozen=True)
class Manner:
    """How a process is watched.

    A moment is taken at most once in ``fresh_s``, and for no more than ``cost_share`` of a core
    unless that made somebody wait for more than ``longest_pause_s``. The thread ends when nobody
    has asked for ``grace_s``. Tools that scrape come less often than pages: for them it rests
    instead for ``scrape_grace_s``, so that names are kept, and looks each ``rest_s``.

    ``stays``: it never ends by itself, not even with the process, and an error costs those who
    wait alone. ``name`` is that of who asks. ``beside`` is called on the thread after each look,
    and ``failed`` with each error of the thread.
    """

    fresh_s: float = 1.0
    cost_share: float = COST_SHARE
    longest_pause_s: float = 5.0
    grace_s: float = 15.0
    scrape_grace_s: float = 90.0
    rest_s: float = 5.0
    stays: bool = False
    name: str = "the server"
    beside: Callable[[State], object] = lambda _state: None
    failed: Callable[[BaseException], object] = lambda _error: None


def _same(body: bytes) -> bytes:
    return body


@dataclass
class _Ask(Generic[T]):
    """A question: ``after`` is the last moment that whoever asks has seen, None: one of now.
    ``read`` makes of an answer what the future gets.
    """

    question: Question
    after: int | None
    since_s: float
    read: Callable[[bytes], T]
    future: Future[T]

    def is_answered(self, latest: About, *, last: bool = False) -> bool:
        """Whether the latest moment is late enough; ``last``: there comes no other one."""
        if self.after is None:
            return last or latest.at_s >= self.since_s
        return latest.seq > self.after

    def answer(self, body: bytes) -> None:
        """Give an answer. Raises what ``read`` does."""
        self.future.set_result(self.read(body))


def look_on(pid: int) -> AbstractContextManager[Watched]:
    """Watch a process, without a capture of its own."""
    return contextlib.closing(Watched(pid))


class Watcher:
    """One process. ``open_watched`` says what is watched from when the thread begins."""

    def __init__(
        self,
        pid: int,
        open_worker: OpenWorker,
        open_watched: OpenWatched = look_on,
        manner: Manner | None = None,
    ) -> None:
        self.pid = pid
        self.manner = manner or Manner()
        self.latest: About | None = None
        self._open = open_watched
        self._open_worker = open_worker
        self._lock = threading.Condition()
        self._asks: list[_Ask[Any]] = []
        self._works: list[tuple[Work[Any], Future[Any]]] = []
        self._thread: threading.Thread | None = None
        self._asked_s = time.monotonic()
        self._scraped_s = 0.0
        self._closing = False
        self._own = False
        self._let_go: list[Future[None]] = []
        self._worker: Worker | None = None
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
    def has_ended(self) -> bool:
        """Whether its process has, of which it keeps the last moment."""
        latest = self.latest
        return latest is not None and latest.state is State.ENDED

    @property
    def idle_since_s(self) -> float:
        """When somebody last asked, by the monotonic clock."""
        return max(self._asked_s, self._scraped_s)

    def ask(self, question: Question, after: int | None = None) -> Future[bytes]:
        """Return a future of the answer about a moment later than ``after``, None: about one of
        now. The future may be cancelled.
        """
        return self.ask_for(_same, question, after)

    def ask_for(
        self, read: Callable[[bytes], T], question: Question, after: int | None
    ) -> Future[T]:
        """As `ask`; the future gets what ``read``, on the thread, makes of the answer."""
        future: Future[T] = Future()
        with self._lock:
            if len(self._asks) >= MOST_WAITING:
                raise TargetBusy(f"too many ask for pid {self.pid} at the same time")
            self._asks.append(_Ask(question, after, time.monotonic(), read, future))
            self._begin(scraped=question[0] in _OF_SCRAPERS)
        return future

    def look_on(self) -> None:
        """Go on watching, as if somebody asked."""
        with self._lock:
            self._scraped_s = time.monotonic()

    def begin(self, rates: Rates) -> Future[None]:
        """Begin a capture, which runs until `end` or `close`."""

        def work(watched: Watched) -> None:
            if watched.state is State.CAPTURED or not watched.begin(rates):
                raise TargetBusy(f"pid {self.pid} is being captured already")
            self._own = True

        return self.order(work)

    def end(self) -> Future[None]:
        """End the capture of its own; what it has stays until the next one begins. The future is
        done when others may capture.
        """
        let_go: Future[None] = Future()

        def work(_watched: Watched) -> None:
            if not self._own:
                raise TargetError(
                    f"no capture of this server runs in pid {self.pid}",
                    hint=f"mem_profiler stop {self.pid} ends the capture of mem_profiler start",
                )
            self._own = False
            self._let_go.append(let_go)

        def heard(ordered: Future[None]) -> None:
            error = ordered.exception()
            if error is not None:
                _fail(let_go, error)

        self.order(work).add_done_callback(heard)
        return let_go

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

    def order(self, work: Work[T]) -> Future[T]:
        """Let the thread do something with the process, in the order of the calls."""
        future: Future[T] = Future()
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
            raise self._ending()
        if self._thread is None:
            self._next_s = 0.0
            name = f"reader of {self.pid}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        self._lock.notify_all()

    def _ending(self) -> TargetBusy:
        return TargetBusy(f"{self.manner.name} is ending")

    def _is_watched(self) -> bool:
        return self.manner.stays or time.monotonic() - self._asked_s < self.manner.grace_s

    # On the thread.

    def _run(self) -> None:
        """Watch the process until nobody asks any more, or it cannot be read."""
        goes_on = True
        while goes_on:
            error: BaseException | None = None
            try:
                goes_on = not self._watch() and self._is_wanted()
            except MemError as caught:
                error, goes_on = caught, self.manner.stays
            except BaseException as caught:
                error, goes_on = caught, False
            goes_on = self._end_watch(error, goes_on=goes_on)

    def _end_watch(self, error: BaseException | None, *, goes_on: bool) -> bool:
        """Answer those who wait in vain; returns whether the thread goes on."""
        with self._lock:
            goes_on = goes_on or (error is None and bool(self._asks or self._works))
            goes_on = goes_on and not self._closing
            if error is None and goes_on:
                return True
            left = [ask.future for ask in self._asks]
            self._asks = []
            if not goes_on:
                left += [future for _, future in self._works]
                self._works, self._own, self._thread = [], False, None
                self._forget()
        if error is not None and not self._closing:
            self.manner.failed(error)
        for future in left:
            _fail(future, error or self._ending())
        return goes_on

    def _forget(self) -> None:
        """Forget what the process had, and end who knows it."""
        if self._worker is not None:
            self._worker.close()
        self._worker, self.latest, self._made = None, None, {}

    def _watch(self) -> bool:
        """Read the process for as long as somebody asks; returns whether it has ended."""
        try:
            with self._open(self.pid) as watched:
                if not self.manner.stays:
                    self._worker_for(watched)
                has_ended = self._look(watched)
        finally:
            let_go, self._let_go = self._let_go, []
            for future in let_go:
                if future.set_running_or_notify_cancel():
                    future.set_result(None)
        if has_ended:
            self._own = False
            self._keep_last()
            self._forget()
            self._next_s = 0.0
        return has_ended

    def _worker_for(self, watched: Watched) -> Worker:
        """Return who reads the process as it is now. Raises MemError."""
        if self._worker is not None and not self._worker.reads(watched.segment):
            self._forget()
        if self._worker is None:
            self._worker = self._open_worker(self.pid, watched.segment, watched.code_files)
        return self._worker

    def _look(self, watched: Watched) -> bool:
        """Return whether the process has ended."""

        def tick() -> State:
            state = watched.tick()
            self.manner.beside(state)
            return state

        def meanwhile() -> None:
            if self._closing:
                raise self._ending()
            if watched.due_in() <= 0:
                tick()

        while self._is_wanted():
            was_own = self._own
            self._work(watched)
            if was_own and not self._own:
                return False
            state = tick()
            if self._wants_moment(watched, state):
                self._take(watched, state, meanwhile)
            self._answer(meanwhile)
            if state is State.ENDED and not self.manner.stays:
                return True
            self._rest(watched, state)
        return False

    def _keep_last(self) -> None:
        """Answer about the last moment until the server ends, or the number is another process's.
        Of one that lives on, without the sampler or with another program, the end is told once.
        """
        while not self._closing:
            gone = self._is_gone()
            with self._lock:
                self._asks = [ask for ask in self._asks if not ask.future.cancelled()]
                works = self._works if gone else []
                self._works = [] if gone else self._works
                asked = bool(self._asks or self._works)
            for _, future in works:
                _fail(future, ProcessGone(f"pid {self.pid} has ended"))
            self._answer(lambda: None, last=gone)
            if not gone and (asked or self._heard):
                return
            with self._lock:
                if not (self._works or self._closing or self._has_news(last=gone)):
                    self._lock.wait(self.manner.rest_s)

    def _has_news(self, *, last: bool) -> bool:
        """With the lock: whether somebody waits for the latest moment."""
        latest = self.latest
        return latest is not None and any(ask.is_answered(latest, last=last) for ask in self._asks)

    def _is_gone(self) -> bool:
        """Whether nothing has the number of the process."""
        try:
            with self._open(self.pid):
                return False
        except ProcessGone:
            return True
        except MemError:
            return False

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._closing:
                return False
            if self._own or self._asks or self._works or self._is_watched():
                return True
            return time.monotonic() - self._scraped_s < self.manner.scrape_grace_s

    def _rest(self, watched: Watched, state: State) -> None:
        with self._lock:
            if self._works or self._closing:
                return
            pause_s = STATE_EVERY_S
            if state is not State.ENDED:
                pause_s = min(watched.due_in(), pause_s)
            if not (self._own or self._asks or self._is_watched()):
                pause_s = self.manner.rest_s
            if any(self._needs_no_change(ask, state) for ask in self._asks):
                pause_s = min(pause_s, max(self._next_s - time.monotonic(), 0.02))
            self._lock.wait(max(pause_s, 0.005))

    def _work(self, watched: Watched) -> None:
        with self._lock:
            works, self._works = self._works, []
        for work, future in works:
            if future.set_running_or_notify_cancel():
                with _told_to(future):
                    future.set_result(work(watched))

    def _needs_no_change(self, ask: _Ask[Any], state: State) -> bool:
        """Whether a question can be answered while the state of the process stays."""
        latest = self.latest
        if state is State.CAPTURED or (state is State.IDLE and self.manner.stays):
            return True
        return latest is None or ask.after is None or ask.is_answered(latest)

    def _wants_moment(self, watched: Watched, state: State) -> bool:
        latest, now_s = self.latest, time.monotonic()
        with self._lock:
            self._asks = [ask for ask in self._asks if not ask.future.cancelled()]
            asks = list(self._asks)
        if state is State.ENDED and (latest is not None or not self.manner.stays):
            return latest is None or latest.state is not State.ENDED
        if not asks:
            return False
        if latest is None:
            return now_s >= self._next_s
        number = watched.segment.control().latest_capture
        changed = (state, number, watched.is_own) != (latest.state, self._number, latest.own)
        if changed:
            return True
        if now_s < self._next_s:
            return False
        asks = [ask for ask in asks if self._needs_no_change(ask, state)]
        return not all(ask.is_answered(latest) for ask in asks)

    def _take(self, watched: Watched, state: State, meanwhile: Callable[[], None]) -> None:
        began_s, self._cost_s = time.monotonic(), -time.thread_time()
        try:
            worker = self._worker_for(watched)
            self._cost_s -= worker.cost_s
            facts = watched.facts()
            self._seq = max(self._seq + 1, int(time.time() * 1000))
            about = About(
                seq=self._seq,
                pid=self.pid,
                at_s=began_s,
                clock=time.strftime("%H:%M:%S"),
                state=state,
                own=watched.leaves if state is State.ENDED else watched.is_own,
                why=watched.why,
                program=procfs.program_name(self.pid),
            )
            worker.take(about, facts, meanwhile)
            self.latest, self._made, self._heard = about, {}, False
            self._number = facts.number if facts is not None else 0
            self._cost_s += time.thread_time() + worker.cost_s
        finally:
            self._pace(began_s)

    def _pace(self, began_s: float) -> None:
        """Let the work for the moment of ``began_s`` take no more than a share of a core."""
        manner = self.manner
        pause_s = max(manner.fresh_s, self._cost_s / manner.cost_share)
        self._next_s = began_s + min(pause_s, manner.longest_pause_s)

    def _answer(self, meanwhile: Callable[[], None], *, last: bool = False) -> None:
        latest, worker = self.latest, self._worker
        if latest is None or worker is None:
            return
        with self._lock:
            ready = [ask for ask in self._asks if ask.is_answered(latest, last=last)]
            self._asks = [ask for ask in self._asks if ask not in ready]
        self._cost_s -= time.thread_time() + worker.cost_s
        for ask in ready:
            if ask.future.set_running_or_notify_cancel():
                with _told_to(ask.future):
                    ask.answer(self._make(worker, ask.question, meanwhile))
        self._cost_s += time.thread_time() + worker.cost_s
        self._heard = self._heard or bool(ready)
        self._pace(latest.at_s)
        if worker.has_failed and self.manner.stays:
            self._forget()
        elif worker.has_failed:
            raise TargetBusy(f"the process that reads pid {self.pid} has ended: ask again")

    def _make(self, worker: Worker, question: Question, meanwhile: Callable[[], None]) -> bytes:
        if question[0] in _CHANGES:
            self._made.clear()
            return worker.make(question, meanwhile)
        if question not in self._made:
            self._made[question] = worker.make(question, meanwhile)
        return self._made[question]

    def distrust(self) -> None:
        """On the thread: the worker's answer makes no sense, so another one is asked next."""
        if self._worker is not None:
            self._worker.close()


@contextlib.contextmanager
def _told_to(future: Future[Any]) -> Iterator[None]:
    """Let whoever waits hear of an error; what is no `MemError` goes on."""
    try:
        yield
    except BaseException as error:
        future.set_exception(error)
        if not isinstance(error, MemError):
            raise


def _fail(future: Future[Any], error: BaseException) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


class Readers:
    """The readers of a server, by process; used by one thread."""

    def __init__(
        self,
        open_worker: OpenWorker,
        open_watched: OpenWatched = look_on,
        manner: Manner | None = None,
    ) -> None:
        self._given = open_worker, open_watched, manner
        self._readers: dict[int, Watcher] = {}

    def of(self, pid: int) -> Watcher:
        """Return the reader of a process. Raises TargetBusy where there are too many."""
        found = self._readers.get(pid)
        if found is None:
            self._make_room()
            found = self._readers[pid] = Watcher(pid, *self._given)
        self._forget_ended(found)
        return found

    def _forget_ended(self, asked: Watcher) -> None:
        """Keep no more than the latest of those whose process has ended, and ``asked``."""
        ended = [r for r in self._readers.values() if r.has_ended and r.rests and r is not asked]
        for one in sorted(ended, key=lambda r: r.idle_since_s)[:-MOST_ENDED]:
            one.leave()
            del self._readers[one.pid]

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
