"""`mem_parser report`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from mem_cli.options import with_option
from mem_cli.parser.pages import Given, finish_page, open_page, page_options

if TYPE_CHECKING:
    from mem_parser.leaks.findings import LeakReport


@click.command("report")
@page_options
@with_option
def report(file: str, **options: Any) -> None:
    r"""Write a self-contained HTML report: one file with all views.

    \b
    mem_parser report custom_prof.4711.1.heap -o redis.html
    mem_parser report new.heap --base old.heap --confidential -o for-the-vendor.html
    mem_parser report app.4711.1-*.memlog -o app.html   # with a line of its time
    """
    from mem_parser.reports.opening import opening
    from mem_parser.web.report import render

    given = open_page(file, "report", options)
    found = _leaks(given)
    page = given.drawn(
        render,
        leaks=None if found is None else found.as_json(),
        diff=_diff(given, options["base"]),
        opening=[] if given.base or given.filters.narrows else opening(*given.named, found),
    )
    finish_page(page, given, partial=options["partial"])


def _leaks(given: Given) -> LeakReport | None:
    """Return the verdicts for the page; None where the file holds no ages of blocks."""
    from mem_parser.leaks.judged import judged

    if given.profile.sites.live_births is None:
        return None
    return judged(*given.named, binary=given.binary)


def _diff(given: Given, base_name: str | None) -> dict[str, dict[str, Any]] | None:
    """Return the differences to the base by what both files count; None without a base."""
    from mem_parser.diff import diff_by
    from mem_parser.web.measures import measures

    base = given.named_base
    if base is None or base_name is None:
        return None
    choices = {name: (count, unit) for name, count, unit in measures(given.profile, base[0])}
    found = diff_by(base, given.named, choices.values(), base_name=os.path.basename(base_name))
    return {name: diff.as_json() for name, diff in zip(choices, found, strict=True)}
