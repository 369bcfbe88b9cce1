"""`mem_profiler ps`: the processes with a sampler, as a table or as JSON."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence

import click

from mem_cli import terminal
from mem_cli.console import say
from mem_cli.options import json_option
from mem_cli.profiler import capture_view
from mem_cli.profiler.options import folder_argument, recovering
from mem_parser.escape import one_line
from mem_parser.sizes import short_size, short_time
from mem_parser.textwidth import differences, told_apart
from mem_profiler.capture import listing
from mem_profiler.capture.listing import Listing, Row

_HEAD = ("PID", "USER", "COMMAND", "AGE", "RSS", "STATE", "RATE", "SAMPLES", "≈IN USE", "LOST")
_USER, _COMMAND, _STATE = 1, 2, 5
_LEFT = (_USER, _COMMAND, _STATE)
_LEAST = 6
_STATE_MAX = 20


@click.command()
@click.option(
    "--all", "every", is_flag=True, help="Also list ended processes, whose profiles are unsaved."
)
@json_option
@folder_argument
def ps(folder: str | None, *, every: bool, as_json: bool) -> None:
    """List the processes with the sampler, and the unsaved profiles of ended ones.

    With FOLDER, the MEM_PROFILER_DIR of a service, those below it, ended ones too.
    """
    every = every or folder is not None
    found = listing.listing(folder)
    if as_json:
        _write_json(found)
        return
    living = [row for row in found.rows if not row.dead]
    if folder is not None and not found.rows:
        say(f"no process has or left a segment below {one_line(folder)}")
    elif folder is None and not (found.removed or any(row.has_sampler for row in living)):
        say("No running process has the sampler; mem_profiler start PID loads it.")
    rows = found.rows if every else living
    columns = terminal.columns(None) or sys.maxsize
    for line in process_lines(rows, columns, folder) if rows else ():
        say(line)
    for row in rows:
        for text in row.notes:
            say(f"pid {row.pid}: {one_line(text)}")
    for error in found.removed:
        say(f"{error}; {error.hint}")
    ended = len(found.rows) - len(living) + found.more
    if every and found.more:
        what = f"{recovering(folder)} writes their captures, mem_profiler clean removes the rest"
        say(f"and {found.more} more: {what}")
    elif ended and not every:
        have = "ended process has an unsaved profile"
        if ended > 1:
            have = "ended processes have unsaved profiles"
        say(f"{ended} {have}: mem_profiler ps --all")
    for room in found.rooms:
        say(capture_view.room_line(room))


def _write_json(found: Listing) -> None:
    from mem_cli.terminal import write_json

    rows = [dataclasses.asdict(row) for row in found.rows]
    write_json({"processes": rows, "more_ended": found.more})


def process_lines(rows: Sequence[Row], columns: int, folder: str | None = None) -> Iterator[str]:
    """Yield the table; long users and commands are cut where it would be wider than ``columns``.

    The column of losses is there if there are any. ``folder``: where the segments were looked for.
    """
    count = len(_HEAD) if any(row.lost for row in rows) else len(_HEAD) - 1
    cells = [list(_HEAD[:count]), *(_cells(row, folder)[:count] for row in rows)]
    # A long state runs on over columns that have nothing to say, instead of widening its own.
    running_on = [False] + [
        not row.has_sampler or (row.samples is None and len(line[_STATE]) > _STATE_MAX)
        for row, line in zip(rows, cells[1:], strict=True)
    ]
    widths = [
        max(
            len(line[i]) for line, on in zip(cells, running_on, strict=True) if i < _STATE or not on
        )
        for i in range(count)
    ]
    too_wide = sum(widths) + 2 * (count - 1) - columns
    for i in (_USER, _COMMAND):
        cut = min(max(too_wide, 0), max(widths[i] - _LEAST, 0))
        widths[i] -= cut
        too_wide -= cut
    commands = [line[_COMMAND] for line in cells]
    for line, differs in zip(cells, differences(commands), strict=True):
        line[_COMMAND] = told_apart(line[_COMMAND], widths[_COMMAND], differs)
    for line, on in zip(cells, running_on, strict=True):
        shown = line[: _STATE + 1] if on else line
        parts = [
            _cut(text, widths[i]).ljust(widths[i]) if i in _LEFT else text.rjust(widths[i])
            for i, text in enumerate(shown)
        ]
        yield "  ".join([*parts[:-1], shown[-1] if on else parts[-1]]).rstrip()


def _cells(row: Row, folder: str | None) -> list[str]:
    cure = "" if row.has_sampler else f": {recovering(folder, row.pid, row.place)}"
    known = row.samples is not None
    return [
        str(row.pid),
        one_line(row.user),
        one_line(row.command),
        "-" if row.age_s is None else short_time(row.age_s),
        "-" if row.rss_bytes is None else _size(row.rss_bytes),
        one_line(f"{row.state}{cure}"),
        short_size(row.rate_bytes or 1) if known else "-",
        f"{row.samples:,}" if known else "-",
        _size(row.live_bytes or 0) if known else "-",
        f"{row.lost:,}" if known else "-",
    ]


def _size(size_bytes: float) -> str:
    """Return a size in at most three digits and a point."""
    number, unit = short_size(size_bytes).split()
    return f"{float(number):.0f} {unit}" if len(number) > 4 else f"{number} {unit}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
