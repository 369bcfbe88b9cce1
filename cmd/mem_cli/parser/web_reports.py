"""`mem_parser flamegraph` and `mem_parser report`: pages of one HTML file each."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mem_cli.options import (
    check_whole,
    file_options,
    filter_options,
    filters_from,
    open_profile,
    with_option,
)
from mem_cli.output import check_output, write_result
from mem_cli.say import say

if TYPE_CHECKING:
    from mem_parser.filters import Filters
    from mem_parser.model import Profile
    from mem_parser.symbols.table import Symbols
    from mem_parser.web.facts import Opening

Command = TypeVar("Command", bound=Callable[..., Any])


def _shared(command: Command) -> Command:
    options = [
        click.option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write here, `-` is standard output (default: beside FILE).",
        ),
        click.option("--base", metavar="FILE", help="Show the difference to this older profile."),
        click.option(
            "--confidential",
            is_flag=True,
            help="Leave out paths, source files, host and command line.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return file_options(filter_options(command))


@click.command("flamegraph", short_help="Draw a flame graph: one HTML file that works offline.")
@_shared
@with_option
def flamegraph(file: str, **options: Any) -> None:
    r"""Draw a flame graph: one HTML file that works anywhere, without a network.

    \b
    mem_parser flamegraph custom_prof.4711.1.heap -o redis.html
    mem_parser flamegraph new.heap --base old.heap -o change.html
    """
    from mem_parser.web.flamegraph import render

    given = _open(file, "flamegraph", options)
    page = render(
        given.profile,
        given.symbols,
        name=os.path.basename(file),
        base=given.base,
        start=given.start,
        domains=given.domains,
        confidential=options["confidential"],
    )
    _finish(page, given, file, options)


@click.command("report", short_help="Make one HTML page for people who install nothing.")
@_shared
@with_option
def report(file: str, **options: Any) -> None:
    r"""Make a report for people who install nothing: one HTML file with all views.

    \b
    mem_parser report custom_prof.4711.1.heap -o redis.html
    mem_parser report new.heap --base old.heap --confidential -o for-the-vendor.html
    """
    from mem_parser.web.report import render

    given = _open(file, "report", options)
    page = render(
        given.profile,
        given.symbols,
        name=os.path.basename(file),
        base=given.base,
        start=given.start,
        domains=given.domains,
        leaks=_leaks(given),
        diff=_diff(given, options["base"]),
        confidential=options["confidential"],
    )
    _finish(page, given, file, options)


@dataclass(slots=True)
class _Given:
    """What a page is made of, filtered, and where it goes."""

    profile: Profile
    symbols: Symbols
    binary: str | None
    base: tuple[Profile, Symbols] | None
    domains: Profile | None
    filters: Filters
    start: Opening
    output: str


def _open(file: str, kind: str, options: dict[str, Any]) -> _Given:
    from mem_parser.domains import as_part
    from mem_parser.names import FrameRule
    from mem_parser.web.facts import Opening

    filters = filters_from(options)
    output = options["output"] or _page_name(file, kind)
    check_output(output)
    # The page hides allocator frames itself, so that its reader can have them back.
    keep_frames = dataclasses.replace(filters, rule=FrameRule.NONE)
    profile, symbols = keep_frames.apply(*open_profile(file, options))
    domains = None
    if profile.parts and len(profile.domains) > 1:
        domains = profile
        profile = as_part(profile.where(profile.sites.domain == 0), profile.domains[0])
    base = None
    if options["base"]:
        others = {"binary": None, "with_files": ()}
        base = keep_frames.apply(*open_profile(options["base"], options | others))
    hide = filters.rule is not FrameRule.NONE
    start = Opening(filters.count, filters.unit, hide, apart=domains is not None)
    return _Given(profile, symbols, options["binary"], base, domains, filters, start, output)


def _page_name(file: str, kind: str) -> str:
    """Return the page's name beside the profile: `x.heap` becomes `x.flamegraph.html`."""
    stem = file.removesuffix(".gz").removesuffix(".heap")
    return f"{stem}.{kind}.html"


def _leaks(given: _Given) -> dict[str, Any] | None:
    """Return the verdicts for the page; None where the file tells no ages of blocks."""
    from mem_parser.leaks.suppressions import Suppressions, own_list
    from mem_parser.leaks.verdicts import find_leaks

    if given.profile.sites.live_births is None:
        return None
    own = own_list(given.profile, given.binary)
    report = find_leaks(given.profile, given.symbols, suppressions=Suppressions(own.patterns))
    report.notes += own.notes
    return report.as_json()


def _diff(given: _Given, base_name: str | None) -> dict[str, Any] | None:
    from mem_parser.diff import diff_profiles

    if given.base is None or base_name is None:
        return None
    found = diff_profiles(
        given.base,
        (given.profile, given.symbols),
        count=given.filters.count,
        unit=given.filters.unit,
        base_name=os.path.basename(base_name),
    )
    return found.as_json()


def _finish(page: str, given: _Given, file: str, options: dict[str, Any]) -> None:
    write_result(page, given.output)
    if given.output != "-":
        size = len(page.encode())
        say(f"wrote {given.output} ({size / 1e6:.1f} MB); open it in a browser", err=True)
    check_whole(file, given.profile, partial=options["partial"])


commands = (flamegraph, report)
"""What the group `mem_parser` takes in."""
