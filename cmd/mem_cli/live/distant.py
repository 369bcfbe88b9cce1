"""The two ends of the connection between the screen and its unprivileged reader.

Model: a target's segment, names and programs are read by a worker (`mem_cli.watching.worker`), as
for `serve`: its `Far` has the `ViewModel`, and answers in bytes. The screen's end trusts nothing
that it receives (`wire`): `picture_from` and `stacks_from` check what belongs together, too.

    want OPTIONS           a picture, JSON
    mark, unmark        compare with now, or no more
    leaks WIDTH, stacks FUNCTION CALLERS, page PID      what was asked for once
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from mem_cli.live.screen_state import ScreenState, Situation, Stacks
from mem_cli.live.view_model import ViewModel
from mem_cli.live.view_options import ViewOptions
from mem_cli.live.wire import understood, written
from mem_cli.watching import warmup
from mem_cli.watching.worker import About, Question, Read
from mem_parser.filters import Filters
from mem_parser.live.naming import NamingChoice
from mem_parser.live.totals import Order
from mem_profiler.live.watched import Facts, Moment, State
from mem_sandbox.forkserver import Forkserver

_NOW = Situation(State.CAPTURED)


class Far:
    """The reader's end."""

    def __init__(self, read: Read, model: ViewModel) -> None:
        self._read = read
        self._model = model

    def take(self, about: About, facts: Facts | None) -> None:
        """Hold the present profile of the process. Raises MemError."""
        if facts is not None:
            found = self._read(facts)
            t_s = found[0].capture.duration_s or 0.0
            self._model.take(Moment(facts.number, t_s, facts.state, found, about.pid))

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


def question(kind: str, options: ViewOptions, *more: str | int) -> Question:
    """Return a question of the viewer's."""
    thread = -1 if options.thread is None else options.thread
    return (
        kind, options.order.value, options.domain, thread, options.pattern, options.module, *more,
    )  # fmt: skip


def picture_from(told: bytes, now_is: Situation) -> ScreenState | None:
    """Return the content of an answer; None without any capture. Raises ValueError."""
    found = understood(ScreenState, told)
    if found is None:
        return None
    left = {place.key for place in found.threads}
    domain = found.options.domain if 0 <= found.options.domain < len(found.domains) else 0
    thread = found.options.thread if found.options.thread in left else None
    options = dataclasses.replace(found.options, domain=domain, thread=thread)
    return dataclasses.replace(found, options=options, situation=now_is)


def stacks_from(told: bytes, function: str, *, callers: bool) -> Stacks | None:
    """Return the stacks of a function. Raises ValueError."""
    found = understood(Stacks, told)
    if found is None:
        return None
    count = len(found.branches)
    if any(not 0 <= one.below < count - k for k, one in enumerate(found.branches)):
        raise ValueError
    return dataclasses.replace(found, function=function, callers=callers)


@contextlib.contextmanager
def readers(choice: NamingChoice, filters: Filters) -> Iterator[Forkserver]:
    """Start the forkserver of readers, while this process has no thread and no untrusted data.
    Raises MemError.
    """
    every = ViewOptions()
    questions = [
        question("mark", every), question("want", every), question("leaks", every, 80),
        question("stacks", every, warmup.FUNCTION, True), question("page", every, 1),
    ]  # fmt: skip
    plain = NamingChoice(libraries=choice.libraries)
    with warmup.readers(
        lambda read: Far(read, ViewModel(choice, filters)),
        questions,
        lambda read: Far(read, ViewModel(plain, filters)),
    ) as forkserver:
        yield forkserver
