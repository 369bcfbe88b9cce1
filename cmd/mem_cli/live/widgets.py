"""Widgets of the live view: selectable lines, a prompt, the theme.

Model: nothing is kept by line. The owner says how many there are and draws those that are on the
screen, so that ten thousand rows cost what two dozen do. A line is made of parts, plain texts with
a style each: no text is ever read as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input

Part = tuple[str, str]
"""A text, and the style of rich that it has; an empty one is the terminal's own."""
Draw = Callable[[int, int], Sequence[Part]]
"""From the number of a line and the width to its parts."""
_CHOSEN = Style(reverse=True)


class Lines(ScrollView, can_focus=True, inherit_bindings=False):
    """Lines to move about in. ``cursor`` is the chosen one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "go(0)", show=False),
        Binding("end", "go(-1)", show=False),
        Binding("enter", "choose", show=False),
    ]
    DEFAULT_CSS = """
    Lines {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
    }
    """
    cursor: reactive[int] = reactive(0)

    class Chosen(Message):
        """Somebody wants to open a line."""

        def __init__(self, lines: Lines, number: int) -> None:
            super().__init__()
            self.lines = lines
            self.number = number

        @property
        def control(self) -> Lines:
            """The widget, by which handlers distinguish several."""
            return self.lines

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id)
        self.count = 0
        self.moved = False
        self._draw: Draw = lambda _number, _width: ()

    def show(self, count: int, draw: Draw, *, cursor: int | None = None) -> None:
        """Show ``count`` lines that ``draw`` makes; ``cursor`` is the chosen one, None: as it is.

        The chosen line stays where it is on the screen.
        """
        self._draw = draw
        on_screen = self.cursor - round(self.scroll_y)
        if count != self.count:
            self.count = count
            self.virtual_size = Size(0, count)
        wanted = self.cursor if cursor is None else cursor
        wanted = max(min(wanted, count - 1), 0)
        if wanted != self.cursor:
            self.set_reactive(Lines.cursor, wanted)
            if 0 <= on_screen < self.size.height:
                self._scroll(wanted - on_screen)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw line ``y`` of the screen's part."""
        width = self.scrollable_content_region.width
        number = y + round(self.scroll_y)
        if number >= self.count:
            return Strip.blank(width, self.rich_style)
        base = self.rich_style
        if number == self.cursor:
            base += _CHOSEN
        parts = [Segment(text, base + Style.parse(style) if style else base)
                 for text, style in self._draw(number, width)]  # fmt: skip
        return Strip(parts).adjust_cell_length(width, base)

    def watch_cursor(self) -> None:
        """Keep the chosen line on the screen."""
        top, height = round(self.scroll_y), max(self.size.height, 1)
        if self.cursor < top:
            self._scroll(self.cursor)
        elif self.cursor >= top + height:
            self._scroll(self.cursor - height + 1)
        self.refresh()

    def _scroll(self, top: int) -> None:
        # By force: new lines may be there before the bar of scrolling is.
        self.scroll_to(y=top, animate=False, immediate=True, force=True)

    def _to(self, number: int) -> None:
        self.moved = True
        self.cursor = max(min(number, self.count - 1), 0)

    def action_move(self, steps: int) -> None:
        """Choose another line."""
        self._to(self.cursor + steps)

    def action_page(self, pages: int) -> None:
        """Go on by as much as is on the screen."""
        self._to(self.cursor + pages * max(self.size.height - 1, 1))

    def action_go(self, number: int) -> None:
        """Go to the first line, or with -1 to the last."""
        self._to(self.count - 1 if number < 0 else number)

    def action_choose(self) -> None:
        """Open the chosen line."""
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Choose the line, and open the one that is chosen."""
        number = event.y + round(self.scroll_y)
        if number >= self.count:
            return
        if number == self.cursor and self.moved:
            self.action_choose()
        else:
            self._to(number)


class Asking(Input):
    """It is there while it asks. The keys behind the one that opens it are its own, however fast
    they come: that one is a binding with priority, and the focus moves at once.
    """

    # With the focus, too: a frame would leave no line for the text.
    DEFAULT_CSS = "Asking, Asking:focus { height: 1; border: none; padding: 0; }"

    def __init__(self, placeholder: str) -> None:
        super().__init__(placeholder=placeholder, id="filter")
        self.display = False

    def ask(self, text: str) -> None:
        """Ask, with a text that is there already."""
        self.value = text
        self.cursor_position = len(text)
        self.display = True
        self.screen.set_focus(self)

    def end(self) -> None:
        """Ask no more; the caller gives the focus to another widget."""
        self.display = False


THEME = "ansi-dark"
"""The colours are the terminal's own."""
