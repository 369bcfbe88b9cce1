"""Turn moments of a process into screen states: names, sums, rates, changes since a mark.

Model: a `ViewModel` belongs to one thread. It holds the latest moment with its names, so another
order or another thread costs no reading; and the sums of the last seconds, for rates.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from mem_cli.live import facts
from mem_cli.live.answers import flame_graph, judgement, leak_page, stack_lines, verdicts
from mem_cli.live.screen_state import Page, Part, Place, ScreenState, Situation, Stacks
from mem_cli.live.view_options import HOST, ViewOptions, matching
from mem_parser.filters import Filters
from mem_parser.live.keptshown import KeptShown
from mem_parser.live.keptverdicts import KeptVerdicts
from mem_parser.live.naming import Naming, NamingChoice
from mem_parser.live.totals import Order, Rows, Totals, rows, totals
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.opening import Sentence
from mem_parser.symbols.table import Symbols
from mem_profiler.live.watched import Moment

RATES_OVER_S = 5.0
"""Rates are of so many seconds: of one they would jump."""


@dataclass
class Held:
    """A moment with the names of its profiles, as far as they were needed."""

    moment: Moment
    symbols: dict[int, Symbols] = field(default_factory=dict)
    sums: dict[tuple[int, int | None], Totals] = field(default_factory=dict)
    verdicts: dict[int, list[Sentence]] = field(default_factory=dict)


@dataclass
class Mark:
    """A moment that later ones are compared with."""

    held: Held
    at_s: float


class ViewModel:
    """Makes pictures of moments."""

    def __init__(
        self,
        choice: NamingChoice,
        filters: Filters,
        naming: Callable[[NamingChoice], Naming] = Naming,
    ) -> None:
        self.choice = choice
        self.filters = filters
        self._new_naming = naming
        self.held: Held | None = None
        self.mark: Mark | None = None
        self._naming: dict[int, Naming] = {}
        self._shown: dict[int, KeptShown] = {}
        self._recent: deque[Totals] = deque()
        self._recent_of: tuple[int, int] | None = None
        self._kept_verdicts = KeptVerdicts()

    def take(self, moment: Moment) -> None:
        """Hold a moment. One of another capture ends rates and mark: nothing can be compared."""
        if self.held is not None and self.held.moment.number != moment.number:
            self.mark = None
            self._recent.clear()
        self.held = Held(moment)

    def put_mark(self) -> None:
        """Compare with the moment that is held from now on."""
        if self.held is not None:
            self.mark = Mark(self.held, self.held.moment.t_s)

    def picture(self, options: ViewOptions, now_is: Situation) -> ScreenState | None:
        """Return the held moment for ``options``; None if none is held. Raises MemError."""
        held = self.held
        if held is None:
            return None
        began = time.perf_counter()
        options = _within(options, held.moment)
        now = self._sums(held, options.domain, options.thread)
        every = self._rows(held, now, options)
        kept = matching(now, options) if options.narrows else None
        # Who looks for a function by its name finds it, whatever it owns.
        by_own = options.order is Order.OWN and kept is None
        found = every.owners() if by_own else every
        profile = held.moment.profiles[options.domain]
        return ScreenState(
            options=options,
            situation=now_is,
            number=held.moment.number,
            head=facts.head(held.moment, options.domain),
            graphs=facts.graphs(held.moment),
            rows=found if kept is None else found.where(kept),
            verdicts=self._verdicts_on(held, options.domain),
            callers=len(every) - len(found),
            part=None if kept is None else Part(len(found), *now.together(kept), now.sum),
            threads=facts.threads(profile),
            domains=[
                Place(k, facts.domain_name(one)) for k, one in enumerate(held.moment.profiles)
            ],
            marked_s=None if self.mark is None else held.moment.t_s - self.mark.at_s,
            allocated_per_s=self._allocated_per_s(),
            notes=_notes(profile, held.symbols[options.domain]),
            cost_s=time.perf_counter() - began,
        )

    def _verdicts_on(self, held: Held, domain: int) -> list[Sentence]:
        if domain not in held.verdicts:
            moment, named = held.moment, self._named(held, domain)
            report = self._kept_verdicts.at(
                moment.t_s,
                (moment.number, moment.state, domain),
                lambda: judgement(named, self.choice, self.filters),
            )
            held.verdicts[domain] = verdicts(named, report, self.filters)
        return held.verdicts[domain]

    def take_mark(self) -> None:
        """Compare no more."""
        self.mark = None

    def leaks(self, options: ViewOptions, width: int) -> Page | None:
        """Return verdicts on leaks, in lines of about ``width``; None, as below: nothing is held.
        Raises MemError.
        """
        named = self.named(options.domain)
        return None if named is None else leak_page(named, self.choice, self.filters, width)

    def stacks(self, options: ViewOptions, function: str, *, callers: bool) -> Stacks | None:
        """Return the stacks of a function. Raises MemError."""
        named = self.named(options.domain)
        if named is None:
            return None
        return stack_lines(named, self.filters_of(options), function, callers=callers)

    def page(self, options: ViewOptions, pid: int) -> str | None:
        """Return a flame graph as a page. Raises MemError."""
        named = self.named(options.domain)
        if named is None:
            return None
        return flame_graph(named, self.marked(options.domain), self.filters, pid)

    def filters_of(self, options: ViewOptions) -> Filters:
        """Return the filters, with the thread that ``options`` name."""
        if options.thread is None or self.held is None:
            return self.filters
        every = self.held.moment.profiles[options.domain].threads
        chosen = tuple(str(one.tid) for one in every if one.row == options.thread)
        return dataclasses.replace(self.filters, threads=chosen)

    def named(self, domain: int) -> tuple[Profile, Symbols] | None:
        """Return the profile of a domain that is held, with its names. Raises MemError."""
        return None if self.held is None else self._named(self.held, domain)

    def marked(self, domain: int) -> tuple[Profile, Symbols] | None:
        """Return the same of the mark."""
        if self.mark is None or domain >= len(self.mark.held.moment.profiles):
            return None
        return self._named(self.mark.held, domain)

    def _named(self, held: Held, domain: int) -> tuple[Profile, Symbols]:
        profile = held.moment.profiles[domain]
        if domain not in held.symbols:
            if domain not in self._naming:
                self._naming[domain] = self._new_naming(self.choice)
            held.symbols[domain] = self._naming[domain].names(profile)
        return profile, held.symbols[domain]

    def _sums(self, held: Held, domain: int, thread: int | None) -> Totals:
        key = domain, thread
        if key not in held.sums:
            profile, symbols = self._named(held, domain)
            kept = self._shown.setdefault(domain, KeptShown())
            held.sums[key] = totals(profile, symbols, self.filters, thread=thread, kept=kept)
        return held.sums[key]

    def _rows(self, held: Held, now: Totals, options: ViewOptions) -> Rows:
        before = None
        if options.thread is None:
            before = self._before(now, (held.moment.number, options.domain))
        mark = None
        if self.mark is not None and options.domain < len(self.mark.held.moment.profiles):
            mark = self._sums(self.mark.held, options.domain, options.thread)
        return rows(now, before, mark, options.order)

    def _before(self, now: Totals, of: tuple[int, int]) -> Totals | None:
        """Return the sums of some seconds ago, and keep those of now."""
        recent = self._recent
        if self._recent_of != of:
            recent.clear()
            self._recent_of = of
        if not recent or recent[-1] is not now:
            recent.append(now)
        while len(recent) > 2 and now.t_s - recent[1].t_s >= RATES_OVER_S:
            recent.popleft()
        return recent[0] if len(recent) > 1 else None

    def _allocated_per_s(self) -> float | None:
        """Return the bytes that all functions together allocated in a second, lately."""
        if len(self._recent) < 2 or not self._recent[-1].profile.has_alloc:
            return None
        first, last = self._recent[0], self._recent[-1]
        span_s = last.t_s - first.t_s
        if span_s <= 0:
            return None
        before, after = (one.profile.total(Count.ALLOC, Unit.SPACE).value for one in (first, last))
        return max(after - before, 0.0) / span_s


def _notes(profile: Profile, symbols: Symbols) -> list[str]:
    """Return the missing parts of the profile, and why names are missing."""
    problems = ["; ".join(filter(None, (p.text, p.hint))) for p in symbols.problems]
    return [*profile.capture.notes, *problems]


def _within(options: ViewOptions, moment: Moment) -> ViewOptions:
    """Return options without names that the moment lacks."""
    if options.domain >= len(moment.profiles):
        options = dataclasses.replace(options, domain=HOST, thread=None)
    rows_of_threads = {thread.row for thread in moment.profiles[options.domain].threads}
    if options.thread is not None and options.thread not in rows_of_threads:
        options = dataclasses.replace(options, thread=None)
    return options
