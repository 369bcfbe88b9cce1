"""`mem_parser convert`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from mem_cli.commands import Output
from mem_cli.console import waiting, warn
from mem_cli.forms import form_of
from mem_cli.logs import opened_log, refuse_cut_log, views_of
from mem_cli.options import (
    COUNTS,
    Options,
    all_frames_option,
    count_options,
    file_argument,
    filters_from,
    narrowing_options,
    partial_option,
    python_options,
    settled,
    symbol_options,
    templates_option,
)
from mem_cli.output import check_output, write_parts
from mem_cli.parser.dumps import convert_to_dumps
from mem_cli.pipeline import Opened, Source, check_has, end_written, named, read, say_missing
from mem_parser.errors import UsageProblem
from mem_parser.heapfile.form import Form

if TYPE_CHECKING:
    from mem_parser.filters import Filters
    from mem_parser.memlog.part import Part
    from mem_parser.memlog.run import Run
    from mem_parser.memlog.series import Series
    from mem_parser.model import Profile
    from mem_parser.reports.peaks import PeakView
    from mem_parser.symbols.table import Symbols

FORMATS = (
    "pprof", "heap", "speedscope", "collapsed", "csv", "json", "parquet", "perfetto", "memscope",
)  # fmt: skip
_COUNTED = (*COUNTS, "space", "objects")
_CHANGING = ("hide", "templates", "native", "python", "nn_modules", "labels")
_INTERVALS = 5000
_LEAST_NS = 100_000
_PEAKS = 5
_USUAL: Options = {"library": (), "all_frames": False, "templates": False, "labels": False}
_BY_END = {
    ".pb.gz": "pprof", ".pb": "pprof", ".pprof": "pprof", ".heap": "heap",
    ".heap.gz": "heap",
    ".speedscope.json": "speedscope", ".speedscope": "speedscope", ".collapsed": "collapsed",
    ".folded": "collapsed", ".csv": "csv", ".perfetto.json": "perfetto", ".perfetto": "perfetto",
    ".json": "json", ".parquet": "parquet", ".db": "memscope",
}  # fmt: skip


@click.command()
@file_argument
@click.option(
    "-o", "--output", type=Output(makes_folders=True), required=True, metavar="OUT",
    help="Write here; `-`: stdout.",
)  # fmt: skip
@click.option(
    "--to", "to", type=click.Choice(FORMATS), help="Format, if the name OUT does not end in one."
)
@narrowing_options
@count_options
@all_frames_option
@python_options
@templates_option
@symbol_options
@click.option("--from", "from_text", metavar="TIME", help="Of a .memlog: from then on.")
@click.option("--until", "to_text", metavar="TIME", help="Of a .memlog: up to then.")
@click.option(
    "--call-stack",
    metavar="c[:N],python[:N]",
    help="With memscope: stacks, with a depth (50), or python-all[:N].",
)
@partial_option
def convert(file: str, output: str, to: str | None, **options: Any) -> None:
    r"""Write a profile in another format, chosen by the end of OUT's name or by --to.

    \b
    .pb.gz .pb .pprof   pprof's profile.proto: estimates, with names
    .heap               our own as text, as jeprof and google-pprof read it
    .heap.gz            the same packed; mem_parser and Go's pprof read both
    .speedscope.json    speedscope
    .collapsed .folded  one line per stack, for flame graph programs
    .csv .json          one row per stack, with standard errors
    .parquet            a folder with a table of events, blocks, sites, stacks ...: docs/queries.md
    .perfetto.json      of a .memlog: live bytes, rates and marks over time, for ui.perfetto.dev
    .db, or --to memscope   of a log of events: a dump of memory events, a row each; OUT is
                        NAME.csv, NAME.db, or a folder, which gets a tree of dumps by device

    Frames of libraries stay in every format. What is counted (--alloc, --objects ...) is a
    choice for collapsed stacks alone; the other formats hold every count.
    """
    kind = to or _format_of(output)
    chosen = [name for name in _COUNTED if options[name]]
    if kind != "collapsed" and chosen:
        raise UsageProblem(
            f"{' and '.join(f'--{name}' for name in chosen)} {'need' if chosen[1:] else 'needs'} "
            "the format collapsed: the others hold every count"
        )
    changing = [f"--{name.replace('_', '-')}" for name in _CHANGING if options[name]]
    if kind == "heap" and changing:
        raise UsageProblem(
            "a .heap file keeps all frames as they are", hint=f"leave {' and '.join(changing)} out"
        )
    if kind == "memscope":
        convert_to_dumps([file, *options["parts"]], output, options)
        return
    if options["call_stack"] is not None:
        raise UsageProblem("--call-stack is for --to memscope alone: other formats have all stacks")
    if kind in _OF_FILES:
        _refuse_narrowing(kind, options)
        _OF_FILES[kind](file, output, options)
        return
    check_output(output)
    sources = read([file], options)
    write_parts(_converted(sources[0], kind, output, options), output)
    end_written(sources, partial=options["partial"])


_NARROWING = ("focus", "ignore", "hide", "thread", "domain", "min_samples", "all_frames", "labels")


def _refuse_narrowing(kind: str, options: dict[str, Any]) -> None:
    given = [f"--{name.replace('_', '-')}" for name in _NARROWING if options[name]]
    if given:
        raise UsageProblem(
            f"{kind} holds all stacks and frames", hint=f"leave {' and '.join(given)} out"
        )


def _parquet(file: str, output: str, options: dict[str, Any]) -> None:
    from mem_cli.tables import check_folder_output, opened_tables, write_tables

    check_folder_output(output)
    with opened_tables([file, *options["parts"]], options) as found:
        write_tables(found.tables, output)
        found.end(partial=options["partial"])


def _perfetto(file: str, output: str, options: dict[str, Any]) -> None:
    given = options | {"output": output}
    with opened_log((file, *options["parts"]), given) as (run, part):
        write_parts(_trace_parts(run, part, file, options), output)
        refuse_cut_log(run, partial=options["partial"])


_OF_FILES: dict[str, Callable[[str, str, dict[str, Any]], None]] = {
    "parquet": _parquet,
    "perfetto": _perfetto,
}


def _format_of(output: str) -> str:
    name = output.lower()
    kind = next((kind for end, kind in _BY_END.items() if name.endswith(end)), None)
    if kind is None:
        raise UsageProblem(
            f"cannot tell the format from the name {output}", hint=f"--to {'|'.join(FORMATS)}"
        )
    return kind


def _converted(source: Source, kind: str, output: str, options: dict[str, Any]) -> Iterable[bytes]:
    filters = filters_from(settled(options, [source.profile]))
    if kind == "heap" and not filters.words:
        return _heap(source.profile, output)
    check_has([source], filters.count)
    opened = named([source], options)
    say_missing([opened])
    if kind == "heap":
        return _heap(_narrowed(opened, filters)[0], output)
    if kind == "pprof":
        return (_pprof(opened, filters),)
    return (_of_names(opened, kind, filters).encode(),)


def _heap(profile: Profile, output: str) -> Iterable[bytes]:
    from mem_parser.heapfile.writer import heap_parts

    return heap_parts(profile, form=form_of(output, Form.PLAIN))


def _pprof(opened: Opened, filters: Filters) -> bytes:
    from mem_parser.filters import HIDDEN, matching_locations
    from mem_parser.symbols.hiding import without_locations
    from mem_parser.symbols.templates import addresses_with_templates
    from mem_parser.writers.pprof import write_pprof

    names = opened.shown.names
    profile = dataclasses.replace(_narrowed(opened, filters)[0], stacks=names.stacks)
    if filters.hide:
        masks = [matching_locations(opened.symbols, p, "--hide") for p in filters.hide]
        profile, names = without_locations(profile, names, np.any(masks, axis=0), HIDDEN)
    if opened.templates:
        names = addresses_with_templates(names)
    return write_pprof(profile, names, labels=opened.labels)


def _of_names(opened: Opened, kind: str, filters: Filters) -> str:
    """Return a format whose stacks are names."""
    from mem_parser.names import FrameRule
    from mem_parser.writers.collapsed import write_collapsed
    from mem_parser.writers.rows import write_csv, write_json
    from mem_parser.writers.speedscope import write_speedscope

    profile, symbols = _narrowed(opened, filters)
    # The filters have left out what is to be left out.
    rule = FrameRule.NONE
    if kind == "speedscope":
        name = os.path.basename(opened.sources[0].file)
        return write_speedscope(profile, symbols, name, rule)
    if kind == "collapsed":
        return write_collapsed(profile, symbols, filters.count, filters.unit, rule)
    return (write_csv if kind == "csv" else write_json)(profile, symbols, rule)


def _narrowed(opened: Opened, filters: Filters) -> tuple[Profile, Symbols]:
    """Apply the filters, and say how much they leave."""
    from mem_parser.names import FrameRule

    if filters.rule is FrameRule.PROGRAM:
        filters = dataclasses.replace(filters, rule=FrameRule.OWN)
    known = len(opened.profile.warnings)
    profile, symbols = filters.apply(opened.profile, opened.symbols)
    for warning in profile.warnings[known:]:
        warn(warning)
    return profile, symbols


def _trace_parts(run: Run, part: Part, file: str, options: Options) -> Iterable[bytes]:
    """Return the trace of a part of a run in parts. Raises `MemError`."""
    from mem_parser.memlog.profiles import bare_profile, domains_of, jobs_of
    from mem_parser.memlog.series import series
    from mem_parser.reports.timeline import timeline
    from mem_parser.writers.traceevents import write_trace

    first, last = part.times_ns(run)
    chosen = domains_of(run, part._replace(every_domain=True))
    step = max(math.ceil((last - first + 1) / _INTERVALS), _LEAST_NS)
    with waiting("following what was in use"):
        every = series(run, step, jobs=jobs_of(run))
        found = timeline(run, [every[k] for k in chosen], first, last)
        names = run.file_facts.domains
        peaks = [
            (names[k], _peaks(run, file, k, shown, options))
            for k, shown in zip(chosen, found.every, strict=True)
        ]
    return write_trace(found, peaks, bare_profile(run, chosen[0]))


def _peaks(run: Run, file: str, domain: int, shown: Series, options: Options) -> list[PeakView]:
    """Return the peaks of one memory, with the functions that held it."""
    from mem_parser.memlog.moments import live_at, peaks
    from mem_parser.reports.peaks import peak_view

    found = peaks(shown, _PEAKS)
    if not found:
        return []
    groups = [m.sites.of_domain(domain) for m in live_at(run, [p.time_ns for p in found])]
    _, views = views_of(run, file, domain, groups, _USUAL | options)
    return [peak_view(peak, view) for peak, view in zip(found, views, strict=True)]
