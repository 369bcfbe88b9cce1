"""A profile as one report sees it: filtered, named, and ready to be added up.

Allocator frames are gone from ``symbols``; ``raw`` still has them. Stacks have the same numbers in
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mem_parser.domains import as_part
from mem_parser.errors import UsageProblem
from mem_parser.estimate import Estimate
from mem_parser.filters import Filters
from mem_parser.folds import Folds
from mem_parser.interning import distinct
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import GroupBy, StackSums, sum_stacks
from mem_parser.reports.device import record as device_record
from mem_parser.reports.device import refusal_lines, remainder_line
from mem_parser.reports.grid import Block, Record, numbers
from mem_parser.reports.header import header_lines, nothing_line
from mem_parser.reports.table import folded_lines, nameless_lines, wrapper_line
from mem_parser.symbols.table import Function, Symbols
from mem_parser.words import shown


@dataclass(frozen=True, slots=True)
class View:
    """Result of `make_view`: one profile under one choice of filters."""

    profile: Profile
    symbols: Symbols
    raw: Symbols
    filters: Filters

    def sums(
        self,
        group: GroupBy = GroupBy.FUNCTION,
        *,
        count: Count | None = None,
        unit: Unit | None = None,
    ) -> StackSums:
        """Return the stacks with their estimates, by default in the filters' count and unit."""
        return sum_stacks(
            self.profile,
            self.symbols,
            count=count or self.filters.count,
            unit=unit or self.filters.unit,
            rule=FrameRule.NONE,
            group=group,
        )

    @property
    def total(self) -> Estimate:
        """The estimate of everything that passes the filters."""
        return self.profile.total(self.filters.count, self.filters.unit)

    @property
    def header(self) -> list[str]:
        """The lines above the report."""
        return header_lines(self.profile, self.total, self.filters.count, self.filters.unit)

    def framed(
        self, body: Iterable[Block], left_out: str = "", *, of_functions: bool = False
    ) -> Iterator[Block]:
        """Yield a report: the header, ``body``, missing names, and what is ``left_out``.
        Without samples there is no body. ``of_functions``: its rows are what functions own.
        """
        yield from shown(self.header)
        if not self.total.samples:
            yield shown(nothing_line(self.profile, self.filters.count))
        else:
            yield from body
        yield from map(shown, self._ending(left_out, of_functions=of_functions))

    def _ending(self, left_out: str, *, of_functions: bool) -> Iterator[str]:
        filters = self.filters
        rest = "" if filters.narrows else remainder_line(self.profile, filters.count, filters.unit)
        yield from filter(None, [rest])
        yield from refusal_lines(self.profile, self.raw, filters.rule)
        if self.total.samples:
            yield from folded_lines(self.symbols, filters.rule)
            yield from nameless_lines(self.symbols, at_length=filters.at_length)
            wrapper = self.wrapper if of_functions else ""
            yield from filter(None, [wrapper, left_out])

    @property
    def wrapper(self) -> str:
        """How to see the callers of what may be a wrapper; empty where nothing is."""
        sought = self.filters.rule is FrameRule.PROGRAM and not self.filters.narrows
        return wrapper_line(self.symbols, self.sums()) if sought else ""

    def record(self, rows: list[Record] | None, **more: object) -> Record:
        """Return the report for programs: its ``rows`` first, then ``more`` and the facts of the
        profile.

        None: the report has other tables instead of rows, in ``more``.
        """
        about: Record = {
            "count": str(self.filters.count),
            "unit": str(self.filters.unit),
            "filters": self.filters.words,
            "start_frames": "folded" if Folds.STARTS in self.filters.folds else "kept",
            "rate_bytes": self.profile.rate_bytes,
            "sampling": self.profile.sampling or None,
            "samples": self.total.samples,
            "samples_missing": self.profile.samples_missing,
            "incomplete": self.profile.incomplete,
        }
        first: Record = {} if rows is None else {"rows": rows}
        of_device = device_record(self.profile, self.raw, self.filters.count)
        return first | more | numbers("total", self.total) | about | of_device

    @property
    def function_of_name(self) -> dict[str, Function]:
        """The first function of every name that reports group by."""
        return {f.name: f for f in reversed(self.symbols.functions)}


def make_view(profile: Profile, symbols: Symbols, filters: Filters) -> View:
    """Apply ``filters``. Raises as `Filters.apply` does, and `UsageProblem` if blocks of several
    domains are left: host and device bytes are not added up.
    """
    left, named = filters.apply(profile, symbols)
    names = [left.domains[k] for k in distinct(left.sites.domain)]
    if len(names) > 1:
        raise UsageProblem(
            f"{' and '.join(names)} are different memories: their bytes are not added up",
            hint=f"--domain {names[0]} shows one of them",
        )
    if left.parts and names:
        left = as_part(left, names[0])
    return View(left, named, symbols, filters)
