"""Run `mem_profiler live` for one process, from attach to the last line.

Model: a viewer leaves a process as it was found. Where it began a capture, that ends with it; where
it attached, it detaches, also after an error of its own. A process beside does it where the viewer
is killed (`watchdog`). All that is printed is printed before the
screen begins or after it has gone.
"""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mem_cli.console import say
from mem_cli.live import needs, texts
from mem_cli.live.app import LiveApp
from mem_cli.live.distant import readers
from mem_cli.live.following import Follower, Plan
from mem_cli.profiler.attaching import Attached
from mem_cli.profiler.signals import Stop, on_signals
from mem_cli.profiler.watchdog import Watchdog
from mem_cli.watching.worker import Worker
from mem_parser.errors import UsageProblem
from mem_parser.filters import Filters
from mem_parser.heapfile.form import Form
from mem_parser.live.naming import NamingChoice
from mem_profiler.capture import device_choice
from mem_profiler.capture.session import Rates
from mem_profiler.live.successor import Identity, find
from mem_profiler.live.watched import State, Watched
from mem_profiler.process import procfs
from mem_profiler.segment.presence import Left
from mem_sandbox.forkserver import Forkserver

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Choice:
    """The options. ``rates`` are those of a capture that the view starts; ``asked_rate``:
    somebody asked for them, so a capture that runs already is not what was meant. ``devices`` are
    those of an attach.
    """

    rates: Rates
    prefix: str
    interval_s: float
    form: Form
    naming: NamingChoice
    filters: Filters
    asked_rate: bool = False
    devices: device_choice.Choice | None = None


def watch(pid: int, choice: Choice) -> None:
    """Show a process, and those that take its place, until the viewer leaves. Raises MemError,
    KeyboardInterrupt.
    """
    needs.agree_on_colour()
    following: int | None = pid
    with Watchdog() as watchdog, readers(choice.naming, choice.filters) as forkserver:
        while following is not None:
            following = _watch_one(following, choice, watchdog, forkserver)


def _watch_one(pid: int, choice: Choice, watchdog: Watchdog, forkserver: Forkserver) -> int | None:
    """Return the process to show next."""
    stop = Stop()
    on_signals(_SIGNALS, stop)
    attached = Attached(choice.devices)
    watchdog.watched(pid)
    attached.where_needed([pid], stop.asked)
    if attached.attachments:
        watchdog.attached(pid)
    left = None
    try:
        if stop.wanted:
            return None
        identity = Identity.of(pid)
        with _watched(pid, choice) as watched:
            following = show(
                watched,
                choice,
                forkserver,
                beside=(attached.tick,),
                again=lambda: _in_its_place(watched, identity),
            )
            left = watched.left
            return following
    finally:
        on_signals(_SIGNALS, Stop())
        if left is None:  # else there is nothing to take out
            attached.detach()
        watchdog.left(pid)


def _in_its_place(watched: Watched, identity: Identity | None) -> list[int]:
    """Return the process to show after one that has ended, several where nobody knows which."""
    if watched.left is Left.EXEC and not procfs.is_gone(watched.pid):
        return [watched.pid]
    return [] if identity is None else find(identity, watched.seen_s)


@contextlib.contextmanager
def _watched(pid: int, choice: Choice) -> Iterator[Watched]:
    watched = Watched(pid, choice.rates)
    try:
        if choice.asked_rate and not watched.is_own and watched.state is State.CAPTURED:
            rate = watched.segment.control().capture["rate_bytes"]
            raise UsageProblem(
                f"pid {pid} is captured already, at 1 sample / {int(rate)} B: -c is for a capture"
                " that the view begins",
                hint=f"mem_profiler live {pid}",
            )
        yield watched
    finally:
        watched.close()


def show(
    watched: Watched,
    choice: Choice,
    forkserver: Forkserver,
    *,
    beside: tuple[Callable[[], object], ...] = (),
    output: Callable[[], list[str]] | None = None,
    forward: Callable[[int], object] | None = None,
    again: Callable[[], list[int]] = list,
    at_once: bool = False,
) -> int | None:
    """Show a process on the screen. Returns the one to show next; None: the viewer left.

    ``forkserver`` is of `distant.readers`.
    ``again`` finds the process that took the place of one that ended, and ``at_once`` is as of
    `Plan`; ``output`` and ``forward``
    are as of `LiveApp`.

    Raises what ended the view, if that was an error.
    """
    plan = Plan(
        prefix=choice.prefix,
        rates=choice.rates,
        interval_s=choice.interval_s,
        form=choice.form,
        beside=beside,
        successor=again,
        at_once=at_once,
    )
    follower = Follower(watched, functools.partial(Worker, forkserver), plan)
    app = LiveApp(follower, output=output, forward=forward)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    on_signals(_SIGNALS, lambda number, _frame: app.hear(number))
    try:
        following = app.run()
    finally:
        follower.end()
        for number, handler in before.items():
            signal.signal(number, handler)
        _say_what_was(watched, follower, app, is_run=output is not None)
    error = app.broken or follower.failure
    if error is not None:
        raise error
    return following


def _say_what_was(watched: Watched, follower: Follower, app: LiveApp, *, is_run: bool) -> None:
    """Say what was seen, written and left behind; a terminal that has gone hears nothing. The
    outcome of a run is reported by its command.
    """
    with contextlib.suppress(OSError):
        if follower.last is not None:
            say(texts.summary(follower.last))
        if watched.state is State.ENDED:
            say(f"pid {watched.pid}: {watched.why or 'the process has ended'}")
        for line in app.written:
            say(line)
        if is_run:
            return
        if watched.state is State.CAPTURED and not watched.is_own:
            say("its capture goes on: another controller began it")
        elif watched.leaves:
            say(f"its capture is in no file yet: mem_profiler recover {watched.pid} writes it")
        elif watched.is_own and not app.written:
            say("its capture has ended and is in no file: w writes one while the view runs")
