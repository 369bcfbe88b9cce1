"""The screen's state: numbers and texts of one moment, ready to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mem_cli.live.braille import Series
from mem_cli.live.view_options import ViewOptions
from mem_parser.estimate import Estimate
from mem_parser.live.totals import Rows
from mem_parser.reports.opening import Sentence
from mem_profiler.live.watched import State


@dataclass(frozen=True)
class Situation:
    """How a process that is watched is at this time; ``is_own``: the capture is this viewer's."""

    state: State
    why: str = ""
    is_own: bool = False


@dataclass(frozen=True)
class Head:
    """The facts of a process and its capture."""

    program: str
    exe: str
    pid: int
    allocator: str
    rate_bytes: float
    t_s: float
    samples: int
    lost: int
    live: Estimate
    highest: Estimate
    rss_bytes: int | None


HEAP = "heap"
"""The title of the graph of the heap in use."""


@dataclass(frozen=True)
class Graph:
    """One graph: its subject, its present value, and the values of the last minutes."""

    title: str
    now: str
    series: Series


@dataclass(frozen=True)
class Place:
    """A thread, or a domain, that may be chosen; ``key`` is how a `ViewOptions` names it."""

    key: int
    name: str


@dataclass(frozen=True)
class Part:
    """Totals of the functions that pass the options: ``own``, and ``total`` with what was
    allocated below them, each stack once. ``all_rows`` and ``whole`` are of all functions.
    """

    all_rows: int
    own: Estimate
    total: Estimate
    whole: Estimate


@dataclass(frozen=True)
class ScreenState:
    """One moment, as the options ask for it. ``marked_s``: seconds since the mark; None: no mark.

    ``number`` is that of the capture; ``part`` is set if the options exclude functions.
    ``verdicts`` are of the whole memory, whatever the options exclude; leaks of some seconds ago.
    ``callers`` counts functions without own memory that are left out.
    """

    options: ViewOptions
    situation: Situation
    number: int
    head: Head
    graphs: Sequence[Graph]
    rows: Rows
    threads: Sequence[Place]
    domains: Sequence[Place]
    verdicts: Sequence[Sentence] = ()
    callers: int = 0
    part: Part | None = None
    marked_s: float | None = None
    allocated_per_s: float | None = None
    notes: Sequence[str] = ()
    cost_s: float = 0.0


@dataclass(frozen=True)
class Said:
    """A sentence for the line of news. ``written``: it names a file, and is said at the end too."""

    text: str
    bad: bool = False
    written: bool = False


@dataclass(frozen=True)
class Page:
    """Lines to read, below a title."""

    title: str
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Branch:
    """One line of a tree of stacks: ``depth`` 0 is the function itself, ``below`` the number of
    lines that belong to it.
    """

    text: str
    depth: int
    total: Estimate
    share: float
    below: int


@dataclass(frozen=True)
class Stacks:
    """The stacks of a function as a tree: to its callers, or to its callees."""

    function: str
    callers: bool
    branches: Sequence[Branch]
    note: str = ""


@dataclass(frozen=True)
class Restarted:
    """The program runs again, as another process, or the process runs another program. ``at_once``:
    the view goes to it without being asked. ``others``: it may as well be one of these.
    """

    pid: int
    at_once: bool = False
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Lost:
    """The worker failed: there will be no more pictures."""
