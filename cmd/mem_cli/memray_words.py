"""Accept memray's report options under their own names.

`--leaks` is `--inuse`. What needs the order of single allocations is shown of a `.memlog`, and
refused of a `.heap` file with the reason: it has counts for each call stack.
"""

from __future__ import annotations

from typing import Any

import click

from mem_cli.commands import together
from mem_cli.options import COUNTS, Options
from mem_cli.pipeline import log_hint
from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.memlog.part import is_log

_NEEDS_ORDER = ("temporary_allocations", "temporary_allocation_threshold", "temporal")


memray_options = together(
    click.option("--leaks", is_flag=True, help="Blocks not freed at the end (--inuse)."),
    click.option("-f", "--force", is_flag=True, hidden=True, expose_value=False),
    click.option("--temporary-allocations", is_flag=True, hidden=True),
    click.option("--temporary-allocation-threshold", type=int, hidden=True, metavar="N"),
    click.option("--temporal", is_flag=True, hidden=True),
)
"""Memray's choices of what is shown; `understood` reads them."""


def understood(file: str, options: Options) -> Options:
    """Return the options in the words of this project.

    Raises UsageProblem for choices that exclude each other, InputFileError for what no file has.
    """
    given = {name: options.pop(name) for name in _NEEDS_ORDER}
    asked = [name for name in _NEEDS_ORDER if given[name] is not None and given[name] is not False]
    if asked and is_log(file):
        options = _in_order(options, given)
    else:
        for name in asked:
            raise InputFileError(
                f"{file}: --{name.replace('_', '-')} needs the order of single allocations, "
                "and the file has counts for each call stack",
                hint=log_hint(file),
            )
    if not options.pop("leaks"):
        return options
    chosen = [name for name in COUNTS if options.get(name)]
    if chosen:
        raise UsageProblem(f"--leaks and --{chosen[0]} exclude each other")
    return options | {"inuse": True}


def _in_order(options: Options, given: dict[str, Any]) -> Options:
    """Return the options for a log of events: temporary blocks are counted as allocated ones, and
    the part of the time is shown as it was at its highest moment. Raises UsageProblem.
    """
    threshold = given["temporary_allocation_threshold"]
    chosen = [f"--{name}" for name in ("leaks", *COUNTS) if options.get(name)]
    temporary = given["temporary_allocations"] or threshold is not None
    if temporary and given["temporal"]:
        raise UsageProblem("--temporary-allocations and --temporal exclude each other")
    if not temporary:
        return options if chosen else options | {"peak": True}
    if chosen and chosen != ["--alloc"]:
        raise UsageProblem(f"--temporary-allocations and {chosen[0]} exclude each other")
    return options | {"temporary": 1 if threshold is None else threshold, "alloc": True}
