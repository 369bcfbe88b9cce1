"""`mem_parser parse`: every record as a line, as memray prints them."""

from __future__ import annotations

import sys
import warnings

import click

from mem_cli.commands import PATH
from mem_cli.console import warn
from mem_cli.output import write_parts
from mem_parser.errors import InputFileError, UsageProblem


@click.command("parse")
@click.argument("file", type=PATH, metavar="FILE")
def parse(file: str) -> None:
    r"""Print a line for each record of FILE: all that was allocated. For pipes and files.

    \b
    mem_parser parse out.bin | less
    """
    from mem_parser.records.statistics import record_lines

    if sys.stdout.isatty():
        raise UsageProblem(
            "every record is a line: redirect the output to a file or a program",
            hint=f"mem_parser parse {file} | less",
        )
    try:
        with warnings.catch_warnings(record=True) as missing:
            warnings.simplefilter("always")
            write_parts((f"{line}\n".encode() for line in record_lines(file)), "-")
    except BrokenPipeError:
        raise  # who reads it has enough
    except OSError as error:
        raise InputFileError(str(error)) from None
    for one in missing:
        warn(str(one.message))
