"""`mem_profiler memscope`: files of device memory."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import click

from mem_cli.console import say, waiting
from mem_cli.profiler.memscopecollect import Choice, collect, collection_options
from mem_cli.profiler.started import ProgramCommand, command_line
from mem_parser.errors import UsageProblem, reason_of
from mem_parser.memscope.settings import PATH_MAX_CHARS, Settings
from mem_profiler import __version__

if TYPE_CHECKING:
    from mem_parser.memscope.compare import Comparison, Level

_TWO_PATHS = "two paths with a comma in between: --input BASE,COMPARE"
_COMMA = re.compile("[,\N{FULLWIDTH COMMA}]")


class _Inputs(click.ParamType[tuple[str, str]]):
    """Two paths with a comma, which may be a full-width one, between them; of one alone, the
    second is empty.
    """

    name = "base,compare"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """The two paths."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in _COMMA.split(str(value))]
        if len(parts) > 2 or not all(parts):
            self.fail(_TWO_PATHS, param, ctx)
        if max(map(len, parts)) > PATH_MAX_CHARS:
            self.fail(f"a path has more than {PATH_MAX_CHARS} characters", param, ctx)
        return parts[0], "".join(parts[1:])


@click.command(
    cls=ProgramCommand,
    no_args_is_help=True,
    context_settings={"allow_interspersed_args": False},
)
@collection_options
@click.option("--compare", is_flag=True, help="Set two runs side by side: --input A,B.")
@click.option(
    "-i", "--input", "--input-path", "inputs", type=_Inputs(),
    help="With --compare: the dumps of both, each a file or the folder of a run.",
)  # fmt: skip
@click.option("-n", "--rows", type=click.IntRange(min=0), help="With --compare: rows (20); 0: all.")
@click.option("--json", "as_json", is_flag=True, help="With --compare: print one JSON object.")
@click.argument(
    "arguments", nargs=-1, type=click.UNPROCESSED,
    metavar="(PROG | SCRIPT.py | -m MODULE) [ARGS]...",
)  # fmt: skip
@click.pass_context
def memscope(
    ctx: click.Context,
    /,
    *,
    compare: bool,
    inputs: tuple[str, str] | None,
    rows: int | None,
    as_json: bool,
    arguments: tuple[str, ...],
    **options: Any,
) -> None:
    r"""Collect the events of device memory of a program into dumps (memscope_dump_*.csv and .db),
    or compare two of them.

    --compare aligns the operators of two runs, or with --steps N,M of a step of each, and shows
    what changed by operator, by module and at the peak. A file has each operator; -o x.html is a
    page instead. --json prints all of it as one JSON object, with -o x.json into that file alone.

    \b
    mem_profiler memscope --call-stack python -- python train.py
    mem_profiler memscope --compare --input /data/base,/data/new --level kernel
    mem_profiler memscope --compare --input run.csv --steps 3,9 -o change.html
    """
    choice = Choice.take(options)
    if choice.wants_version(arguments):
        say(f"mem_profiler memscope {__version__}")
        return
    if compare:
        if arguments:
            raise UsageProblem(
                f"--compare runs no program, and {arguments[0]} is one",
                hint="the two dumps: --input BASE,COMPARE",
            )
        if inputs is None:
            raise UsageProblem("--compare needs two dumps: --input BASE,COMPARE")
        if as_json and rows is not None:
            raise UsageProblem("--json has all rows, and --rows is for the table alone")
        _compare(inputs, choice.settings, 20 if rows is None else rows, as_json=as_json)
        return
    for name, value in (("--input", inputs), ("--rows", rows), ("--json", as_json or None)):
        if value is not None:
            raise UsageProblem(f"{name} is for --compare alone", hint="add --compare")
    if not arguments:
        raise UsageProblem(
            "the program to collect from is missing",
            hint="mem_profiler memscope [OPTIONS] -- PROG ARGS; or --compare",
        )
    ctx.exit(collect(tuple(command_line(arguments)), choice))


def _compare(inputs: tuple[str, str], settings: Settings, rows: int, *, as_json: bool) -> None:
    from mem_cli.output import check_output, is_page, write_result
    from mem_cli.terminal import write_json
    from mem_parser.memscope import comparetext
    from mem_parser.memscope.compare import compare_runs

    steps = _steps(settings.steps)
    if not inputs[1] and len(settings.steps) != 2:
        raise UsageProblem(f"--input: {_TWO_PATHS}", hint="or two steps of one: --steps 3,9")
    inputs = inputs[0], inputs[1] or inputs[0]
    page = is_page(settings.output) and not os.path.isdir(settings.output)
    if page and as_json:
        raise UsageProblem(f"{settings.output} is a page, and --json is none")
    record = as_json and settings.output.endswith(".json") and not os.path.isdir(settings.output)
    if page or record:
        check_output(settings.output)
    with waiting("comparing"):
        found = compare_runs(*inputs, _compared_level(settings), steps)
    if page:
        from mem_parser.web.scopecompare import render

        _show(found, rows)
        write_result(render(found), settings.output, advice="open it in a browser")
    elif record:
        write_json(comparetext.record(found), settings.output)
    else:
        _write_table(found, settings.output, None if as_json else rows)


def _compared_level(settings: Settings) -> Level:
    """Return what is compared. Raises UsageProblem."""
    if len(settings.levels) > 1:
        raise UsageProblem("--compare takes operators or kernels: --level op, or --level kernel")
    return "op" if settings.levels == ("op",) else "kernel"


def _show(found: Comparison, rows: int | None) -> None:
    """Print a comparison as a table, or all of it as JSON (None)."""
    from mem_cli.terminal import show, write_json
    from mem_parser.memscope import comparetext

    if rows is None:
        write_json(comparetext.record(found))
    else:
        show(list(comparetext.lines(found, rows)), None)


def _steps(steps: tuple[int, ...]) -> tuple[str, str] | None:
    """Return the names of the steps that are compared; None: all. Raises UsageProblem."""
    if len(steps) > 2:
        raise UsageProblem("--compare takes one step of each: --steps N, or --steps BASE,COMPARE")
    return (str(steps[0]), str(steps[-1])) if steps else None


def _write_table(found: Comparison, output: str, rows: int | None) -> None:
    from mem_cli.output import check_output, write_parts
    from mem_parser.memscope.comparetext import compare_lines
    from mem_parser.memscope.form import compare_file, stamp_of
    from mem_parser.output_path import make_folder

    path = compare_file(output, stamp_of())
    try:
        make_folder(os.path.dirname(path))
    except OSError as error:
        raise UsageProblem(f"cannot make {os.path.dirname(path)}: {reason_of(error)}") from error
    check_output(path)
    _show(found, rows)
    text = (line.encode("utf-8", "surrogateescape") for line in compare_lines(found.rows()))
    write_parts(text, path)
