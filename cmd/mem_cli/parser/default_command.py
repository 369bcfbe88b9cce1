"""The default form of `mem_parser`: a table (`-t`) or the call graph as SVG (`-s`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mem_cli.options import Options, count_from, keeps_start_frames, settled, sorted_by_cum
from mem_cli.output import check_output
from mem_cli.parser.picture import check_picture, write_picture
from mem_cli.pipeline import (
    Opened,
    Source,
    check_has,
    deliver,
    named,
    read,
    refuse_cut,
    say_missing,
)
from mem_parser.domains import join
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.folds import Folds
from mem_parser.memlog.part import is_log
from mem_parser.model import Module, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.programname import profile_name
from mem_parser.reports.aggregate import GroupBy, StackSums, sum_stacks
from mem_parser.reports.table import TableOptions
from mem_parser.symbols.files import open_binary

if TYPE_CHECKING:
    from mem_parser.reports.graph import CallGraph

_EXCLUDING = (
    ("space", "objects"),
    ("all_frames", "jeprof_frames"),
)


_OF_FORM = ("strict", "lines", "jeprof_frames")
"""Flags that need `-t` or `-s`."""


def run(options: Options) -> None:
    """Read, name and report as the group's options say. Raises `MemError`."""
    _check(options)
    check_output(options["output"])
    if options["svg"]:
        check_picture(options["output"], options["binary"] or options["heap"][0], options="-s")
    sources = read(options["heap"], options, every_domain=not options["svg"])
    join(sources)
    table = _table_options(settled(options, [source.profile for source in sources]))
    if options["binary"] is None:
        check_recorded_binary(sources[0].profile)
    check_has(sources, table.count)
    together = [sources] if options["by"] else [[source] for source in sources]
    opened = [named(some, options, table.count) for some in together]
    say_missing(opened, strict=options["strict"])
    if options["svg"]:
        write_picture(_graph(opened[0], table, options), options["output"])
        refuse_cut(sources, partial=options["partial"])
    else:
        _show(sources, opened, table, options)


def _show(
    sources: Sequence[Source], opened: Sequence[Opened], table: TableOptions, options: Options
) -> None:
    """Print the tables, or write them to a file."""
    from mem_cli.terminal import columns, fitted

    output = options["output"]
    table = dataclasses.replace(table, width=columns(output))
    sums = [] if options["by"] else [_sums(one, table, options) for one in opened]

    def lines(rows: int | None) -> Iterator[str]:
        return _lines(opened, sums, dataclasses.replace(table, rows=rows), options)

    deliver(sources, options, fitted(lines, table.rows, output, tables=max(len(sums), 1)))


def _check(options: Options) -> None:
    """Refuse options that do not fit together. Raises `UsageProblem`."""
    heaps, svg = options["heap"], options["svg"]
    sorted_by_cum(options)
    if not heaps:
        raise UsageProblem("no profile given", hint="mem_parser -p BINARY -f FILE.heap -t")
    if options["by"] and (svg or (len(heaps) < 2 and not all(map(is_log, heaps)))):
        raise UsageProblem("--by domain needs several files", hint="-f HOST.heap -f DEVICE.heap")
    if svg and len(heaps) > 1 and not all(map(is_log, heaps)):
        raise UsageProblem("-s draws one file only: bytes of different domains are not added up")
    if options["table"] == svg and not options["by"]:
        alone = next((name for name in _OF_FORM if options[name]), "")
        meant = f", one of which --{alone.replace('_', '-')} is for" if alone else ""
        both = "-t and -s exclude each other" if svg else f"neither -t nor -s given{meant}"
        lines = "mem_parser top --lines FILE, or: " if options["lines"] and not svg else ""
        raise UsageProblem(both, hint=f"{lines}-t prints a table, -s draws the call graph as SVG")
    count_from(options)
    for pair in _EXCLUDING:
        if all(options[name] for name in pair):
            names = (f"--{name.replace('_', '-')}" for name in pair)
            raise UsageProblem(" and ".join(names) + " exclude each other")


def _table_options(options: Options) -> TableOptions:
    rule = FrameRule.JEPROF if options["jeprof_frames"] else FrameRule.PROGRAM
    rule = FrameRule.NONE if options["all_frames"] else rule
    kept = keeps_start_frames(options)
    return TableOptions(
        count=count_from(options),
        unit=Unit.OBJECTS if options["objects"] else Unit.SPACE,
        by_cum=sorted_by_cum(options),
        rows=options["rows"],
        plain_bytes=options["plain_bytes"],
        rule=rule,
        lines=options["lines"],
        at_length=options["verbose"],
        folds=Folds.ALL if rule is FrameRule.PROGRAM and not kept else Folds.NONE,
    )


def _group(options: Options) -> GroupBy:
    return GroupBy.LINE if options["lines"] else GroupBy.FUNCTION


def _lines(
    opened: Sequence[Opened], sums: Sequence[StackSums], table: TableOptions, options: Options
) -> Iterator[str]:
    """Yield the table of all domains side by side, or one table of ``sums`` after the other."""
    from mem_parser.reports.domain_table import format_domains
    from mem_parser.reports.table import format_table

    if options["by"]:
        yield from format_domains(opened[0].profile, opened[0].symbols, table, _group(options))
        return
    for number, (one, sum_of_one) in enumerate(zip(opened, sums, strict=True)):
        if number:
            yield ""
        if len(opened) > 1:
            yield f"{one.profile.domains[0]}:"
        yield from format_table(one.profile, one.symbols, sum_of_one, table)


def _graph(opened: Opened, table: TableOptions, options: Options) -> CallGraph:
    from mem_parser.reports.graph import build_graph

    profile = opened.profile
    name = profile_name(profile.capture, options["binary"], opened.sources[0].file)
    return build_graph(profile, _sums(opened, table, options), table.count, table.unit, name)


def _sums(opened: Opened, table: TableOptions, options: Options) -> StackSums:
    return sum_stacks(
        opened.profile,
        opened.symbols,
        count=table.count,
        unit=table.unit,
        rule=table.rule,
        group=_group(options),
        folds=table.folds,
    )


def check_recorded_binary(profile: Profile) -> None:
    """Accept a profile without -p only if the binary that it names is still the one profiled, it
    holds its names itself, or it names none, as those of other tools. Raises `UsageProblem`.
    """
    embedded = profile.embedded
    holds_names = embedded is not None and not embedded.of_made_code_alone
    holds_names |= profile.python is not None and len(profile.python) > 0
    exe = profile.capture.exe
    if holds_names or not exe or not len(profile.sites):
        return
    module = next((m for m in profile.modules if m.path == exe), None)
    if module is not None and not module.build_id and not _is_crossed(profile, module):
        return  # of a JVM that was attached to, only libraries are on the stacks
    if module is not None:
        try:
            if open_binary(exe).build_id == module.build_id:
                return
        except InputFileError:
            pass
    why = f"{exe} is not the file that was profiled"
    raise UsageProblem(f"-p BINARY is missing, and {why}", hint="-p BINARY")


def _is_crossed(profile: Profile, module: Module) -> bool:
    """Tell whether an address of a stack lies in the module."""
    frames = profile.stacks.frames
    return any(bool(((frames >= r.start) & (frames < r.end)).any()) for r in module.ranges)
