"""Options that several commands share, and how a profile is opened with them.

`@filter_options` adds what `mem_parser.filters` needs; `filters_from` makes `Filters` of the
values. `@symbol_options` says where names come from and `address_names` gives them; `@file_options`
adds the profile itself as well, and `open_profile` reads and names it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mem_cli.say import warn
from mem_parser.errors import InputFileError, UsageProblem

if TYPE_CHECKING:
    from mem_parser.filters import Filters
    from mem_parser.model import Count, Profile
    from mem_parser.symbols.debuginfod import Debuginfod
    from mem_parser.symbols.symbolizer import AddressNames
    from mem_parser.symbols.table import Symbols

Command = TypeVar("Command", bound=Callable[..., Any])
COUNTS = ("inuse", "alloc", "freed", "peak")


def filter_options(command: Command) -> Command:
    """Add the filters and the choice of what is counted."""
    many: dict[str, Any] = {"multiple": True}
    options = [
        click.option("--focus", metavar="REGEX", help="Only stacks with such a frame.", **many),
        click.option("--ignore", metavar="REGEX", help="No stack with such a frame.", **many),
        click.option("--hide", metavar="REGEX", help="Take such frames out.", **many),
        click.option("--thread", metavar="NAME", help="Only this thread (name or tid).", **many),
        click.option("--domain", metavar="NAME", help="Only this memory domain.", **many),
        click.option(
            "--min-samples", type=click.IntRange(min=0), default=0, metavar="N",
            help="No stack with fewer samples.",
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


partial_option = click.option("--partial", is_flag=True, help="A cut file is no error.")


def symbol_options(command: Command) -> Command:
    """Add the options that say where names come from."""
    options = [
        click.option("-p", "--binary", metavar="BINARY", help="The program that was profiled."),
        click.option(
            "--debug-dir", multiple=True, metavar="DIR", help="Look for debug files here too."
        ),
        click.option(
            "--debuginfod", is_flag=True, help="Ask the servers of DEBUGINFOD_URLS, 5 s a module."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


with_option = click.option(
    "--with", "with_files", multiple=True, metavar="FILE",
    help="Another domain of the same capture.",
)  # fmt: skip
"""For reports that keep the domains of a profile apart."""


def file_options(command: Command) -> Command:
    """Add the profile, where its names come from, and `--partial`."""
    return click.argument("file", metavar="FILE")(symbol_options(partial_option(command)))


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


def address_names(profile: Profile, given: dict[str, Any]) -> AddressNames:
    """Name the addresses of ``profile`` as the values of `symbol_options` say.

    What names are missing is said on stderr. Raises `InputFileError` and `UsageProblem`.
    """
    from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS
    from mem_parser.symbols.symbolizer import name_addresses

    names = name_addresses(
        profile,
        given["binary"],
        debug_dirs=(*given["debug_dir"], *DEFAULT_DEBUG_DIRS),
        debuginfod=debug_servers(asked=given["debuginfod"]),
    )
    for problem in names.problems:
        warn(problem.text)
    return names


def debug_servers(*, asked: bool) -> Debuginfod | None:
    """Return the servers to ask for debug files, if any are ``asked``. Raises `UsageProblem`."""
    if not asked:
        return None
    from mem_parser.symbols.debuginfod import Debuginfod

    return Debuginfod.from_environment()


def open_profile(
    file: str, given: dict[str, Any], count: Count | None = None
) -> tuple[Profile, Symbols]:
    """Read and name a profile, as `address_names` does; together with other domains of the same
    capture where files of them are given.

    With ``count`` only the sites that have such blocks are named, which is less work. Raises
    `InputFileError`.
    """
    from mem_parser.domains import join
    from mem_parser.filters import check_count
    from mem_parser.readers import read_profile

    files = (file, *given.get("with_files", ()))
    profile = join([(name, read_profile(name)) for name in files])
    if count is not None:
        check_count(profile, count)
        profile = profile.used(count)
    return profile, address_names(profile, given).spell()


def check_whole(file: str, profile: Profile, *, partial: bool) -> None:
    """Refuse a cut file, after what could be read was reported. Raises `InputFileError`."""
    if profile.incomplete and not partial:
        raise InputFileError(
            f"{file}: incomplete: {profile.incomplete}",
            hint="what could be read was reported; --partial accepts it",
        )
