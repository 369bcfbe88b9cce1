"""Follow the watched process for the terminal.

Model: a `Follower` is one asker of a `Watcher`, as pages of `serve` are. It has one question open,
for a picture of a later moment, and asks again with each answer; keys are orders to the thread of
the watcher, on which all of this runs but what is `for the screen`. The screen only gets what is
finished: `deliver` is called with each answer. The view may be paused; the readings go on, so that
the graphs have no hole.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from mem_cli.live.answers import LEAKS_AT_END, write_page
from mem_cli.live.distant import picture_from, question, stacks_from
from mem_cli.live.screen_state import Lost, Page, Restarted, Said, ScreenState, Situation, Stacks
from mem_cli.live.view_options import ViewOptions
from mem_cli.live.wire import understood
from mem_cli.watching.watcher import Manner, OpenWorker, Watcher
from mem_parser.errors import MemError, TargetBusy
from mem_parser.heapfile.form import Form
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State, Watched

Answer = ScreenState | Said | Page | Stacks | Restarted | Lost
Deliver = Callable[[Answer], object]
T = TypeVar("T")
COST_SHARE = 0.5
"""Of one core: with very many sites refreshes become rarer."""
SUCCESSOR_S = 1.0
_ANY = 0
"""Any moment: the number of each is larger."""


def _line_of(error: MemError) -> Said:
    return Said("; ".join(filter(None, (str(error), error.hint))), bad=True)


@dataclass(frozen=True)
class Plan:
    """How to follow: ``interval_s`` between two refreshes, ``prefix`` and ``form`` of files,
    ``rates`` of a capture that the viewer may begin, ``beside``: what is called between readings,
    ``successor``: what finds the process that took the place of one that ended, to which the view
    goes ``at_once`` or when it is asked to; several where nobody knows which.
    """

    prefix: str
    rates: Rates
    interval_s: float = 1.0
    form: Form = Form.AUTO
    beside: Sequence[Callable[[], object]] = ()
    successor: Callable[[], list[int]] = list
    at_once: bool = False


class Follower:
    """Follows one process for one screen. `failure`: the error that no line of news explains."""

    def __init__(self, source: Watched, open_worker: OpenWorker, plan: Plan) -> None:
        self.source = source
        self.plan = plan
        self.failure: BaseException | None = None
        self.last: ScreenState | None = None
        manner = Manner(
            fresh_s=plan.interval_s, cost_share=COST_SHARE, longest_pause_s=math.inf, stays=True,
            name="the view", beside=self._beside, failed=self._failed,
        )  # fmt: skip
        self.watcher = Watcher(
            source.pid, open_worker, lambda _pid: contextlib.nullcontext(source), manner
        )
        self._options = ViewOptions()
        self._paused = False
        self._open: Future[None] = Future()
        self._deliver: Deliver = lambda _answer: None
        self._next_search = 0.0
        self._saw_end = False

    # -- for the screen -------------------------------------------------------------------------

    def begin(self, deliver: Deliver) -> None:
        """Begin; ``deliver`` is called on the thread of the watcher."""
        self._deliver = deliver
        self._order(self._show)

    def end(self) -> None:
        """End, after the present work is done."""
        self.watcher.close()

    def want(self, options: ViewOptions) -> None:
        """Show something else."""

        def work() -> None:
            self._options = options
            self._show()

        self._order(work)

    def pause(self, *, paused: bool) -> None:
        """Pause or resume the view."""

        def work() -> None:
            self._paused = paused
            if paused:
                self._open.cancel()
            else:
                self._ask_later()

        self._order(work)

    def put_mark(self) -> None:
        """Show changes from now on."""
        self._order(lambda: self._change("mark"))

    def take_mark(self) -> None:
        """Stop showing changes."""
        self._order(lambda: self._change("unmark"))

    def capture(self) -> None:
        """Start a capture if none runs."""
        self._order(self._capture)

    def write(self, *, resident: bool = False) -> None:
        """Write a .heap file, if asked for with what is resident."""
        self._order(lambda: self._write(resident=resident))

    def write_page(self) -> None:
        """Write a flame graph of the shown profile."""
        pid = self.source.pid
        self._order(lambda: self._ask(self._page_came, "page", pid))

    def leaks(self, width: int) -> None:
        """Ask for verdicts on leaks, in lines of about ``width``."""
        self._order(lambda: self._ask(self._leaks_came, "leaks", width))

    def stacks(self, function: str, *, callers: bool) -> None:
        """Ask for the stacks of a function."""
        came = functools.partial(self._stacks_came, function, callers=callers)
        self._order(lambda: self._ask(came, "stacks", function, callers))

    def _order(self, work: Callable[[], object]) -> None:
        with contextlib.suppress(TargetBusy):  # the view is ending
            self.watcher.order(lambda _watched: work()).add_done_callback(self._say)

    # -- on the thread of the watcher -----------------------------------------------------------

    def _say(self, done: Future[Any]) -> None:
        """Report an error of a request."""
        error = None if done.cancelled() else done.exception()
        if isinstance(error, MemError):
            self._deliver(_line_of(error))

    def _failed(self, error: BaseException) -> None:
        """Say an error of the watch, after which a picture is asked for again."""
        if isinstance(error, MemError):
            self._deliver(_line_of(error))
            if not self._paused:
                self._ask_later()
        else:  # the screen ends, and reports it
            self.failure = error
            self._deliver(Lost())

    def _beside(self, state: State) -> None:
        """Between readings: at the end of the process its last state is shown, then who took its
        place is looked for.
        """
        for one in self.plan.beside:
            one()
        if state is not State.ENDED:
            return
        now_s = time.monotonic()
        if not self._saw_end:
            self._saw_end = True
            self._next_search = now_s + self.plan.interval_s
            self._ask_later()
        elif now_s >= self._next_search:
            self._next_search = now_s + SUCCESSOR_S
            found = self.plan.successor()
            if found:
                self._deliver(Restarted(found[0], self.plan.at_once, tuple(found[1:])))

    def _ask(self, came: Callable[[bytes], None], kind: str, *more: str | int) -> None:
        """Ask for the held moment, or for the first one."""
        asked = question(kind, self._options, *more)
        self.watcher.ask_for(came, asked, _ANY).add_done_callback(self._say)

    def _show(self, after: int = _ANY) -> None:
        """Show a moment as the options ask for it, and then later ones."""
        self._open.cancel()
        asked = question("want", self._options)
        with contextlib.suppress(TargetBusy):  # the view is ending
            self._open = self.watcher.ask_for(self._picture_came, asked, after)
            self._open.add_done_callback(self._shown)

    def _shown(self, done: Future[None]) -> None:
        self._say(done)
        if not (self._paused or done.cancelled() or self.failure):
            self._ask_later()

    def _ask_later(self) -> None:
        """Show a moment that was not shown yet, and then later ones."""
        latest = self.watcher.latest
        self._show(_ANY if latest is None else latest.seq)

    def _picture_came(self, told: bytes) -> None:
        latest = self.watcher.latest
        assert latest is not None
        situation = Situation(latest.state, latest.why, latest.own)
        picture = self._understood(lambda: picture_from(told, situation))
        if picture is not None:
            self._options = picture.options
            self.last = picture
            self._deliver(picture)

    def _understood(self, read: Callable[[], T]) -> T:
        """Return an answer; one that is refused costs the reader. Raises TargetBusy."""
        try:
            return read()
        except ValueError:
            self.watcher.distrust()
            raise TargetBusy("the process that reads for this view makes no sense") from None

    def _change(self, kind: str) -> None:
        self._ask(lambda _told: None, kind)
        self._show()

    def _capture(self) -> None:
        if self.source.state is not State.IDLE:
            return
        if self.source.begin(self.plan.rates):
            self._deliver(Said("a capture has begun; it ends with this view"))

    def _write(self, *, resident: bool) -> None:
        result = self.source.write(self.plan.prefix, self.plan.form, resident=resident)
        paths = ", ".join([result.path, *(one.path for one in result.devices)])
        self._deliver(Said(f"wrote {paths}", written=True))

    def _page_came(self, told: bytes) -> None:
        if told:
            page = told.decode(errors="replace")
            path = write_page(page, self.plan.prefix, self.source.pid)
            self._deliver(Said(f"wrote {path}; open it in a browser", written=True))

    def _leaks_came(self, told: bytes) -> None:
        page = self._understood(lambda: understood(Page, told))
        latest = self.watcher.latest
        if page is not None and latest is not None and latest.state is State.ENDED:
            page = Page(LEAKS_AT_END, page.lines)
        if page is not None:
            self._deliver(page)

    def _stacks_came(self, function: str, told: bytes, *, callers: bool) -> None:
        stacks = self._understood(lambda: stacks_from(told, function, callers=callers))
        if stacks is not None:
            self._deliver(stacks)
