"""memray's options of reports, for those who have them in their fingers or in scripts.

`--leaks` is `--inuse`. What needs the order of single allocations is refused with the reason: a
`.heap` file has counts for each call stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mem_cli.options import COUNTS, Options
from mem_parser.errors import InputFileError, UsageProblem

Command = TypeVar("Command", bound=Callable[..., Any])
_NEEDS_ORDER = ("temporary_allocations", "temporary_allocation_threshold", "temporal")


def memray_options(command: Command) -> Command:
    """Add memray's choices of what is shown; `understood` reads them."""
    options = [
        click.option("--leaks", is_flag=True, help="Blocks not freed at the end (--inuse)."),
        click.option("--temporary-allocations", is_flag=True, hidden=True),
        click.option("--temporary-allocation-threshold", type=int, hidden=True, metavar="N"),
        click.option("--temporal", is_flag=True, hidden=True),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def understood(file: str, options: Options) -> Options:
    """Return the options in the words of this project.

    Raises UsageProblem for choices that exclude each other, InputFileError for what no file has.
    """
    for name in _NEEDS_ORDER:
        if options.pop(name) not in (None, False):
            raise InputFileError(
                f"{file}: --{name.replace('_', '-')} needs the order of single allocations, "
                "and the file has counts for each call stack",
                hint="--freed shows what was freed, --alloc all that was allocated",
            )
    if not options.pop("leaks"):
        return options
    chosen = [name for name in COUNTS if options.get(name)]
    if chosen:
        raise UsageProblem(f"--leaks and --{chosen[0]} exclude each other")
    return options | {"inuse": True}
