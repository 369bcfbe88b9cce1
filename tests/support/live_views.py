"""A process that never was, for tests of the live view: moments of made-up stacks with names."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from textual import events
from textual.app import App
from textual.pilot import Pilot

from mem_cli.live.app import LiveApp
from mem_cli.live.distant import Far
from mem_cli.live.following import Follower, Plan
from mem_cli.live.view_model import ViewModel
from mem_cli.watching.worker import About, Question
from mem_parser.errors import MemError
from mem_parser.filters import Filters
from mem_parser.heapfile.form import Form
from mem_parser.live.naming import NamingChoice
from mem_parser.live.totals import Order
from mem_parser.model import Profile, Reading, SiteTable, StackTable, Thread, ThreadBlocks
from mem_parser.names import FrameRule
from mem_parser.symbols.table import Function, Location, Symbols
from mem_profiler.capture.saving import Result
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import Facts, State
from mem_profiler.profile.build import Ending
from mem_profiler.profile.readings import Readings
from mem_profiler.profile.target import Target

PLAIN = Filters(rule=FrameRule.NONE)
SIZE = 100_000
"""Bytes of each block: far above the rate, so that hardly one is missed."""
STACKS = {"net_read serve main": 30, "db_get serve main": 20, "parse main": 5}
WAIT_S = 20.0
_address: dict[str, int] = {}
_named: dict[int, tuple[Profile, Symbols]] = {}


def profile(
    stacks: Mapping[str, int] = STACKS, t_s: float = 1.0, *, number: int = 1, domain: str = "host",
    freed: Mapping[str, int] | None = None, threads: int = 0, comm: str = "server",
) -> Profile:  # fmt: skip
    """Stacks, innermost function first, with their blocks in use. Function f is in f.c of f.so, at
    the line of its place in the alphabet. Blocks are those of ``threads`` in turn.
    """
    words = [text.split() for text in stacks]
    names = sorted({w for line in words for w in line})
    offsets = np.cumsum([0, *map(len, words)]).astype(np.int64)
    spelled = np.array([names.index(w) for line in words for w in line], dtype=np.int32)
    live = np.array(list(stacks.values()), dtype=np.int64)
    gone = np.array([(freed or {}).get(text, 0) for text in stacks], dtype=np.int64)
    count = len(words)
    none = np.zeros(count, np.uint32)
    sites = SiteTable(
        np.arange(count), np.zeros(count, np.int32), live, live * SIZE, live + gone,
        (live + gone) * SIZE,
    )  # fmt: skip
    address = [_address.setdefault(name, 0x1000 + len(_address)) for name in names]
    frames = np.array(address, dtype=np.uint64)[spelled]
    table = StackTable(offsets, frames, none, none, leaf_exact=True)
    made = Profile("mem_profiler", 1024.0, table, sites, domains=[domain])
    capture = made.capture
    capture.pid, capture.host, capture.started, capture.capture = 4711, "h", 5.0, number
    capture.duration_s, capture.comm, capture.allocator = t_s, comm, "/lib/libc.so.6"
    capture.samples = int(live.sum())
    held = float((live * SIZE).sum())
    made.series = [Reading(t, held * t / t_s, 10.0, 5, int(held) + 1) for t in (t_s / 2, t_s)]
    if threads:
        row = np.arange(count) % threads
        made.threads = [Thread(k, 100 + k, f"worker-{k}") for k in range(threads)]
        made.thread_blocks = ThreadBlocks(np.arange(count), row, live, live * SIZE)
    symbols = Symbols(
        [Function(n, n, f"/lib/{n}.so", f"{n}.c") for n in names],
        [Location(k, f"{n}.c", k + 1) for k, n in enumerate(names)], offsets, spelled,
    )  # fmt: skip
    _named[id(made)] = made, symbols
    return made


class GivenNames:
    """Stands for `Naming`: the names that `profile` gave."""

    def __init__(self, choice: NamingChoice) -> None:
        self.choice = choice

    def names(self, of: Profile) -> Symbols:
        return _named[id(of)][1]


class Scripted:
    """Stands for `Watched`: a test says what it has at each time."""

    def __init__(self, *profiles: Profile, state: State = State.CAPTURED) -> None:
        self.pid = 4711
        self.why = ""
        self.is_own = True
        self.state = state
        self.profiles = list(profiles)
        self.moments = 0
        self.ticks = 0
        self.begun = 0
        self.written: list[str] = []
        self.threads: set[int] = set()
        self.problem: BaseException | None = None
        self.code_files = None
        self.segment: Any = SimpleNamespace(
            control=lambda: SimpleNamespace(latest_capture=self._number())
        )

    @property
    def leaves(self) -> bool:
        return self.is_own

    def due_in(self) -> float:
        return 0.01

    def tick(self) -> State:
        self.ticks += 1
        self.threads.add(threading.get_ident())
        if self.problem is not None:
            problem, self.problem = self.problem, None
            raise problem
        return self.state

    def facts(self) -> Facts | None:
        """That there is what the test gave."""
        self.threads.add(threading.get_ident())
        self.moments += 1
        if not self.profiles:
            return None
        ending = Ending("snapshot", "running")
        return Facts(self._number(), self.state, Target(None), ending, Readings())

    def _number(self) -> int:
        return self.profiles[0].capture.capture or 1 if self.profiles else 0

    def begin(self, rates: Rates) -> bool:
        self.begun += 1
        self.state = State.CAPTURED
        return True

    def write(self, prefix: str, form: Form = Form.AUTO, *, resident: bool = False) -> Result:
        path = f"{prefix}.4711.1.{'resident.' if resident else ''}heap"
        self.written.append(path)
        return Result(path, 4711, "", "", "snapshot", "running", 1.0, 1, 0, 0, 1, [], 128, "host")


def view_model(filters: Filters = PLAIN) -> ViewModel:
    """What makes pictures, with the names that `profile` gave."""
    return ViewModel(NamingChoice(), filters, GivenNames)  # type: ignore[arg-type]


class Here:
    """As `Worker`, without any process: a view model of what a scripted process has."""

    has_failed = False
    cost_s = 0.0

    def __init__(self, source: Scripted) -> None:
        self._far = Far(lambda _facts: list(source.profiles), view_model())

    def reads(self, _segment: Any) -> bool:
        return True

    def take(self, about: About, facts: Facts | None, _idle: Any) -> None:
        self._far.take(about, facts)

    def make(self, question: Question, _idle: Any) -> bytes:
        return self._far.make(question)

    def close(self) -> None:
        """Do nothing."""


def follower(source: Any, plan: Plan) -> Follower:
    return Follower(source, lambda *_: Here(source), plan)  # type: ignore[arg-type,return-value]


def plan(prefix: str = "./x", **more: Any) -> Plan:
    """How to follow: a refresh every 150 ms."""
    return Plan(prefix, Rates(1024), 0.15, **more)


def run(app: App[Any], body: Callable[[Pilot[Any]], Awaitable[None]],
        size: tuple[int, int] = (80, 24)) -> None:  # fmt: skip
    """Run ``body`` beside an app; its follower ends with it."""

    async def both() -> None:
        async with app.run_test(size=size) as pilot:
            await body(pilot)

    try:
        asyncio.run(both())
    finally:
        if isinstance(app, LiveApp):
            app.follower.end()


def live_app(source: Scripted, prefix: str = "./x", **more: Any) -> LiveApp:
    """The live view of a scripted process."""
    return LiveApp(follower(source, plan(prefix, **more.pop("plan", {}))), **more)


@contextlib.asynccontextmanager
async def shown(
    source: Scripted | None = None, prefix: str = "./x", *, waits: str = "net_read",
    size: tuple[int, int] = (80, 24), **more: Any,
) -> AsyncIterator[tuple[LiveApp, Pilot[Any]]]:  # fmt: skip
    """The live view of a scripted process once its screen has a text, and what presses its keys."""
    app = live_app(source or Scripted(profile()), prefix, **more)
    try:
        async with app.run_test(size=size) as pilot:
            await shows(pilot, waits)
            yield app, pilot
    finally:
        app.follower.end()


def screen_lines(app: App[Any]) -> list[str]:
    strips = app.screen._compositor.render_strips(app.size)
    return [strip.text.rstrip() for strip in strips]


def screen_text(app: App[Any]) -> str:
    return "\n".join(screen_lines(app))


async def until(pilot: Pilot[Any], condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so. Raises AssertionError with what the screen has instead."""
    give_up = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"{what}:\n{screen_text(pilot.app)}")
        await pilot.pause(0.01)


async def shows(pilot: Pilot[Any], text: str) -> None:
    """Wait until the screen has a text."""
    await until(pilot, lambda: text in screen_text(pilot.app), f"{text!r} is not on the screen")


async def sorts(pilot: Pilot[Any], order: Order) -> None:
    """Wait until the rows are in an order."""
    app: Any = pilot.app
    await until(pilot, lambda: app.picture and app.picture.options.order is order, order.name)


FAILED = MemError("it broke", hint="mend it")


def type_at_once(app: Any, keys: str) -> None:
    """Send characters as a terminal does that has them all at once; a line feed is Enter."""
    for key in keys:
        name = {"\n": "enter", "/": "slash"}.get(key, key)
        app.post_message(events.Key(name, None if key == "\n" else key))
