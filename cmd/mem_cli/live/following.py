"""The one thread that watches a process for the screen.

Model: a `Follower` has a queue of jobs, which the screen fills, and takes readings in between. All
that touches the process happens on this thread, so that never two of them run at once. The screen
only gets what is finished: it calls `deliver` with each answer. What the process wrote is read and
named by a process without rights (`distant`). The view may be paused; the readings go on, so that
the graphs have no hole.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mem_cli.live.answers import write_page
from mem_cli.live.screen_state import Lost, Page, Restarted, Said, ScreenState, Situation, Stacks
from mem_cli.live.view_options import ViewOptions
from mem_parser.errors import MemError, TargetBusy
from mem_parser.heapfile.form import Form
from mem_profiler.capture.saving import Result
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State

Answer = ScreenState | Said | Page | Stacks | Restarted | Lost
Deliver = Callable[[Answer], object]
COST_SHARE = 0.5
"""Of one core: with very many sites refreshes become rarer."""
SUCCESSOR_S = 1.0
_LONGEST_WAIT_S = 0.5


class Source(Protocol):
    """What is watched: see `mem_profiler.live.watched.Watched`."""

    pid: int
    why: str

    @property
    def is_own(self) -> bool:
        """Whether the capture is the viewer's."""

    @property
    def state(self) -> State:
        """What the process does now."""

    def due_in(self) -> float:
        """Seconds until the next reading is due."""

    def tick(self) -> State:
        """Take a reading if one is due."""

    def begin(self, rates: Rates) -> bool:
        """Begin a capture."""

    def write(self, prefix: str, form: Form = ...) -> Result:
        """Write a file of what the capture has so far."""


class Model(Protocol):
    """What makes pictures of a process: `view_model.ViewModel`, or `distant.Distant`, which asks a
    process without rights. All raise MemError.
    """

    def take_from(self, source: Any) -> bool:
        """Hold what a process has now; False: it has had no capture."""

    def picture(self, options: ViewOptions, now_is: Situation) -> ScreenState | None:
        """Return what is held, as ``options`` ask for it; None, as below: nothing is."""

    def put_mark(self) -> None:
        """Compare with what is held from now on."""

    def take_mark(self) -> None:
        """Compare no more."""

    def leaks(self, options: ViewOptions, width: int) -> Page | None:
        """Return verdicts on leaks, in lines of about ``width``."""

    def stacks(self, options: ViewOptions, function: str, *, callers: bool) -> Stacks | None:
        """Return the stacks of a function."""

    def page(self, options: ViewOptions, pid: int) -> str | None:
        """Return a flame graph as a page."""


@dataclass(frozen=True)
class Plan:
    """How to follow: ``interval_s`` between two refreshes, ``prefix`` and ``form`` of files,
    ``rates`` of a capture that the viewer may begin, ``beside``: what is called between readings,
    ``successor``: what finds the process that took the place of one that ended, to which the view
    goes ``at_once`` or when it is asked to.
    """

    prefix: str
    rates: Rates
    interval_s: float = 1.0
    form: Form = Form.AUTO
    beside: Sequence[Callable[[], object]] = ()
    successor: Callable[[], int | None] = lambda: None
    at_once: bool = False


class Follower:
    """Follows one process for one screen. `failure`: the error that no line of news explains."""

    def __init__(self, source: Source, model: Model, plan: Plan) -> None:
        self.source = source
        self.model = model
        self.plan = plan
        self.failure: BaseException | None = None
        self.last: ScreenState | None = None
        self._options = ViewOptions()
        self._paused = False
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live")
        self._deliver: Deliver = lambda _answer: None
        self._next_look = 0.0
        self._next_search = 0.0
        self._saw_end = False

    # -- for the screen -------------------------------------------------------------------------

    def begin(self, deliver: Deliver) -> None:
        """Begin; ``deliver`` is called on the thread of the follower."""
        self._deliver = deliver
        self._thread.start()

    def end(self) -> None:
        """End, and wait until what is being done is done."""
        self._ending.set()
        self._jobs.put(lambda: None)
        if self._thread.ident is not None:
            self._thread.join()

    def want(self, options: ViewOptions) -> None:
        """Show something else."""
        self._jobs.put(lambda: self._want(options))

    def pause(self, *, paused: bool) -> None:
        """Keep what is shown, or go on."""
        self._jobs.put(lambda: self._pause(paused=paused))

    def put_mark(self) -> None:
        """Show from now on what changes."""
        self._jobs.put(self._put_mark)

    def take_mark(self) -> None:
        """Show no more what changes."""
        self._jobs.put(self._take_mark)

    def capture(self) -> None:
        """Begin a capture, where none runs."""
        self._jobs.put(self._capture)

    def write(self) -> None:
        """Write a .heap file."""
        self._jobs.put(self._write)

    def write_page(self) -> None:
        """Write a flame graph of what is shown."""
        self._jobs.put(self._write_page)

    def leaks(self, width: int) -> None:
        """Ask for verdicts on leaks, in lines of about ``width``."""
        self._jobs.put(lambda: self._leaks(width))

    def stacks(self, function: str, *, callers: bool) -> None:
        """Ask for the stacks of a function."""
        self._jobs.put(lambda: self._stacks(function, callers=callers))

    # -- on its thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                try:
                    self._next_job()()
                    self._step()
                except MemError as error:
                    self._deliver(Said(str(error), bad=True))
        except BaseException as error:  # the screen ends, and says it
            self.failure = error
            self._deliver(Lost())

    def _next_job(self) -> Callable[[], object]:
        wait_s = min(self.source.due_in(), self._next_look - time.monotonic(), _LONGEST_WAIT_S)
        try:
            return self._jobs.get(timeout=max(wait_s, 0.0)) if wait_s > 0 else self._jobs.get(False)
        except queue.Empty:
            return lambda: None

    def _step(self) -> None:
        if self._ending.is_set():
            return
        state = self._tick()
        if state is State.ENDED and not self._saw_end:
            self._saw_end = True
            self._take()
        elif time.monotonic() >= self._next_look:
            if state is State.ENDED:
                self._search()
            elif not self._paused:
                self._take()
            else:
                self._next_look = time.monotonic() + self.plan.interval_s

    def _tick(self) -> State:
        state = self.source.tick()
        for one in self.plan.beside:
            one()
        return state

    def meanwhile(self) -> None:
        """Take readings while another process reads for this one. Raises TargetBusy at the end."""
        if self._ending.is_set():
            raise TargetBusy("the view is ending")
        if self.source.due_in() <= 0:
            self._tick()

    def _take(self) -> None:
        began = time.monotonic()
        try:
            if self.model.take_from(self.source):
                self._show()
        finally:
            cost_s = time.monotonic() - began
            self._next_look = began + max(self.plan.interval_s, cost_s / COST_SHARE)

    def _search(self) -> None:
        """Look for the process that took the place of the one that ended."""
        self._next_look = time.monotonic() + SUCCESSOR_S
        found = self.plan.successor()
        if found is not None:
            self._deliver(Restarted(found, self.plan.at_once))

    def _show(self) -> None:
        source = self.source
        situation = Situation(source.state, source.why, source.is_own)
        picture = self.model.picture(self._options, situation)
        if picture is not None:
            self._options = picture.options
            self.last = picture
            self._deliver(picture)

    def _want(self, options: ViewOptions) -> None:
        self._options = options
        self._show()

    def _pause(self, *, paused: bool) -> None:
        self._paused = paused
        self._next_look = 0.0

    def _put_mark(self) -> None:
        self.model.put_mark()
        self._show()

    def _take_mark(self) -> None:
        self.model.take_mark()
        self._show()

    def _capture(self) -> None:
        if self.source.state is not State.IDLE:
            return
        if self.source.begin(self.plan.rates):
            self._deliver(Said("a capture has begun; it ends with this view"))
        self._next_look = 0.0

    def _write(self) -> None:
        result = self.source.write(self.plan.prefix, self.plan.form)
        paths = ", ".join([result.path, *(one.path for one in result.devices)])
        self._deliver(Said(f"wrote {paths}", written=True))

    def _write_page(self) -> None:
        page = self.model.page(self._options, self.source.pid)
        if page is not None:
            path = write_page(page, self.plan.prefix, self.source.pid)
            self._deliver(Said(f"wrote {path}; open it in a browser", written=True))

    def _leaks(self, width: int) -> None:
        page = self.model.leaks(self._options, width)
        if page is not None:
            self._deliver(page)

    def _stacks(self, function: str, *, callers: bool) -> None:
        stacks = self.model.stacks(self._options, function, callers=callers)
        if stacks is not None:
            self._deliver(stacks)
