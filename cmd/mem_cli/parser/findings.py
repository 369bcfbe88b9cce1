"""What `diff`, `leaks` and `rss` have in common."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from mem_cli.options import partial_option
from mem_cli.output import write_lines, write_result
from mem_parser.errors import InputFileError
from mem_parser.escape import json_text

if TYPE_CHECKING:
    from mem_parser.model import Profile

Command = Callable[..., None]
WIDTH = 80
_UNCUT = 1 << 20


def finding_options(command: Command) -> Command:
    """Add `-o`, `--json` and `--partial`."""
    options = [
        click.option("-o", "--output", metavar="FILE", help="Write here."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        partial_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def room(output: str | None) -> int:
    """Return the width that names are cut to: the terminal's; elsewhere nothing is cut."""
    if output in {None, "-"} and sys.stdout.isatty():
        return max(shutil.get_terminal_size().columns, WIDTH)
    return _UNCUT


def read(path: str) -> Profile:
    """Read a profile of any format. Raises `InputFileError`."""
    from mem_parser.readers import read_profile

    return read_profile(path)


def print_finding(
    block: dict[str, Any], lines: Iterator[str], output: str | None, *, as_json: bool
) -> None:
    """Print one JSON object or lines of text. Raises `MemError`."""
    if as_json:
        write_result(json_text(block) + "\n", output)
    else:
        write_lines(lines, output)


def check_complete(path: str, profile: Profile, *, partial: bool) -> None:
    """Refuse a cut file, after what could be read was reported. Raises `InputFileError`."""
    if profile.incomplete and not partial:
        raise InputFileError(
            f"{path}: incomplete: {profile.incomplete}",
            hint="what could be read was reported; --partial accepts it",
        )
