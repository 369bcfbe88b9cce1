"""The two ends between the screen and the process without rights that reads for it.

Model: a target's segment, names and programs are read by a worker (`mem_cli.watching.worker`), as
for `serve`: its `Far` has the `Looking`, and answers in bytes. `Distant` stands for that `Looking`
on the thread of the view, and believes nothing that comes (`wire`). A reader that fails costs one
line; the next refresh begins another one, which knows no mark.

    want WISH           a picture, JSON
    mark, unmark        compare with now, or no more
    leaks WIDTH, stacks FUNCTION CALLERS, page PID      what was asked for once
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mem_cli.live.looking import Looking
from mem_cli.live.picture import Page, Picture, Situation, Stacks
from mem_cli.live.wire import understood, written
from mem_cli.live.wish import Wish
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
        self._looking = Looking(choice, filters)

    def take(self, about: Any, facts: Facts | None) -> None:
        """Hold what the process has now; ``about`` is its number. Raises MemError."""
        if facts is not None:
            found = self._read(facts)
            t_s = found[0].capture.duration_s or 0.0
            self._looking.take(Moment(facts.number, t_s, facts.state, found, about))

    def make(self, question: Question) -> bytes:
        """Answer a question. Raises MemError, ValueError, ArithmeticError."""
        kind, order, domain, thread, pattern, module, *more = question
        wish = Wish(
            Order(str(order)), int(domain), None if int(thread) < 0 else int(thread), str(pattern),
            str(module),
        )  # fmt: skip
        if kind == "mark":
            self._looking.put_mark()
        elif kind == "unmark":
            self._looking.take_mark()
        elif kind == "leaks":
            return written(self._looking.leaks(wish, int(more[0])))
        elif kind == "stacks":
            return written(self._looking.stacks(wish, str(more[0]), callers=bool(more[1])))
        elif kind == "page":
            return (self._looking.page(wish, int(more[0])) or "").encode(errors="replace")
        else:
            return written(self._looking.picture(wish, _NOW))
        return b""


class Distant:
    """The viewer's end: stands for a `Looking` of one process. Close it in the end."""

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

    def picture(self, wish: Wish, now_is: Situation) -> Picture | None:
        """Return what is held as ``wish`` has it; None, as below: nothing is. Raises MemError."""
        found = self._asked(Picture, "want", wish)
        if found is None:
            return None
        left = {place.key for place in found.threads}
        domain = found.wish.domain if 0 <= found.wish.domain < len(found.domains) else 0
        thread = found.wish.thread if found.wish.thread in left else None
        wish = dataclasses.replace(wish, domain=domain, thread=thread)
        return dataclasses.replace(found, wish=wish, situation=now_is)

    def put_mark(self) -> None:
        """Compare with what is held from now on. Raises MemError."""
        self._make("mark", Wish())

    def take_mark(self) -> None:
        """Compare no more. Raises MemError."""
        self._make("unmark", Wish())

    def leaks(self, wish: Wish, width: int) -> Page | None:
        """Return verdicts on leaks, in lines of about ``width``. Raises MemError."""
        return self._asked(Page, "leaks", wish, width)

    def stacks(self, wish: Wish, function: str, *, callers: bool) -> Stacks | None:
        """Return the stacks of a function. Raises MemError."""
        found = self._asked(Stacks, "stacks", wish, function, callers)
        if found is None:
            return None
        count = len(found.branches)
        with self._refusing():
            if any(not 0 <= b.below < count - k for k, b in enumerate(found.branches)):
                raise ValueError
        return dataclasses.replace(found, function=function, callers=callers)

    def page(self, wish: Wish, pid: int) -> str | None:
        """Return a flame graph as a page, of which nothing is known. Raises MemError."""
        return self._make("page", wish, pid).decode(errors="replace") or None

    def close(self) -> None:
        """End the reader. A second call does nothing."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _asked(self, kind: type[T], question: str, wish: Wish, *more: str | int) -> T | None:
        told = self._make(question, wish, *more)
        with self._refusing():
            return understood(kind, told) if told else None

    def _make(self, question: str, wish: Wish, *more: str | int) -> bytes:
        if self._worker is None:
            return b""
        thread = -1 if wish.thread is None else wish.thread
        words = (wish.order.value, wish.domain, thread, wish.pattern, wish.module)
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
