"""The rules of a budget, from a file, a test mark or a call.

A `Budget` has the limits of one capture: of the whole, and of sites. `Limit.amount` is bytes (bytes
per second for `ALLOC_RATE`); growth is an allowance on top of the baseline instead.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mem_parser.budget.quantity import Allowance

if TYPE_CHECKING:
    from mem_parser.model import Unit

_NOTHING = Allowance()
ERROR = 0.05
"""Chance of a wrong verdict, over all tries and all limits that are checked together."""


class Measure(enum.StrEnum):
    """The quantity that a limit bounds."""

    PEAK = "peak"
    RSS = "rss"
    INUSE = "inuse"
    ALLOC = "alloc"
    ALLOCS = "allocs"
    ALLOC_RATE = "alloc_rate"
    LEAKS = "leaks"
    GROWTH = "growth"
    ALLOC_GROWTH = "alloc_growth"
    ALLOCS_GROWTH = "allocs_growth"

    @property
    def is_growth(self) -> bool:
        """Whether its limits are against a baseline."""
        return self.endswith("growth")

    @property
    def counts_blocks(self) -> bool:
        """Whether its amounts are numbers of blocks."""
        return self.startswith("allocs")

    @property
    def unit(self) -> Unit:
        """That of its amounts."""
        from mem_parser.model import Unit

        return Unit.OBJECTS if self.counts_blocks else Unit.SPACE


class Kind(enum.StrEnum):
    """The part of a stack that identifies a site."""

    FUNCTION = "function"
    FILE = "file"
    MODULE = "module"
    STACK = "stack"
    THREAD = "thread"
    DOMAIN = "domain"


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit; its amount is bytes, of `Measure.ALLOCS` a number of blocks. ``text`` is the
    amount as written, ``where`` its file, line and column. ``allows_held``: of one on leaks,
    whether what grew until the program freed it as it ended may pass.
    """

    measure: Measure
    amount: float = 0.0
    growth: Allowance = _NOTHING
    tolerance: Allowance = _NOTHING
    text: str = ""
    where: str = ""
    allows_held: bool = False

    @property
    def allowed(self) -> float:
        """The amount with its tolerance, of which a number of blocks takes the share alone."""
        tolerance = self.tolerance
        if self.measure.counts_blocks:
            tolerance = Allowance(tolerance.share)
        return tolerance.raised(self.amount)


@dataclass(frozen=True, slots=True)
class Match:
    """``kind:pattern``; the pattern is a regular expression that may match anywhere. The text of a
    stack is its function names, outermost first, with `;` between them.
    """

    kind: Kind
    pattern: re.Pattern[str]

    def __str__(self) -> str:
        return f"{self.kind}:{self.pattern.pattern}"


@dataclass(frozen=True, slots=True)
class Site:
    """Blocks of the stacks on which all ``matches`` hold; with ``own`` the innermost frame (after
    allocators) must be the one that matches, instead of any.
    """

    matches: tuple[Match, ...]
    limits: tuple[Limit, ...] = ()
    own: bool = False
    name: str = ""

    def is_about(self, domains: Sequence[str]) -> bool:
        """Tell whether it is about a capture of these memory domains."""
        wanted = [m.pattern for m in self.matches if m.kind is Kind.DOMAIN]
        if not wanted:
            return "host" in domains
        return any(all(p.search(d) for p in wanted) for d in domains)

    @property
    def key(self) -> str:
        """The name of the site in baselines, and in reports where the file gives it none."""
        return " and ".join(map(str, self.matches)) + (" (own)" if self.own else "")

    @property
    def title(self) -> str:
        """The name of the site in reports."""
        return self.name or self.key


@dataclass(frozen=True, slots=True)
class Budget:
    """All rules for one capture.

    ``baseline`` is the path of the baseline file, which need not exist unless a limit is about
    growth. ``suppressions`` are LeakSanitizer files of known leaks. All limits of one check share
    ``error``. ``is_for_all``: any program has limits, so the children of this one too.
    """

    limits: tuple[Limit, ...] = ()
    sites: tuple[Site, ...] = ()
    baseline: str | None = None
    suppressions: tuple[str, ...] = ()
    error: float = ERROR
    is_for_all: bool = True

    @property
    def every_limit(self) -> list[tuple[Site | None, Limit]]:
        """All limits with their site; None is the whole program."""
        whole: list[tuple[Site | None, Limit]] = [(None, limit) for limit in self.limits]
        return whole + [(site, limit) for site in self.sites for limit in site.limits]

    def for_domains(self, domains: Sequence[str]) -> Budget:
        """Return the budget for a capture of these memory domains.

        Limits of the whole, and sites that name no domain, are about the host's memory; a device's
        memory has files of its own, and sites that name its domain limit it.
        """
        host = "host" in domains
        sites = tuple(site for site in self.sites if site.is_about(domains))
        return dataclasses.replace(self, limits=self.limits if host else (), sites=sites)

    def without_growth(self) -> Budget:
        """Return the budget without its limits on growth."""

        def kept(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
            return tuple(limit for limit in limits if not limit.measure.is_growth)

        sites = (dataclasses.replace(site, limits=kept(site.limits)) for site in self.sites)
        return dataclasses.replace(self, limits=kept(self.limits), sites=tuple(sites))

    @property
    def needs_baseline(self) -> bool:
        """Whether a limit is about growth."""
        return any(limit.measure.is_growth for _, limit in self.every_limit)


TRIES = 3
"""Most tries where nobody said how many."""
FEW_BLOCKS = 100_000
"""Blocks that a try may sample each without slowing the program much."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The plan of `mem_profiler run --budget`: most tries, and the rate of the first. Where the
    file says nothing (None), `TRIES` and the limits do.
    """

    tries: int | None = None
    rate_bytes: int | None = None


FINEST_FIRST_RATE = 256
COARSEST_FIRST_RATE = 32768
_SAMPLES_AT_LIMIT = 1024
_OF_RATE = (Measure.PEAK, Measure.INUSE, Measure.ALLOC, Measure.ALLOCS)


def first_rate(budgets: list[Budget]) -> int:
    """Return the bytes per sample of a first try: a power of two that gives a value at the smallest
    limit about 1024 samples (3 % standard error), within bounds that keep it cheap.
    """
    amounts = [
        limit.allowed
        for budget in budgets
        for _, limit in budget.every_limit
        if limit.measure in _OF_RATE and limit.amount > 0
    ]
    rate = COARSEST_FIRST_RATE
    smallest = min(amounts, default=0.0)
    while amounts and rate > FINEST_FIRST_RATE and smallest < rate * _SAMPLES_AT_LIMIT:
        rate //= 2
    return rate


@dataclass(slots=True)
class Section:
    """`[budget]` or one `[target.NAME]`, before `for_program` joins them."""

    limits: dict[Measure, Limit] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)
    site_tolerance: dict[str, Allowance] = field(default_factory=dict)
    tolerance: Allowance | None = None
    baseline: str | None = None
    suppressions: tuple[str, ...] = ()
    error: float | None = None
