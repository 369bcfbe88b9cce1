"""One reader for each process, for all who ask.

Model: a `Reader` has one thread while somebody asks for its process, or a capture of its own runs.
Whoever asks gives a function of a `Snapshot`, and its answer is made once for each snapshot, on the
reader's thread. The thread takes a snapshot only for somebody who waits for one, at most once in
`FRESH_S`, and for no more than `COST_SHARE` of a core unless that made it wait for more than
`LONGEST_PAUSE_S`; it ends when nobody has asked for `GRACE_S`.
Names are kept after that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from mem_cli.serve.past import Had, Past, Snapshot
from mem_parser.domains import as_part, join
from mem_parser.errors import MemError, TargetBusy, TargetError
from mem_parser.libraries.rules import Libraries
from mem_parser.live.naming import Naming, NamingChoice
from mem_parser.model import Profile
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State, Watched
from mem_profiler.process import procfs

FRESH_S = 1.0
COST_SHARE = 0.2
LONGEST_PAUSE_S = 5.0
GRACE_S = 15.0
MOST_READERS = 64
"""Processes that are read at the same time."""
MOST_WAITING = 1024
"""Questions that wait for one process."""
_STATE_EVERY_S = 0.5

Make = Callable[[Snapshot], Any]
Work = Callable[["Reader", Watched], Any]


@dataclass
class _Ask:
    """A question: ``after`` is the last snapshot that whoever asks has seen, None: one of now."""

    key: Hashable
    make: Make
    after: int | None
    since_s: float
    future: Future[Any]


class Reader:
    """One process."""

    def __init__(self, pid: int, open_watched: Callable[[int], Watched] = Watched) -> None:
        self.pid = pid
        self._open = open_watched
        self._lock = threading.Condition()
        self._asks: list[_Ask] = []
        self._works: list[tuple[Work, Future[Any]]] = []
        self._thread: threading.Thread | None = None
        self._asked_s = time.monotonic()
        self._closing = False
        self._own = False
        self._naming = Naming(NamingChoice(libraries=Libraries(), labels=True))
        self._past = Past()
        self._latest: Snapshot | None = None
        self._made: dict[Hashable, Any] = {}
        self._next_s = 0.0
        self._cost_s = 0.0
        self._heard = False
        self._last_words: Snapshot | None = None
        self._seq = 0

    @property
    def runs(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None

    @property
    def idle_since_s(self) -> float:
        """When somebody last asked, by the monotonic clock."""
        return self._asked_s

    def ask(self, key: Hashable, make: Make, after: int | None = None) -> Future[Any]:
        """Return a future of what ``make`` gives for a snapshot later than ``after``, None: for one
        of now. Answers of one ``key`` are alike. The future may be cancelled.
        """
        future: Future[Any] = Future()
        with self._lock:
            if len(self._asks) >= MOST_WAITING:
                raise TargetBusy(f"too many ask for pid {self.pid} at the same time")
            self._asks.append(_Ask(key, make, after, time.monotonic(), future))
            self._begin()
        return future

    def look_on(self) -> None:
        """Go on reading, as if somebody asked."""
        with self._lock:
            self._asked_s = time.monotonic()

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

    def mark(self) -> Future[Any]:
        """Keep a snapshot of now to compare with; the result is its name."""

        def make(snapshot: Snapshot) -> str:
            if snapshot.had is None:
                raise TargetError(f"pid {self.pid} has had no capture: there is nothing to mark")
            return self._past.mark(snapshot)

        return self.ask(("mark",), make)

    def close(self) -> None:
        """End the thread, and a capture of its own."""
        with self._lock:
            self._closing = True
            self._lock.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _order(self, work: Work) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._works.append((work, future))
            self._begin()
        return future

    def _begin(self) -> None:
        """With the lock: let the thread run."""
        self._asked_s = time.monotonic()
        if self._closing:
            raise TargetBusy("the server is ending")
        if self._thread is None:
            name = f"reader of {self.pid}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        self._lock.notify_all()

    # On the thread.

    def _run(self) -> None:
        """Watch the process until nobody asks any more, or it cannot be read."""
        error: BaseException | None = None
        while True:
            try:
                self._say_last_words()
                ended = self._watch()
            except BaseException as caught:
                error, ended = caught, True
            if ended:
                # The number of the process may become another one's.
                self._past = Past()
                self._naming = Naming(self._naming.choice)
                if self._latest is not None and self._latest.state is State.ENDED:
                    self._last_words = None if self._heard else self._latest
                self._latest = None
            left = self._end_thread(error)
            if left is not None:
                break
        for future in left:
            _fail(future, error or TargetBusy("the server is ending"))

    def _say_last_words(self) -> None:
        """Tell the end to whoever asks first after it, where nobody waited when it came."""
        self._latest, self._last_words = self._last_words, None
        if self._latest is not None:
            self._made = {}
            self._answer()
            self._latest = None

    def _end_thread(self, error: BaseException | None) -> list[Future[Any]] | None:
        """Return who waits and gets no answer; None: the thread goes on, for somebody new."""
        with self._lock:
            if error is None and not self._closing and (self._asks or self._works):
                return None
            self._own = False
            self._thread = None
            left = [ask.future for ask in self._asks] + [future for _, future in self._works]
            self._asks, self._works = [], []
            self._latest = None
            self._made = {}
            return left

    def _watch(self) -> bool:
        """Read the process for as long as somebody asks; returns whether it has ended."""
        watched = self._open(self.pid)
        self._next_s = 0.0
        try:
            while self._is_wanted():
                was_own = self._own
                self._work(watched)
                if was_own and not self._own:
                    return False
                state = watched.tick()
                if self._wants_snapshot(watched, state):
                    self._take(watched, state)
                self._answer()
                if state is State.ENDED:
                    return True
                self._rest(watched)
            return False
        finally:
            watched.close()

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._closing:
                return False
            if self._own or self._asks or self._works:
                return True
            return time.monotonic() - self._asked_s < GRACE_S

    def _rest(self, watched: Watched) -> None:
        with self._lock:
            if self._works or self._closing:
                return
            pause_s = min(watched.due_in(), _STATE_EVERY_S)
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

    def _wants_snapshot(self, watched: Watched, state: State) -> bool:
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
        changed = (state, number, watched.is_own) != (latest.state, latest.number, latest.own)
        if changed:
            return True
        if now_s < self._next_s:
            return False
        if state is not State.CAPTURED:
            asks = [ask for ask in asks if ask.after is None]
        return not all(_is_answered(ask, latest) for ask in asks)

    def _take(self, watched: Watched, state: State) -> None:
        began_s, self._cost_s = time.monotonic(), -time.thread_time()
        moment = watched.moment()
        had = self._named(moment.profiles) if moment is not None else None
        clock = time.strftime("%H:%M:%S")
        if moment is not None and had is not None:
            self._past.add(moment.number, began_s, had)
        self._seq = max(self._seq + 1, int(time.time() * 1000))
        self._latest = Snapshot(
            seq=self._seq,
            pid=self.pid,
            name=_name_of(self.pid, had),
            at_s=began_s,
            clock=clock,
            state=state,
            number=moment.number if moment is not None else 0,
            t_s=moment.t_s if moment is not None else 0.0,
            own=watched.is_own,
            why=watched.why,
            had=had,
            windows=self._past.windows(began_s),
        )
        self._made = {}
        self._cost_s += time.thread_time()
        self._pace(began_s)

    def _named(self, profiles: list[Profile]) -> Had:
        joined = join([(profile.domains[0], profile) for profile in profiles])
        symbols = self._naming.names(joined)
        if len(profiles) == 1:
            return Had(joined, symbols)
        host = as_part(joined.where(joined.sites.domain == 0), joined.domains[0])
        return Had(host, symbols, joined)

    def _pace(self, began_s: float) -> None:
        """Let the work for the snapshot of ``began_s`` take no more than a share of a core."""
        pause_s = min(max(FRESH_S, self._cost_s / COST_SHARE), LONGEST_PAUSE_S)
        self._next_s = began_s + pause_s

    def _answer(self) -> None:
        latest = self._latest
        if latest is None:
            return
        with self._lock:
            ready = [ask for ask in self._asks if _is_answered(ask, latest)]
            self._asks = [ask for ask in self._asks if ask not in ready]
        self._cost_s -= time.thread_time()
        for ask in ready:
            if not ask.future.set_running_or_notify_cancel():
                continue
            try:
                if ask.key not in self._made:
                    current = _with_marks(latest, self._past)
                    self._made[ask.key] = ask.make(current)
                ask.future.set_result(self._made[ask.key])
            except (MemError, MemoryError, OSError, ValueError, ArithmeticError) as error:
                ask.future.set_exception(error)
        self._cost_s += time.thread_time()
        self._heard = bool(ready)
        self._pace(latest.at_s)


def _with_marks(snapshot: Snapshot, past: Past) -> Snapshot:
    return dataclasses.replace(snapshot, marks=past.marks)


def _is_answered(ask: _Ask, latest: Snapshot) -> bool:
    return latest.at_s >= ask.since_s if ask.after is None else latest.seq > ask.after


def _fail(future: Future[Any], error: BaseException) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


def _name_of(pid: int, had: Had | None) -> str:
    comm = (had.profile.capture.comm if had is not None else "") or procfs.comm(pid)
    return f"{comm or '?'} (pid {pid})"


class Readers:
    """The readers of a server, by process; used by one thread."""

    def __init__(self, open_watched: Callable[[int], Watched] = Watched) -> None:
        self._open = open_watched
        self._readers: dict[int, Reader] = {}

    def of(self, pid: int) -> Reader:
        """Return the reader of a process. Raises TargetBusy where there are too many."""
        found = self._readers.get(pid)
        if found is None:
            self._forget()
            found = self._readers[pid] = Reader(pid, self._open)
        return found

    def _forget(self) -> None:
        """Make room for one more: those that rest go, the longest first. Raises TargetBusy."""
        resting = sorted(
            (one for one in self._readers.values() if not one.runs), key=lambda r: r.idle_since_s
        )
        while len(self._readers) >= MOST_READERS:
            if not resting:
                raise TargetBusy(f"{MOST_READERS} processes are being read already")
            del self._readers[resting.pop(0).pid]

    def close(self) -> None:
        """End all threads, and the captures of their own."""
        for reader in self._readers.values():
            with contextlib.suppress(RuntimeError):
                reader.close()
