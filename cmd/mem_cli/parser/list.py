"""`mem_parser list`."""

from __future__ import annotations

from typing import Any

import click

from mem_cli.commands import OUTPUT
from mem_cli.options import function_view_options, json_option, source_options, sources_from
from mem_cli.output import write_result
from mem_cli.pipeline import deliver, end_written, open_view
from mem_parser.errors import UsageProblem


@click.command("list")
@function_view_options
@source_options[0]
@source_options[1]
@json_option
@click.option(
    "--sarif",
    type=OUTPUT,
    metavar="OUT",
    help="Write notes for editors on the lines of FUNCTION, or of the whole program.",
)
def list_lines(file: str, function: str | None, sarif: str | None, **options: Any) -> None:
    r"""Show the source lines of FUNCTION with what they allocated.

    \b
    mem_parser list custom_prof.4711.1.heap processCommand --source-dir ~/redis/src
    mem_parser list custom_prof.4711.1.heap --sarif lines.sarif
    """
    from mem_parser.reports import listing as report

    if sarif is not None:
        _annotate(file, function, sarif, options)
        return
    if function is None:
        raise UsageProblem(
            "list needs a FUNCTION",
            hint="mem_parser top FILE names them; --sarif OUT writes the lines of all",
        )
    opened, view = open_view(file, options)
    found = report.listing(view, function, sources_from(options, [view.profile]))
    deliver(
        opened.sources,
        options,
        report.blocks(view, found),
        record=lambda: view.record(report.records(found)),
    )


def _annotate(file: str, function: str | None, path: str, options: dict[str, Any]) -> None:
    from mem_parser.reports import annotations as report

    if options["as_json"] or options["output"] is not None:
        raise UsageProblem("--sarif is a file of its own: not with --json or -o")
    opened, view = open_view(file, options)
    found, left_out = report.annotated(view, function)
    lines = f"{len(found)} lines" if len(found) != 1 else "1 line"
    rest = f", {left_out} below 0.5 % left out" if left_out else ""
    write_result(report.render(view, found), path, advice=lines + rest)
    end_written(opened.sources, partial=options["partial"])
