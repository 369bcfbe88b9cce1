"""`mem_parser`: from a .heap file to a table or a call graph.

    mem_parser x.heap
    mem_parser -p BINARY -f x.heap -t|-s [-o FILE]

The default form is the group's own; every other report is a command of its own.
"""

from __future__ import annotations

import sys

import click

from mem_cli.commands import OUTPUT, PATH, refuse_group_options
from mem_cli.errors import run_command
from mem_cli.options import (
    binary_option,
    frame_options,
    presence_options,
    sort_options,
    start_frames_option,
    time_options,
    verbose_option,
)
from mem_cli.parser.files import FileGroup
from mem_cli.parser.rights import give_up
from mem_parser.version import __version__

SUMMARIES = {
    "at": "Show what was in use at a given time (needs --events).",
    "budget": "Check captures against a memory budget.",
    "convert": "Write a profile in another format.",
    "diff": "Show what changed between two profiles, and what is noise.",
    "flamegraph": "Draw a flame graph: one HTML file that works offline.",
    "graph": "Draw the call graph: SVG, or PNG by the name of the file.",
    "leaks": "Find leaks and tell them from caches.",
    "lifetimes": "Show how long blocks lived, by stack (needs --events).",
    "list": "Show the source lines of FUNCTION with what they allocated.",
    "memscope": "Analyse dumps of device memory: bytes by class of owner.",
    "merge": "Add up profiles of many processes and hosts.",
    "parse": "",
    "peaks": "Show the highest moments and who held them (needs --events).",
    "peek": "Show the callers and callees of FUNCTION.",
    "query": "Ask logs and profiles in SQL.",
    "report": "Write a self-contained HTML report.",
    "rss": "Show what the resident memory consists of.",
    "schema": "",
    "stats": "Totals, sizes, largest functions, modules and threads.",
    "summary": "Total memory, own memory and number of blocks by function.",
    "symbolize": "Write a .heap file that holds the names of its addresses.",
    "table": "Size, count, allocator and place, one row each.",
    "temporary": "Find blocks that were freed soon after (needs --events).",
    "timeline": "Draw memory in use over time, as text (needs --events).",
    "top": "Who allocated: one row per function.",
    "transform": "",
    "tree": "Who called whom, as indented text.",
    "waste": "What blocks in use cost in RAM beyond what was asked for.",
}


@click.group(
    cls=FileGroup,
    package="mem_cli.parser",
    summaries=SUMMARIES,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "\b\n"
        "mem_parser x.heap                   who holds the memory; leaks x.heap: leaks\n"
        "mem_parser -p BINARY -f x.heap -t   a table; -s -o x.svg: the call graph"
    ),
)
@binary_option
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
@presence_options
@click.option("--space", is_flag=True, help="Count bytes (the default).")
@click.option("--objects", is_flag=True, help="Count blocks.")
@sort_options
@click.option("--lines", is_flag=True, help="With -t, -s: one row per source line, not function.")
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows of the table; 0: all.")
@click.option("--bytes", "plain_bytes", is_flag=True, help="With -t: plain numbers of bytes.")
@time_options
@frame_options
@start_frames_option
@verbose_option
@click.option("--jeprof-frames", is_flag=True, help="Drop exactly the frames that jeprof drops.")
@click.option(
    "--debug-dir", type=PATH, multiple=True, metavar="DIR", help="Look for debug files here too."
)
@click.option(
    "--debuginfod", is_flag=True, help="Ask the servers of DEBUGINFOD_URLS (5 s a module)."
)
@click.option("--strict", is_flag=True, help="Missing or changed binaries are errors (exit 5).")
@click.option("--partial", is_flag=True, help="Accept a cut file.")
@click.version_option(__version__, prog_name="mem_parser")
@click.pass_context
def cli(ctx: click.Context, /, **options: object) -> None:
    """Read a heap profile: a summary, a table (-t), a call graph (-s), or a command's report."""
    if ctx.invoked_subcommand is None:
        from mem_cli.parser.default_command import run

        if cli.gives_up_rights:
            give_up(ctx)
        run(options)
    else:
        refuse_group_options(ctx)


def main() -> None:
    """Run the command; never returns."""
    cli.gives_up_rights = True
    sys.exit(run_command(cli, "mem_parser"))


if __name__ == "__main__":
    main()
