"""The everyday form of `mem_parser`: check the options, read the file, make one report."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mem_cli.options import debug_servers
from mem_cli.output import check_output
from mem_parser.domains import join
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.escape import log_line
from mem_parser.filters import check_count
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.readers import read_profile
from mem_parser.reports.aggregate import GroupBy, StackSums, sum_stacks
from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS
from mem_parser.symbols.files import open_binary
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.table import SymbolProblem, Symbols

if TYPE_CHECKING:
    from mem_parser.reports.table import TableOptions


@dataclass(slots=True)
class Result:
    """What one run made: the text to write, and what has to be said about it."""

    text: str
    problems: list[SymbolProblem]
    incomplete: str | None


@dataclass(frozen=True, slots=True)
class Everyday:
    """The checked options of one run."""

    heaps: tuple[str, ...]
    by_domain: bool
    binary: str | None
    svg: bool
    output: str | None
    count: Count
    unit: Unit
    by_cum: bool
    group: GroupBy
    rows: int | None
    plain_bytes: bool
    rule: FrameRule
    debug_dirs: tuple[str, ...]
    debuginfod: bool
    strict: bool
    partial: bool

    @classmethod
    def from_options(cls, given: dict[str, Any]) -> Everyday:
        """Check options that do not fit together. Raises `UsageProblem`."""
        if not given["heap"]:
            raise UsageProblem("no profile given", hint="mem_parser -p BINARY -f FILE.heap -t")
        if given["by"] and (given["svg"] or len(given["heap"]) < 2):
            raise UsageProblem(
                "--by domain is a table of several files", hint="-f HOST.heap -f DEVICE.heap"
            )
        if given["svg"] and len(given["heap"]) > 1:
            raise UsageProblem("-s draws one file: the bytes of domains are not added up")
        if given["table"] == given["svg"] and not given["by"]:
            both = "-t and -s exclude each other" if given["svg"] else "neither -t nor -s given"
            raise UsageProblem(both, hint="-t prints a table, -s draws the call graph as SVG")
        for one, other in (
            ("inuse", "alloc"),
            ("inuse", "peak"),
            ("alloc", "peak"),
            ("space", "objects"),
            ("all_frames", "jeprof_frames"),
        ):
            if given[one] and given[other]:
                names = (f"--{k.replace('_', '-')}" for k in (one, other))
                raise UsageProblem(" and ".join(names) + " exclude each other")
        rule = FrameRule.JEPROF if given["jeprof_frames"] else FrameRule.OWN
        return cls(
            heaps=given["heap"],
            by_domain=bool(given["by"]),
            binary=given["binary"],
            svg=given["svg"],
            output=given["output"],
            count=_count(given),
            unit=Unit.OBJECTS if given["objects"] else Unit.SPACE,
            by_cum=given["cum"],
            group=GroupBy.LINE if given["lines"] else GroupBy.FUNCTION,
            rows=given["rows"],
            plain_bytes=given["plain_bytes"],
            rule=FrameRule.NONE if given["all_frames"] else rule,
            debug_dirs=(*given["debug_dir"], *DEFAULT_DEBUG_DIRS),
            debuginfod=given["debuginfod"],
            strict=given["strict"],
            partial=given["partial"],
        )

    def run(self) -> Result:
        """Read, name and report. Raises `MemError`; writes nothing."""
        check_output(self.output)
        profiles = [(heap, read_profile(heap)) for heap in self.heaps]
        joined = join(profiles)
        if self.binary is None:
            check_recorded_binary(profiles[0][1])
        for _, profile in profiles:
            check_count(profile, self.count)
        if self.by_domain:
            return self._run_merged(joined)
        results = [self._run_one(heap, profile) for heap, profile in profiles]
        if len(results) > 1:
            for result, (_, profile) in zip(results, profiles, strict=True):
                result.text = f"{log_line(profile.domains[0])}:\n{result.text}"
        return Result(
            "\n".join(result.text for result in results),
            list(dict.fromkeys(problem for result in results for problem in result.problems)),
            joined.incomplete,
        )

    def _symbols(self, profile: Profile) -> Symbols:
        return symbolize(
            profile,
            self.binary,
            debug_dirs=self.debug_dirs,
            debuginfod=debug_servers(asked=self.debuginfod),
        )

    def _run_one(self, heap: str, profile: Profile) -> Result:
        profile = profile.used(self.count)
        symbols = self._symbols(profile)
        sums = sum_stacks(
            profile, symbols, count=self.count, unit=self.unit, rule=self.rule, group=self.group
        )
        draw = self.svg
        text = self._draw(heap, profile, sums) if draw else self._table(profile, symbols, sums)
        return Result(text, symbols.problems, profile.incomplete)

    def _run_merged(self, joined: Profile) -> Result:
        from mem_parser.reports.domain_table import format_domains

        profile = joined.used(self.count)
        symbols = self._symbols(profile)
        lines = format_domains(profile, symbols, self._options(), self.group)
        return Result(_text(lines), symbols.problems, joined.incomplete)

    def _options(self) -> TableOptions:
        from mem_parser.reports.table import TableOptions

        return TableOptions(
            self.count, self.unit, self.by_cum, self.rows, self.plain_bytes, self.rule
        )

    def _table(self, profile: Profile, symbols: Symbols, sums: StackSums) -> str:
        from mem_parser.reports.table import format_table

        return _text(format_table(profile, symbols, sums, self._options()))

    def _draw(self, heap: str, profile: Profile, sums: StackSums) -> str:
        from mem_parser.reports.graph import build_graph
        from mem_parser.reports.svg import draw_svg

        name = os.path.basename(self.binary or profile.capture.exe or heap)
        return draw_svg(build_graph(profile, sums, self.count, self.unit, name))


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{log_line(line)}\n" for line in lines)


def _count(given: dict[str, Any]) -> Count:
    if given["peak"]:
        return Count.PEAK
    return Count.ALLOC if given["alloc"] else Count.INUSE


def check_recorded_binary(profile: Profile) -> None:
    """Accept a profile without -p only if it names a binary that is still the one profiled, or
    holds its names itself.
    """
    if profile.embedded is not None:
        return
    exe = profile.capture.exe
    module = next((m for m in profile.modules if exe and m.path == exe), None)
    if module is not None:
        try:
            if open_binary(exe).build_id == module.build_id:
                return
        except InputFileError:
            pass
    why = f"{exe} is not the file that was profiled" if exe else "the file names no program"
    raise UsageProblem(f"no binary given, and {why}", hint="-p BINARY")
