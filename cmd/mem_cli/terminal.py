"""Print reports: through rich on a terminal, as plain text elsewhere.

On a terminal tables fit its width (the flexible column gives way, with `…`), heads are bold and
rows inside the noise faint. Piped or written to a file, nothing is cut and nothing is coloured.
Every cell is printed as it is: no markup, no control characters.
"""

from __future__ import annotations

import csv
import io
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from mem_cli.colour import is_coloured
from mem_cli.console import plain_console, show_line
from mem_cli.output import write_lines, write_result
from mem_parser.errors import UsageProblem
from mem_parser.escape import csv_cell, json_text, log_line, one_line
from mem_parser.reports.grid import Block, Grid, Judged, Tone
from mem_parser.textwidth import ljust, rjust, shortened
from mem_parser.textwidth import width as columns_of
from mem_parser.words import shown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.measure import Measurement
    from rich.text import Text

Record = dict[str, Any]
_OF_PICTURES = (".svg", ".png", ".pdf", ".html", ".htm")
_BETWEEN_FACTS = "   "
STYLES: dict[Tone, dict[str, Any]] = {
    Tone.GOOD: {"fg": "green"},
    Tone.BAD: {"fg": "red", "bold": True},
    Tone.OPEN: {"fg": "yellow"},
    Tone.HARMLESS: {"fg": "cyan"},
}
WIDTH = 80
"""Columns that lines made for a width have at the least."""
_UNCUT = 1 << 20
_LEAST_ROWS = 5
"""A table has so many rows, however low the screen is."""


def room(output: str | None) -> int:
    """Return how many columns there are for a line: on a terminal its own, 80 at the least;
    elsewhere nothing is cut.
    """
    if on_screen(output):
        return max(shutil.get_terminal_size().columns, WIDTH)
    return _UNCUT


def on_screen(output: str | None) -> bool:
    """Tell whether the report goes to a terminal."""
    return output in {None, "-"} and sys.stdout.isatty()


def columns(output: str | None) -> int | None:
    """Return the width of the terminal that a report goes to; None: nothing is cut."""
    return shutil.get_terminal_size().columns if on_screen(output) else None


def fitted(
    make: Callable[[int | None], Iterable[Block]],
    rows: int | None,
    output: str | None,
    *,
    tables: int = 1,
) -> list[Block]:
    """Return a report with so many rows that it stays on the screen, if it goes to one and its user
    did not ask for a number of ``rows``.

    ``make`` returns the report, each of its ``tables`` with the most rows that it is given; 0: all,
    None: as it likes.
    """
    blocks = list(make(rows))
    if rows is not None or not on_screen(output):
        return blocks
    screen = shutil.get_terminal_size()
    most = screen.lines - 1  # the prompt has the last one
    if _height(blocks, screen.columns) <= most:
        return blocks
    around = _height(list(make(1)), screen.columns) - tables
    return list(make(max((most - around) // tables, _LEAST_ROWS)))


def _height(blocks: Iterable[Block], width: int) -> int:
    """Return how many lines of a screen a report takes; rows of a table take one each."""
    from rich.text import Text

    console = plain_console()
    height = 0
    for block in blocks:
        if isinstance(block, str):
            for line in _folded(one_line(block), width):
                height += max(len(Text(line).wrap(console, width)), 1)
        else:
            height += 1 + len(block.rows) + 2 * bool(block.title)
    return height


def show(blocks: Iterable[Block], output: str | None = None, *, fold: bool = True) -> None:
    """Print blocks, or write them to the file ``output``. Raises `MemError`.

    Without ``fold`` they are plain text on a terminal too.
    """
    if output is not None and output.lower().endswith(_OF_PICTURES):
        raise UsageProblem(
            f"-o {output}: this is text, no picture",
            hint="mem_parser report FILE -o x.html has pictures; mem_parser graph FILE -o x.svg",
        )
    blocks = list(blocks)
    if fold and on_screen(output):
        _show_on_terminal(blocks)
    else:
        lines = plain_lines(blocks)
        to_stdout = output in {None, "-"}
        if to_stdout and is_coloured():
            write_result("".join(f"{_painted(line)}\n" for line in lines), output)
        else:
            write_lines(lines, output)


def _painted(line: str) -> str:
    """Return a line as `log_line` gives it, with its verdict in colour."""
    text = log_line(line)
    if not isinstance(line, Judged):
        return text
    return click.style(text[: line.end], **STYLES[line.tone]) + text[line.end :]


def _show_on_terminal(blocks: Sequence[Block]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = plain_console()
    for block in blocks:
        if isinstance(block, str):
            for line in _folded(one_line(block), console.width):
                show_line(console, Text(line))
            continue
        if block.title:
            console.print()
            show_line(console, Text(shown(block.title), style="bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        rows = _aligned(block)
        for column, head in zip(block.columns, rows[0], strict=True):
            table.add_column(
                Text(head),
                # rich narrows columns that may wrap first; cells themselves never do.
                no_wrap=not column.flexible,
            )
        for k, row in enumerate(rows[1:]):
            style = "dim" if k in block.faint else ""
            table.add_row(*(_Cell(log_line(c)) for c in row), style=style)
        console.print(table)


class _Cell:
    """A cell for rich, which would cut all names at their end."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        text = shortened(self._text, options.max_width)
        yield Text(text, no_wrap=True, overflow="ellipsis")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.text import Text

        return Text(self._text).__rich_measure__(console, options)


def _folded(text: str, width: int) -> Iterable[str]:
    """Yield a line of facts in lines of ``width``, broken only between facts."""
    if columns_of(text) <= width:
        yield text
        return
    line = ""
    for fact in text.split(_BETWEEN_FACTS):
        longer = f"{line}{_BETWEEN_FACTS}{fact}" if line else fact
        if line and columns_of(longer) > width:
            yield line
            longer = fact
        line = longer
    yield line


def plain_lines(blocks: Iterable[Block]) -> Iterable[str]:
    """Yield the lines of plain text, as `mem_cli.output.write_lines` takes them."""
    for block in blocks:
        if isinstance(block, str):
            yield block
            continue
        if block.title:
            yield ""
            yield shown(block.title)
        for row in _aligned(block):
            yield " ".join(row).rstrip()


def _aligned(grid: Grid) -> list[list[str]]:
    """Return heads and rows with numbers moved to the right and all cells made printable.

    Done here for rich too, which would strip the blanks that line margins up.
    """
    rows = [shown([column.title for column in grid.columns])]
    rows += [[one_line(cell) for cell in row] for row in grid.rows]
    for k, column in enumerate(grid.columns):
        width = max(columns_of(row[k]) for row in rows)
        for row in rows:
            row[k] = rjust(row[k], width) if column.right else ljust(row[k], width)
            row[k] = row[k].rstrip() if column.flexible else row[k]
    return rows


def write_json(record: Record, output: str | None = None) -> None:
    """Write one JSON object, and nothing else. Raises `MemError`."""
    write_result(json_text(record, indent=1) + "\n", output)


def write_csv(records: Sequence[Record], keys: Sequence[str], output: str | None = None) -> None:
    """Write rows as CSV with a head; fields that a row lacks are empty. Raises `MemError`.

    No text is a formula to a spreadsheet.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, keys, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in record.items()} for record in records)
    write_result(text.getvalue(), output)
