"""The upper part of the screen: facts, graphs, and the heads of the table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from rich.style import Style
from rich.text import Text
from textual import events
from textual.message import Message
from textual.widget import Widget

from mem_cli.live import braille, texts
from mem_cli.live.screen_state import ScreenState
from mem_cli.terminal import STYLES
from mem_parser.live.totals import Order
from mem_parser.reports.opening import TONES
from mem_parser.words import phrase, shown

SPANS_S = (30.0, 60.0, 120.0, 300.0)
"""The graphs show the last of these; a younger capture has a shorter one."""
_MOST_GRAPHS = 4
_COLOURS = ("green", "cyan", "magenta", "yellow")


class _OfMoment(Widget):
    """A widget that shows one moment, and nothing before the first one."""

    def __init__(self) -> None:
        super().__init__()
        self._picture: ScreenState | None = None

    def show(self, picture: ScreenState) -> None:
        """Show another moment."""
        self._picture = picture
        self.refresh()


class Facts(_OfMoment):
    """The watched process and its totals: two lines."""

    DEFAULT_CSS = "Facts { height: 2; }"

    def render(self) -> Text:
        """Draw the lines."""
        if self._picture is None:
            return Text(shown(phrase("reading ...")))
        width = self.size.width
        return Text("\n").join((
            Text(texts.title(self._picture.head, width), style="bold"),
            Text(texts.totals_line(self._picture, width)),
        ))  # fmt: skip


class Verdicts(_OfMoment):
    """The answer in words, in a fixed number of lines."""

    DEFAULT_CSS = "Verdicts { height: 2; }"

    def render(self) -> Text:
        """Draw the lines; the colour says no more than they do."""
        if self._picture is None:
            return Text()
        width, height = self.size
        lines = texts.verdict_lines(self._picture.verdicts, width, max(height, 1))
        return Text("\n").join(Text(line, style=_style_of(kind)) for line, kind in lines)


def _style_of(kind: str) -> Style:
    """Return the style of a sentence, as reports on a terminal have it."""
    style = STYLES[TONES[kind]] if kind in TONES else {}
    return Style(color=style.get("fg"), bold=style.get("bold"))


class Graphs(_OfMoment):
    """Heap, RSS and memory of devices over the last minutes, side by side."""

    DEFAULT_CSS = "Graphs { height: 4; }"

    def render(self) -> Text:
        """Draw them, each below its title."""
        if self._picture is None:
            return Text()
        shown = self._picture.graphs[:_MOST_GRAPHS]
        width = (self.size.width - 2 * (len(shown) - 1)) // max(len(shown), 1)
        height = max(self.size.height - 1, 1)
        age_s = self._picture.head.t_s
        span_s = next((span for span in SPANS_S if age_s <= span), SPANS_S[-1])
        titles, drawn = [], []
        for graph, colour in zip(shown, _COLOURS, strict=False):
            titles.append(Text(f"{texts.graph_title(graph, width):<{width}}"))
            lines = _graph_here()(graph.series, width, height, span_s)
            drawn.append([Text(line, style=colour) for line in lines])
        between = Text("  ")
        rows = [between.join(titles)]
        rows += [between.join(parts) for parts in zip(*drawn, strict=True)]
        return Text("\n").join(rows)


def _graph_here() -> Callable[[braille.Series, int, int, float], list[str]]:
    """Return the graph's drawing function: Linux console fonts have blocks and no braille."""
    return braille.block_graph if os.environ.get("TERM") == "linux" else braille.graph


class Heads(_OfMoment):
    """The line of choices, and the heads of the table's columns, which sort by a click."""

    DEFAULT_CSS = "Heads { height: 2; }"

    class Sorted(Message):
        """Somebody clicked on the head of a column."""

        def __init__(self, order: Order) -> None:
            super().__init__()
            self.order = order

    def __init__(self) -> None:
        super().__init__()
        self._paused = False

    @property
    def shown(self) -> Sequence[texts.Column]:
        """The columns that fit."""
        if self._picture is None:
            return ()
        marked = self._picture.marked_s is not None
        return texts.columns(self.size.width - 1, self._picture.options.order, marked=marked)

    def show(self, picture: ScreenState, *, paused: bool = False) -> None:
        """Show another moment; ``paused``: it stays."""
        self._paused = paused
        super().show(picture)

    def render(self) -> Text:
        """Draw both lines."""
        if self._picture is None:
            return Text()
        width = self.size.width
        heads = Text(" ").join(
            Text(text, style="bold underline" if chosen else "bold")
            for text, chosen in texts.head_line(self.shown, self._picture.options.order)
        )
        line = texts.choice_line(self._picture, paused=self._paused, width=width)
        return Text("\n").join((Text(line, style="dim"), heads))

    def on_click(self, event: events.Click) -> None:
        """Sort by the column that was clicked on."""
        begin = 0
        for column in self.shown:
            if begin <= event.x < begin + column.width and event.y == 1:
                if column.order is not None:
                    self.post_message(self.Sorted(column.order))
                return
            begin += column.width + 1
