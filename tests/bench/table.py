"""A table as text."""

from __future__ import annotations

from collections.abc import Iterable


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A title, column names and rows; the first column to the left, the rest to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [title, ""]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells).rstrip())
    text.insert(3, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(text)


def number(value: float | None, digits: int = 1) -> str:
    """The number, `-` for none."""
    return "-" if value is None else f"{value:,.{digits}f}"
