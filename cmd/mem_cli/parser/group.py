"""`mem_parser`: from a .heap file to a table or a call graph.

    mem_parser x.heap
    mem_parser -p BINARY -f x.heap -t|-s [-o FILE]

The everyday form is the group's own; every other report is a command of its own.
"""

from __future__ import annotations

import sys

import click

from mem_cli.commands import OUTPUT, PATH, add_commands, refuse_group_options
from mem_cli.errors import run_command
from mem_cli.options import frame_options, sort_options, time_options
from mem_cli.parser.at import at
from mem_cli.parser.budget import budget_command
from mem_cli.parser.convert import convert
from mem_cli.parser.diff import diff
from mem_cli.parser.files import FileGroup
from mem_cli.parser.flamegraph import flamegraph
from mem_cli.parser.graph import graph
from mem_cli.parser.leaks import leaks
from mem_cli.parser.lifetimes import lifetimes
from mem_cli.parser.list import list_lines
from mem_cli.parser.memscope import memscope
from mem_cli.parser.merge import merge
from mem_cli.parser.parse import parse
from mem_cli.parser.peaks import peaks
from mem_cli.parser.peek import peek
from mem_cli.parser.query import query
from mem_cli.parser.report import report
from mem_cli.parser.rights import give_up
from mem_cli.parser.rss import rss
from mem_cli.parser.stats import stats
from mem_cli.parser.summary import summary
from mem_cli.parser.symbolize import symbolize
from mem_cli.parser.table import table
from mem_cli.parser.temporary import temporary
from mem_cli.parser.timeline import timeline
from mem_cli.parser.top import top
from mem_cli.parser.transform import transform
from mem_cli.parser.tree import tree


@click.group(
    cls=FileGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "\b\n"
        "mem_parser x.heap                        who holds the memory\n"
        "mem_parser leaks x.heap                  which stacks leak\n"
        "mem_parser -p BINARY -f x.heap -t        a table; -s -o x.svg: the call graph"
    ),
)
@click.option("-p", "--binary", type=PATH, metavar="BINARY", help="The program that was profiled.")
@click.option(
    "-f",
    "--file",
    "heap",
    type=PATH,
    metavar="FILE",
    multiple=True,
    help="The .heap file; several: the domains of one capture, or the .memlog files of a run.",
)
@click.option("--by", type=click.Choice(["domain"]), help="One table, a column for each -f.")
@click.option("-t", "--table", is_flag=True, help="Print a table.")
@click.option("-s", "--svg", is_flag=True, help="Draw the call graph: -o x.svg, or x.png.")
@click.option(
    "-o", "--output", type=OUTPUT, metavar="FILE", help="Write here instead of to standard output."
)
@click.option("--inuse", is_flag=True, help="Blocks not freed (the default).")
@click.option("--alloc", is_flag=True, help="All blocks allocated, freed or not.")
@click.option("--peak", is_flag=True, help="Blocks live at the peak.")
@click.option("--space", is_flag=True, help="Count bytes (the default).")
@click.option("--objects", is_flag=True, help="Count blocks.")
@sort_options
@click.option("--lines", is_flag=True, help="One row per source line instead of per function.")
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows of the table; 0: all.")
@click.option("--bytes", "plain_bytes", is_flag=True, help="Print plain numbers of bytes.")
@time_options
@frame_options
@click.option("--jeprof-frames", is_flag=True, help="Drop exactly the frames that jeprof drops.")
@click.option(
    "--debug-dir", type=PATH, multiple=True, metavar="DIR", help="Look for debug files here too."
)
@click.option(
    "--debuginfod", is_flag=True, help="Ask the servers of DEBUGINFOD_URLS (5 s a module)."
)
@click.option("--strict", is_flag=True, help="Missing or changed binaries are errors (exit 5).")
@click.option("--partial", is_flag=True, help="Accept a cut file.")
@click.version_option(package_name="mem-profiler")
@click.pass_context
def cli(ctx: click.Context, /, **options: object) -> None:
    """Read a heap profile: a summary, a table (-t), a call graph (-s), or a command's report."""
    if ctx.invoked_subcommand is None:
        from mem_cli.parser.everyday import run

        if cli.gives_up_rights:
            give_up(ctx)
        run(options)
    else:
        refuse_group_options(ctx)


add_commands(
    cli,
    [
        at,
        budget_command,
        convert,
        diff,
        flamegraph,
        graph,
        leaks,
        lifetimes,
        list_lines,
        memscope,
        merge,
        parse,
        peaks,
        peek,
        query,
        report,
        rss,
        stats,
        summary,
        symbolize,
        table,
        temporary,
        timeline,
        top,
        transform,
        tree,
    ],
)


def main() -> None:
    """Run the command; never returns."""
    cli.gives_up_rights = True
    sys.exit(run_command(cli, "mem_parser"))


if __name__ == "__main__":
    main()
