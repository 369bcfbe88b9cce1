"""`mem_parser flamegraph` and `mem_parser report`: pages of one HTML file each."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mem_cli.output import check_output, write_result
from mem_parser.errors import InputFileError, one_line

if TYPE_CHECKING:
    from mem_parser.model import Profile
    from mem_parser.symbols.table import Symbols

Command = Callable[..., None]


def _shared_options(command: Command) -> Command:
    options = [
        click.argument("file", metavar="FILE"),
        click.option("-o", "--output", metavar="FILE", help="Write here; `-` is standard output."),
        click.option("-p", "--binary", metavar="BINARY", help="The program that was profiled."),
        click.option("--base", metavar="FILE", help="Show the difference to this older profile."),
        click.option(
            "--confidential",
            is_flag=True,
            help="Leave out paths, source files, host and command line.",
        ),
        click.option(
            "--debug-dir", multiple=True, metavar="DIR", help="Look for debug files here."
        ),
        click.option("--partial", is_flag=True, help="A cut file is no error."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("flamegraph")
@_shared_options
def flamegraph(file: str, output: str | None, **options: Any) -> None:
    r"""Draw a flame graph: one HTML file that works anywhere, without a network.

    \b
    mem_parser flamegraph custom_prof.4711.1.heap -o redis.html
    mem_parser flamegraph new.heap --base old.heap -o change.html
    """
    from mem_parser.web.flamegraph import render

    output = output or _page_name(file, "flamegraph")
    check_output(output)
    profile, symbols, base = _load_all(file, options)
    page = render(
        profile,
        symbols,
        name=os.path.basename(file),
        base=base,
        confidential=options["confidential"],
    )
    _finish(page, output, file, profile, partial=options["partial"])


@click.command("report")
@_shared_options
def report(file: str, output: str | None, **options: Any) -> None:
    r"""Make a report for people who will not install anything: one HTML file with all views.

    \b
    mem_parser report custom_prof.4711.1.heap -o redis.html
    mem_parser report new.heap --base old.heap --confidential -o for-the-vendor.html
    """
    from mem_parser.web.report import render

    output = output or _page_name(file, "report")
    check_output(output)
    profile, symbols, base = _load_all(file, options)
    page = render(
        profile,
        symbols,
        name=os.path.basename(file),
        base=base,
        confidential=options["confidential"],
    )
    _finish(page, output, file, profile, partial=options["partial"])


def _page_name(file: str, kind: str) -> str:
    """Return the page's name beside the profile: `x.heap` becomes `x.flamegraph.html`."""
    stem = file.removesuffix(".gz").removesuffix(".heap")
    return f"{stem}.{kind}.html"


def _load_all(
    file: str, options: dict[str, Any]
) -> tuple[Profile, Symbols, tuple[Profile, Symbols] | None]:
    debug_dirs = options["debug_dir"]
    profile, symbols = _load(file, options["binary"], debug_dirs)
    base = _load(options["base"], None, debug_dirs) if options["base"] else None
    return profile, symbols, base


def _load(file: str, binary: str | None, debug_dirs: tuple[str, ...]) -> tuple[Profile, Symbols]:
    from mem_parser.readers import read_profile
    from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS
    from mem_parser.symbols.symbolizer import symbolize

    profile = read_profile(file)
    symbols = symbolize(profile, binary, debug_dirs=(*debug_dirs, *DEFAULT_DEBUG_DIRS))
    for problem in symbols.problems:
        click.echo(f"warning: {one_line(problem.text)}", err=True)
    return profile, symbols


def _finish(page: str, output: str, file: str, profile: Profile, *, partial: bool) -> None:
    write_result(page, output)
    if output != "-":
        size = len(page.encode("utf-8", "replace"))
        click.echo(f"wrote {output} ({size / 1e6:.1f} MB); open it in a browser", err=True)
    if profile.incomplete and not partial:
        raise InputFileError(
            f"{file}: incomplete: {profile.incomplete}",
            hint="what could be read is on the page; --partial accepts it",
        )


commands = (flamegraph, report)
"""What the group `mem_parser` takes in."""
