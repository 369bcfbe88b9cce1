"""What a test is held against: its marks, the session's default, the budget file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mem_cli.pytest_plugin.settings import Settings
from mem_parser.budget.quantity import Allowance, parse_bytes, parse_rate
from mem_parser.budget.rules import Budget, Limit, Measure, Site
from mem_parser.errors import MemError
from mem_parser.escape import log_line

NO_INCREASE = Limit(Measure.GROWTH, growth=Allowance(), text="no increase")
"""Of `--fail-on-increase`: what does not surely exceed the baseline is within it."""
DOCUMENTED = (
    'limit_memory(peak, inuse=None): peak of live bytes while the test runs, such as "24 MB"',
    "limit_leaks(size, warmups=1, repeat=5): bytes that stay in use for each run of the test",
    'limit_alloc_rate(rate): allocated bytes per second, such as "50 MiB/s"',
    'limit_sites(match, own=False, **limits): limits of stacks: "function:^parse_", peak="1 MB"',
)


@dataclass(frozen=True, slots=True)
class LeakLimit:
    """What each run of a test may leave behind."""

    amount: float
    text: str
    warmups: int
    repeat: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything one test is held against."""

    budget: Budget
    leaks: LeakLimit | None

    @property
    def nothing(self) -> bool:
        """Whether the test has no limit at all."""
        return not self.budget.every_limit and self.leaks is None


def wanted_of(item: pytest.Item, settings: Settings) -> Wanted:
    """The limits of a test. One that cannot be read fails the test, in one line."""
    try:
        limits = list(_limits(item))
        sites = [_site(mark) for mark in item.iter_markers("limit_sites")]
        leaks = next((_leaks(mark) for mark in item.iter_markers("limit_leaks")), None)
    except (MemError, TypeError, ValueError) as error:
        pytest.fail(log_line(f"{item.nodeid}: {error}"), pytrace=False)
    budget = settings.budget.for_program(item.nodeid) if settings.budget else Budget()
    own = {limit.measure for limit in limits}
    limits += [limit for limit in budget.limits if limit.measure not in own]
    if settings.limit_text and Measure.PEAK not in {limit.measure for limit in limits}:
        limits.append(_limit(Measure.PEAK, settings.limit_text))
    if item.nodeid in settings.known:
        limits.append(NO_INCREASE)
    return Wanted(
        dataclasses.replace(
            budget,
            limits=tuple(limits),
            sites=(*budget.sites, *sites),
            baseline=settings.baseline,
        ),
        leaks,
    )


def _limit(measure: Measure, amount: Any) -> Limit:
    parse: Callable[[Any], float] = parse_rate if measure is Measure.ALLOC_RATE else parse_bytes
    return Limit(measure, parse(amount), text=str(amount))


def _limits(item: pytest.Item) -> Iterator[Limit]:
    mark = item.get_closest_marker("limit_memory")
    if mark is not None:
        yield from _memory(*mark.args, **mark.kwargs)
    mark = item.get_closest_marker("limit_alloc_rate")
    if mark is not None:
        yield _alloc_rate(*mark.args, **mark.kwargs)


def _memory(peak: Any = None, *, inuse: Any = None) -> Iterator[Limit]:
    if peak is None and inuse is None:
        raise TypeError('limit_memory needs a size, such as limit_memory("24 MB")')
    if peak is not None:
        yield _limit(Measure.PEAK, peak)
    if inuse is not None:
        yield _limit(Measure.INUSE, inuse)


def _alloc_rate(rate: Any) -> Limit:
    return _limit(Measure.ALLOC_RATE, rate)


def _leaks(mark: pytest.Mark) -> LeakLimit:
    def read(size: Any, warmups: int = 1, repeat: int = 5) -> LeakLimit:
        if warmups < 0 or repeat < 2:
            raise ValueError("limit_leaks: warmups is 0 or more, repeat 2 or more")
        return LeakLimit(parse_bytes(size), str(size), warmups, repeat)

    return read(*mark.args, **mark.kwargs)


def _site(mark: pytest.Mark) -> Site:
    def read(match: str | list[str], *, own: bool = False, **limits: Any) -> Site:
        from mem_parser.budget import parse_match

        if not limits:
            raise TypeError("limit_sites needs a limit: peak=, inuse= or alloc_rate=")
        texts = [match] if isinstance(match, str) else list(match)
        found = tuple(_limit(Measure(name), amount) for name, amount in limits.items())
        return Site(tuple(parse_match(text) for text in texts), found, own)

    return read(*mark.args, **mark.kwargs)
