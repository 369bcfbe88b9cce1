"""A test's limits: its marks, the session's default, the budget file.

Every mark begins with `mem_`. The names without it mean the same, where no other plugin has them:
`limit_memory` and `limit_leaks` are pytest-memray's in a run that has pytest-memray.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import pytest

from mem_cli.pytest_plugin.settings import Settings
from mem_parser.budget.quantity import Allowance, parse_bytes, parse_count, parse_peak, parse_rate
from mem_parser.budget.rules import Budget, Limit, Measure, Site
from mem_parser.errors import MemError, nearest
from mem_parser.escape import log_line

NO_INCREASE = Limit(Measure.GROWTH, growth=Allowance(), text="no increase")
"""Of `--mem-fail-on-increase`. An unchanged test lies at its baseline, which no number of samples
tells from above it: so it passes where it surely is within `HIDDEN` of it."""
HIDDEN = Allowance(share=0.1, bytes=64 << 10)
_DOCUMENTED = (
    "mem_limit(peak, inuse=None, alloc=None, allocs=None): bytes live, at the end, in all; blocks",
    "mem_leaks(size, warmups=1, repeat=5, filter_fn=None): bytes that stay in use for each run",
    'mem_alloc_rate(rate): allocated bytes per second, such as "50 MiB/s"',
    'mem_sites(match, own=False, **limits): limits of stacks: "function:^parse_", peak="1 MB"',
)
_OLD_NAMES = {
    "mem_limit": "limit_memory",
    "mem_leaks": "limit_leaks",
    "mem_alloc_rate": "limit_alloc_rate",
    "mem_sites": "limit_sites",
}
_OF_SITES = ("peak", "inuse", "alloc", "allocs", "alloc_rate", "leaks")
T = TypeVar("T")
_OF_MEMRAY = {"limit_memory", "limit_leaks"}
_MEMRAY = ("memray", "pytest_memray.plugin", "memray_manager")
"""Names of pytest-memray: as an entry point, loaded by name, and while it runs."""


class StackFrame(NamedTuple):
    """A frame, as a filter of pytest-memray gets it."""

    function: str
    filename: str
    lineno: int


class Stack(NamedTuple):
    """A call stack, innermost first."""

    frames: tuple[StackFrame, ...]


StackFilter = Callable[[Stack], bool]


@dataclass(frozen=True, slots=True)
class LeakLimit:
    """What each run of a test may leave behind, on the stacks that ``filter_fn`` accepts."""

    amount: float
    text: str
    warmups: int
    repeat: int
    filter_fn: StackFilter | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything one test is held against."""

    budget: Budget
    leaks: LeakLimit | None

    @property
    def nothing(self) -> bool:
        """Whether the test has no limit at all."""
        return not self.budget.every_limit and self.leaks is None


def old_names_are_free(config: pytest.Config) -> bool:
    """Whether the marks that pytest-memray has too are ours: it takes no part in this run."""
    return not any(config.pluginmanager.hasplugin(name) for name in _MEMRAY)


def _names(mark: str, config: pytest.Config) -> set[str]:
    """The names by which a test may carry one of our marks."""
    old = _OLD_NAMES[mark]
    return {mark} if old in _OF_MEMRAY and not old_names_are_free(config) else {mark, old}


def documented(config: pytest.Config) -> Iterator[str]:
    """The lines of `pytest --markers`."""
    yield from _DOCUMENTED
    for mark, old in _OLD_NAMES.items():
        if old in _names(mark, config):
            yield f"{old}: the same as {mark}"


def _marks(item: pytest.Item, mark: str) -> Iterator[pytest.Mark]:
    """The test's marks of a kind, the closest first."""
    names = _names(mark, item.config)
    return (found for found in item.iter_markers() if found.name in names)


def wanted_of(item: pytest.Item, settings: Settings) -> Wanted:
    """The limits of a test. One that cannot be read fails the test, in one line."""
    try:
        limits = list(_limits(item))
        sites = [_site(mark) for mark in _marks(item, "mem_sites")]
        leaks = next((_leaks(mark) for mark in _marks(item, "mem_leaks")), None)
    except (MemError, TypeError, ValueError) as error:
        text = log_line(f"{item.nodeid}: {error}")
        raise pytest.fail.Exception(text, pytrace=False) from None
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
    readers = {
        Measure.ALLOC_RATE: parse_rate,
        Measure.PEAK: parse_peak,
        Measure.ALLOCS: parse_count,
    }
    return Limit(measure, readers.get(measure, parse_bytes)(amount), text=str(amount))


def _called(mark: pytest.Mark, read: Callable[..., T], *more: str) -> T:
    """Return what ``read`` makes of a mark's arguments; it takes ``more`` names than it declares.

    Raises `TypeError`, which names the mark.
    """
    signature = inspect.signature(read)
    known = [p.name for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    known += more
    for word in mark.kwargs:
        if word not in known:
            hint = nearest(word, known)
            names = f"{hint} It takes" if hint else "it takes"
            raise TypeError(f"{mark.name}: unknown argument {word!r}: {names} {', '.join(known)}")
    try:
        bound = signature.bind(*mark.args, **mark.kwargs)
    except TypeError as error:
        names = ", ".join(known)
        raise TypeError(f"{mark.name}: {error}; it takes {names}") from None
    return read(*bound.args, **bound.kwargs)


def _limits(item: pytest.Item) -> Iterator[Limit]:
    for mark in islice(_marks(item, "mem_limit"), 1):
        yield from _memory(mark)
    for mark in islice(_marks(item, "mem_alloc_rate"), 1):
        yield _called(mark, _alloc_rate)


def _memory(mark: pytest.Mark) -> list[Limit]:
    def read(
        peak: Any = None,
        *,
        inuse: Any = None,
        alloc: Any = None,
        allocs: Any = None,
        current_thread_only: bool = False,
    ) -> list[Limit]:
        _refuse_one_thread(mark, current_thread_only)
        given = {"peak": peak, "inuse": inuse, "alloc": alloc, "allocs": allocs}
        limits = [_limit(Measure(word), size) for word, size in given.items() if size is not None]
        if not limits:
            raise TypeError(f'{mark.name} needs a size, such as {mark.name}("24 MB")')
        return limits

    return _called(mark, read)


def _alloc_rate(rate: Any) -> Limit:
    return _limit(Measure.ALLOC_RATE, rate)


def _leaks(mark: pytest.Mark) -> LeakLimit:
    def read(
        size: Any,
        warmups: int = 1,
        repeat: int = 5,
        *,
        filter_fn: StackFilter | None = None,
        current_thread_only: bool = False,
    ) -> LeakLimit:
        _refuse_one_thread(mark, current_thread_only)
        if filter_fn is not None and not callable(filter_fn):
            raise TypeError(f"{mark.name}: filter_fn is a function of a stack")
        if warmups < 0 or repeat < 2:
            raise ValueError(f"{mark.name}: warmups is 0 or more, repeat 2 or more")
        return LeakLimit(parse_bytes(size), str(size), warmups, repeat, filter_fn)

    return _called(mark, read)


def _refuse_one_thread(mark: pytest.Mark, wanted: bool) -> None:
    if wanted:
        raise TypeError(
            f"{mark.name}: current_thread_only: which thread held what at the peak is not known"
        )


def _site(mark: pytest.Mark) -> Site:
    def read(match: str | list[str], *, own: bool = False, **limits: Any) -> Site:
        from mem_parser.budget import parse_match

        if not limits:
            names = "peak=, inuse=, alloc=, allocs= or alloc_rate="
            raise TypeError(f"{mark.name} needs a limit: {names}")
        texts = [match] if isinstance(match, str) else list(match)
        found = tuple(_limit(Measure(name), amount) for name, amount in limits.items())
        return Site(tuple(parse_match(text) for text in texts), found, own)

    return _called(mark, read, *_OF_SITES)
