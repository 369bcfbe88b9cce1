"""`mem_parser memscope`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from mem_cli.commands import PATH
from mem_cli.console import waiting
from mem_cli.options import json_option, output_option
from mem_cli.output import check_output, is_page
from mem_parser.errors import InputFileError, UsageProblem


@click.command("memscope")
@click.argument("files", type=PATH, metavar="DUMP...", nargs=-1, required=True)
@click.option(
    "-n", "--rows", type=click.IntRange(min=0), help="Last steps (20; of a page all); 0: all."
)
@click.option(
    "--trace", is_flag=True, help="Write a trace for Perfetto or Chrome instead: -o x.json."
)
@output_option
@json_option
def memscope(files: tuple[str, ...], *, rows: int | None, trace: bool, **options: Any) -> None:
    r"""Say who owns the memory in dumps (memscope_dump_*.csv and .db): weights, gradients and so
    on, at the end and at the peak of each step, and at the highest moment. -o x.html is a page: a
    chart over the steps, and the owners of each class.

    With --trace, Python functions (python_trace_*.csv), operators and memory on one axis of time.

    \b
    mem_parser memscope memscope_dump_20250731123456789.csv
    mem_parser memscope memscope_dump_20250731123456789.csv -o classes.html
    mem_parser memscope --trace -o trace.json memscope_dump_1.db python_trace_77_1.csv
    """
    from mem_parser.memscope.tracejson import is_python_trace

    check_output(options["output"])
    traces = [file for file in files if is_python_trace(file)]
    dumps = [file for file in files if file not in traces]
    if trace:
        if options["as_json"]:
            raise UsageProblem("--trace and --json exclude each other")
        _write_trace(dumps, traces, options["output"])
    elif traces:
        raise UsageProblem(f"{traces[0]}: a trace of Python functions: --trace shows it")
    elif is_page(options["output"]):
        if options["as_json"]:
            raise UsageProblem(f"{options['output']} is a page, and --json is none")
        _write_page(dumps, rows or 0, options["output"])
    else:
        _show(dumps, 20 if rows is None else rows, options)


def _write_trace(dumps: list[str], traces: list[str], output: str | None) -> None:
    from mem_cli.output import write_parts
    from mem_parser.memscope.form import DumpError
    from mem_parser.memscope.tracejson import trace_lines

    def parts() -> Iterator[bytes]:
        try:
            for line in trace_lines(dumps, traces):
                yield line.encode("utf-8", "backslashreplace")
        except DumpError as error:
            # As a ValueError it would be one of the output.
            raise InputFileError(str(error), hint=error.hint) from error

    write_parts(parts(), output)


def _write_page(dumps: list[str], rows: int, output: str) -> None:
    from mem_cli.output import write_result
    from mem_parser.memscope.ownersums import owners_of
    from mem_parser.memscope.reading import read_rows
    from mem_parser.web.scopeclasses import render

    with waiting("reading"):
        found = [(dump, owners_of(read_rows(dump), last_steps=rows)) for dump in dumps]
        page = render(found)
    write_result(page, output, advice="open it in a browser")


def _show(dumps: list[str], rows: int, options: dict[str, Any]) -> None:
    from mem_cli.terminal import show, write_json
    from mem_parser.memscope import decompose
    from mem_parser.memscope.decompose import decomposed
    from mem_parser.memscope.reading import read_rows

    with waiting("reading"):
        found = [(dump, decomposed(read_rows(dump))) for dump in dumps]
    if options["as_json"]:
        write_json({"files": [decompose.record(*one) for one in found]}, options["output"])
        return
    lines: list[str] = []
    for dump, pools in found:
        lines += [""] if lines else []
        lines += decompose.lines(dump, pools, rows)
    show(lines, options["output"])
