"""`mem_parser convert`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from mem_cli.options import partial_option, symbol_options
from mem_cli.output import check_output, write_bytes
from mem_cli.pipeline import Source, check_has, end_written, named, read, say_missing
from mem_parser.errors import UsageProblem

if TYPE_CHECKING:
    pass

FORMATS = ("pprof", "heap", "speedscope", "collapsed", "csv", "json")
_BY_END = {
    ".pb.gz": "pprof", ".pb": "pprof", ".pprof": "pprof", ".heap": "heap",
    ".speedscope.json": "speedscope", ".speedscope": "speedscope", ".collapsed": "collapsed",
    ".folded": "collapsed", ".csv": "csv", ".json": "json",
}  # fmt: skip


@click.command(short_help="Write a profile in another format.")
@click.argument("file", metavar="FILE")
@click.option("-o", "--output", required=True, metavar="OUT", help="Write here; `-`: stdout.")
@click.option(
    "--to", "to", type=click.Choice(FORMATS), help="Format, if the name OUT does not end in one."
)
@click.option("--alloc", is_flag=True, help="collapsed: all blocks allocated, freed or not.")
@click.option("--objects", is_flag=True, help="collapsed: count blocks instead of bytes.")
@symbol_options
@partial_option
def convert(file: str, output: str, to: str | None, **options: Any) -> None:
    r"""Write a profile in another format, chosen by the end of OUT's name or by --to.

    \b
    .pb.gz .pb .pprof   pprof's profile.proto: estimates, with names
    .heap               our own, and what jeprof and google-pprof read
    .speedscope.json    speedscope
    .collapsed .folded  one line per stack, for flame graph programs
    .csv .json          one row per stack, with standard errors
    """
    kind = to or _format_of(output)
    if kind != "collapsed" and (options["alloc"] or options["objects"]):
        raise UsageProblem(
            "--alloc and --objects need the format collapsed: the others hold every count"
        )
    check_output(output)
    sources = read([file])
    write_bytes(_converted(sources[0], kind, options), output)
    end_written(sources, partial=options["partial"])


def _format_of(output: str) -> str:
    name = output.lower()
    kind = next((kind for end, kind in _BY_END.items() if name.endswith(end)), None)
    if kind is None:
        raise UsageProblem(
            f"cannot tell the format from the name {output}", hint=f"--to {'|'.join(FORMATS)}"
        )
    return kind


def _converted(source: Source, kind: str, options: dict[str, Any]) -> bytes:
    from mem_parser.model import Count, Unit

    if kind == "heap":
        from mem_parser.heapfile.writer import write_heap

        return write_heap(source.profile)
    count = Count.ALLOC if options["alloc"] else Count.INUSE
    check_has([source], count)
    opened = named([source], options)
    say_missing([opened])
    profile = opened.profile
    if kind == "pprof":
        from mem_parser.writers.pprof import write_pprof

        return write_pprof(profile, opened.names)
    symbols = opened.symbols
    if kind == "speedscope":
        from mem_parser.writers.speedscope import write_speedscope

        text = write_speedscope(profile, symbols, os.path.basename(source.file))
    elif kind == "collapsed":
        from mem_parser.writers.collapsed import write_collapsed

        unit = Unit.OBJECTS if options["objects"] else Unit.SPACE
        text = write_collapsed(profile, symbols, count, unit)
    else:
        from mem_parser.writers.rows import write_csv, write_json

        text = (write_csv if kind == "csv" else write_json)(profile, symbols)
    return text.encode()
