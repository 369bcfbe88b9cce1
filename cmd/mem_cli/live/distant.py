"""The two ends between the screen and the process without rights that reads for it.

Model: a target's segment, names and programs are read by a worker (`mem_cli.watching.worker`), as
for `serve`: its `Far` has the `ViewModel`, and answers in bytes. `Distant` stands for that one
on the thread of the view, and believes nothing that comes (`wire`). A reader that fails costs one
line; the next refresh begins another one, which knows no mark.

    want OPTIONS           a picture, JSON
    mark, unmark        compare with now, or no more
    leaks WIDTH, stacks FUNCTION CALLERS, page PID      what was asked for once
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mem_cli.live.screen_state import Page, ScreenState, Situation, Stacks
from mem_cli.live.view_model import ViewModel
from mem_cli.live.view_options import ViewOptions
from mem_cli.live.wire import understood, written
from mem_cli.watching.worker import Question, Read, Worker, works
from mem_parser.errors import TargetBusy
from mem_parser.filters import Filters
from mem_parser.live.naming import NamingChoice
from mem_parser.live.totals import Order
from mem_parser.readers import read_bytes
from mem_profiler.live.watched import Facts, Moment, State, Watched
from mem_profiler.profile.build import Ending
from mem_profiler.profile.readings import Readings
from mem_profiler.profile.target import Target
from mem_sandbox.forkserver import Forkserver

T = TypeVar("T")
_NOW = Situation(State.CAPTURED)
_NOBODY = b"""heap profile: 1: 64 [2: 128] @ heap_v2/1024
 1: 64 [2: 128] @ 0x1000 0x2000

MAPPED_LIBRARIES:
"""


class Far:
    """The reader's end."""

    def __init__(self, read: Read, choice: NamingChoice, filters: Filters) -> None:
        self._read = read
        self._model = ViewModel(choice, filters)

    def take(self, about: Any, facts: Facts | None) -> None:
        """Hold what the process has now; ``about`` is its number. Raises MemError."""
        if facts is not None:
            found = self._read(facts)
            t_s = found[0].capture.duration_s or 0.0
            self._model.take(Moment(facts.number, t_s, facts.state, found, about))

    def make(self, question: Question) -> bytes:
        """Answer a question. Raises MemError, ValueError, ArithmeticError."""
        kind, order, domain, thread, pattern, module, *more = question
        options = ViewOptions(
            Order(str(order)), int(domain), None if int(thread) < 0 else int(thread), str(pattern),
            str(module),
        )  # fmt: skip
        if kind == "mark":
            self._model.put_mark()
        elif kind == "unmark":
            self._model.take_mark()
        elif kind == "leaks":
            return written(self._model.leaks(options, int(more[0])))
        elif kind == "stacks":
            return written(self._model.stacks(options, str(more[0]), callers=bool(more[1])))
        elif kind == "page":
            return (self._model.page(options, int(more[0])) or "").encode(errors="replace")
        else:
            return written(self._model.picture(options, _NOW))
        return b""


class Distant:
    """The viewer's end: stands for a `ViewModel` of one process. Close it in the end."""

    def __init__(self, forkserver: Forkserver, meanwhile: Callable[[], None]) -> None:
        """``meanwhile`` is called while the reader works, and may raise."""
        self._forkserver = forkserver
        self._meanwhile = meanwhile
        self._worker: Worker | None = None

    @property
    def cost_s(self) -> float:
        """CPU time of the reader so far."""
        return 0.0 if self._worker is None else self._worker.cost_s

    def take_from(self, source: Watched) -> bool:
        """Let the reader hold what a process has now; False: it has had no capture. Raises
        MemError.
        """
        facts = source.facts()
        if facts is None:
            return False
        if self._worker is not None and not self._worker.reads(source.segment):
            self.close()
        if self._worker is None:
            self._worker = Worker(self._forkserver, source.pid, source.segment, source.code_files)
        self._worker.take(source.pid, facts, self._meanwhile)
        return True

    def picture(self, options: ViewOptions, now_is: Situation) -> ScreenState | None:
        """Return what is held, as ``options`` ask for it; None: nothing is. Raises MemError."""
        found = self._asked(ScreenState, "want", options)
        if found is None:
            return None
        left = {place.key for place in found.threads}
        domain = found.options.domain if 0 <= found.options.domain < len(found.domains) else 0
        thread = found.options.thread if found.options.thread in left else None
        options = dataclasses.replace(options, domain=domain, thread=thread)
        return dataclasses.replace(found, options=options, situation=now_is)

    def put_mark(self) -> None:
        """Compare with what is held from now on. Raises MemError."""
        self._make("mark", ViewOptions())

    def take_mark(self) -> None:
        """Compare no more. Raises MemError."""
        self._make("unmark", ViewOptions())

    def leaks(self, options: ViewOptions, width: int) -> Page | None:
        """Return verdicts on leaks, in lines of about ``width``. Raises MemError."""
        return self._asked(Page, "leaks", options, width)

    def stacks(self, options: ViewOptions, function: str, *, callers: bool) -> Stacks | None:
        """Return the stacks of a function. Raises MemError."""
        found = self._asked(Stacks, "stacks", options, function, callers)
        if found is None:
            return None
        count = len(found.branches)
        with self._refusing():
            if any(not 0 <= b.below < count - k for k, b in enumerate(found.branches)):
                raise ValueError
        return dataclasses.replace(found, function=function, callers=callers)

    def page(self, options: ViewOptions, pid: int) -> str | None:
        """Return a flame graph as a page, of which nothing is known. Raises MemError."""
        return self._make("page", options, pid).decode(errors="replace") or None

    def close(self) -> None:
        """End the reader. A second call does nothing."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _asked(
        self, kind: type[T], question: str, options: ViewOptions, *more: str | int
    ) -> T | None:
        told = self._make(question, options, *more)
        with self._refusing():
            return understood(kind, told) if told else None

    def _make(self, question: str, options: ViewOptions, *more: str | int) -> bytes:
        if self._worker is None:
            return b""
        thread = -1 if options.thread is None else options.thread
        words = (options.order.value, options.domain, thread, options.pattern, options.module)
        return self._worker.make((question, *words, *more), self._meanwhile)

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """End a reader whose answer is refused. Raises TargetBusy."""
        try:
            yield
        except ValueError:
            self.close()
            raise TargetBusy("the process that reads for this view makes no sense") from None


@contextlib.contextmanager
def readers(choice: NamingChoice, filters: Filters) -> Iterator[Forkserver]:
    """Start what begins readers, while this process has no thread and no data of others. All that
    answers need is loaded before: a reader may be unable to open the files of Python. Raises
    MemError.
    """
    profile = read_bytes(_NOBODY, "rehearsal")
    profile.capture.pid = profile.capture.capture = 1
    first = Far(lambda _: [profile], NamingChoice(libraries=choice.libraries), filters)
    first.take(1, Facts(1, State.CAPTURED, Target(None), Ending("snapshot", "running"), Readings()))
    everything = ("total", 0, -1, "", "")
    for kind, *more in (
        ("mark",), ("want",), ("leaks", 80), ("stacks", "0x1000", True), ("page", 1),
    ):  # fmt: skip
        first.make((str(kind), *everything, *more))
    with Forkserver(works(lambda read: Far(read, choice, filters))) as forkserver:
        yield forkserver
