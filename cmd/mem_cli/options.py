"""Options that several commands of `mem_parser` share.

`@filter_options` adds what `mem_parser.filters` needs; `filters_from` makes `Filters` of the
values. `@symbol_options` says where names come from; `@file_options` adds the profile itself as
well, and `@view_options` all that a report of one profile takes. `mem_cli.pipeline` opens a profile
with their values.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mem_parser.errors import UsageProblem

if TYPE_CHECKING:
    from mem_parser.filters import Filters
    from mem_parser.model import Count
    from mem_parser.symbols.debuginfod import Debuginfod

Command = TypeVar("Command", bound=Callable[..., Any])
COUNTS = ("inuse", "alloc", "freed", "peak")


def filter_options(command: Command) -> Command:
    """Add the filters and the choice of what is counted."""
    many: dict[str, Any] = {"multiple": True}
    options = [
        click.option("--focus", metavar="REGEX", help="Only stacks with a matching frame.", **many),
        click.option("--ignore", metavar="REGEX", help="No stack with a matching frame.", **many),
        click.option("--hide", metavar="REGEX", help="Remove matching frames from stacks.", **many),
        click.option("--thread", metavar="NAME", help="Only this thread (name or tid).", **many),
        click.option("--domain", metavar="NAME", help="Only this memory domain.", **many),
        click.option(
            "--min-samples", type=click.IntRange(min=0), default=0, metavar="N",
            help="No stack with fewer than N samples.",
        ),
        click.option("--inuse", is_flag=True, help="Blocks not freed (the default)."),
        click.option("--alloc", is_flag=True, help="All blocks allocated, freed or not."),
        click.option("--freed", is_flag=True, help="Blocks allocated and freed."),
        click.option("--peak", is_flag=True, help="Blocks live at the highest reading."),
        click.option("--space", is_flag=True, help="Count bytes (the default)."),
        click.option("--objects", is_flag=True, help="Count blocks."),
        click.option("--all-frames", is_flag=True, help="Keep the allocator's own frames."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


output_option = click.option("-o", "--output", metavar="FILE", help="Write here.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
csv_option = click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
partial_option = click.option("--partial", is_flag=True, help="Accept a cut file.")


def symbol_options(command: Command) -> Command:
    """Add the options that say where names come from."""
    options = [
        click.option("-p", "--binary", metavar="BINARY", help="The program that was profiled."),
        click.option(
            "--debug-dir", multiple=True, metavar="DIR", help="Look for debug files here too."
        ),
        click.option(
            "--debuginfod",
            is_flag=True,
            help="Ask the servers of DEBUGINFOD_URLS (5 s a module).",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


with_option = click.option(
    "--with", "with_files", multiple=True, metavar="FILE",
    help="Add another domain of the same capture.",
)  # fmt: skip
"""For reports that keep the domains of a profile apart."""


def file_options(command: Command) -> Command:
    """Add the profile, where its names come from, and `--partial`."""
    return click.argument("file", metavar="FILE")(symbol_options(partial_option(command)))


def view_options(command: Command) -> Command:
    """Add the profile, the filters and `-o`."""
    return file_options(filter_options(output_option(command)))


def finding_options(command: Command) -> Command:
    """Add `-o`, `--json` and `--partial`."""
    return output_option(json_option(partial_option(command)))


def file_first(file: str, function: str) -> tuple[str, str]:
    """Return (file, function), in whatever order they were given: only one of them is a file."""
    if not os.path.exists(file) and os.path.isfile(function):
        return function, file
    return file, function


def filters_from(given: dict[str, Any]) -> Filters:
    """Make the filters of the values that click gives. Raises `UsageProblem`."""
    from mem_parser.filters import Filters
    from mem_parser.model import Unit
    from mem_parser.names import FrameRule

    if given["space"] and given["objects"]:
        raise UsageProblem("--space and --objects exclude each other")
    return Filters(
        count=_count(given),
        unit=Unit.OBJECTS if given["objects"] else Unit.SPACE,
        focus=given["focus"],
        ignore=given["ignore"],
        hide=given["hide"],
        threads=given["thread"],
        domains=given["domain"],
        min_samples=given["min_samples"],
        rule=FrameRule.NONE if given["all_frames"] else FrameRule.OWN,
    )


def _count(given: dict[str, Any]) -> Count:
    from mem_parser.model import Count

    chosen = [name for name in COUNTS if given[name]]
    if len(chosen) > 1:
        raise UsageProblem(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    return Count(chosen[0]) if chosen else Count.INUSE


def debug_servers(*, asked: bool) -> Debuginfod | None:
    """Return the servers to ask for debug files, if any are ``asked``. Raises `UsageProblem`."""
    if not asked:
        return None
    from mem_parser.symbols.debuginfod import Debuginfod

    return Debuginfod.from_environment()
