"""Screens above the table: the stacks of a function, texts to read, the keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from mem_cli.live.screen_state import Branch, Stacks
from mem_cli.live.widgets import Lines, Part
from mem_parser.escape import one_line
from mem_parser.model import Unit
from mem_parser.textwidth import shortened
from mem_parser.units import format_bytes, format_margin, percent
from mem_parser.words import joined, phrase, shown

KEYS = (
    ("t  o  a  g", phrase("sort by total, own, number of blocks, growth since the mark")),
    ("left right", phrase("the next thread; m: all threads together")),
    ("up down", phrase("choose a function (also j k, Page Up, Page Down, Home, End)")),
    ("enter", phrase("its stacks as a tree: source lines and callers; c: what it calls")),
    ("/", phrase("only functions whose name, file or module matches")),
    ("", phrase("(regular expression; an empty one: all)")),
    ("i", phrase("only functions of the chosen one's module; again: all")),
    ("d", phrase("another memory: the host's, each device's")),
    ("b", phrase("set a mark and show changes since; B: remove it")),
    ("space", phrase("pause the view; the program and the capture go on")),
    ("l", phrase("verdicts on leaks so far")),
    ("n", phrase("notes: what is missing from the profile, and why")),
    ("w", phrase("write a .heap file; W: with what is resident (--resident)")),
    ("f", phrase("write a flame graph page (with a mark: of what changed)")),
    ("c", phrase("start a capture if none is running")),
    ("r", phrase("follow the program that was started again")),
    ("p", phrase("the program's output (of run --live)")),
    ("q", phrase("quit; stops only captures started here")),
    ("", ""),
    ("live", phrase("bytes in use, allocated since the capture began; RSS counts all pages")),
    ("own", phrase("bytes that the function allocated itself, or a library for it")),
    ("total", phrase("own plus everything its callees allocated")),
    ("±", phrase("the 95 % margin of error of the number before it")),
    ("allocated/s", phrase("by it and what it called, over the last five seconds")),
    ("since mark", phrase("how total has changed if rows are sorted by it, else own")),
)


KEYS_TITLE = "keys"


class Reading(Screen[None]):
    """A text to read: esc or q closes it. With ``again`` it is asked for once a second, with
    ``fit`` for one that is laid out for a width, when that has changed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,l,n,p", "close", "back"),
        Binding("question_mark,h", "keys", "keys"),
    ]
    DEFAULT_CSS = """
    Reading > .bar { height: 1; text-style: bold; }
    Reading > .hint { height: 1; dock: bottom; text-style: dim; }
    """

    def __init__(
        self,
        title: str,
        lines: Sequence[str],
        again: Callable[[], Sequence[str]] | None = None,
        fit: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__()
        self._fit = fit
        self._laid_out_for = 0
        self.heading = title
        self.shown = list(lines)
        self._again = again

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(Text(one_line(self.heading)), classes="bar")
        yield Lines()
        keys = (phrase("esc back"), phrase("up down move"))
        yield Static(Text("   ".join(shown(keys))), classes="hint")

    def action_keys(self) -> None:
        """Show the keys, or close them."""
        if self.heading == KEYS_TITLE:
            self.dismiss(None)
        else:
            self.app.push_screen(Reading(KEYS_TITLE, key_lines()))

    def on_mount(self) -> None:
        """Show the text; one that grows begins at its end."""
        self._show()
        if self._again is not None:
            self.query_one(Lines).action_go(-1)
            self.set_interval(1.0, self._read_again)

    def on_resize(self, event: events.Resize) -> None:
        """Break the lines anew."""
        self._show()
        width = room_for_text(event.size.width)
        if self._fit is not None and self._laid_out_for not in {0, width}:
            self._fit(width)
        self._laid_out_for = width

    def _read_again(self) -> None:
        if self._again is None:
            return
        lines = self.query_one(Lines)
        at_end = lines.cursor >= lines.count - 1
        self.take(self._again())
        if at_end:
            lines.action_go(-1)

    def take(self, lines: Sequence[str], heading: str = "") -> None:
        """Show another text, and ``heading`` if there is one."""
        self.shown = list(lines)
        if heading:
            self.heading = heading
            self.query_one(".bar", Static).update(Text(one_line(heading)))
        self._show()

    def _show(self) -> None:
        width = room_for_text(self.size.width)
        lines = [part for line in self.shown for part in _folded(one_line(line), width)]
        self.query_one(Lines).show(len(lines), lambda number, _width: [(lines[number], "")])

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)


def room_for_text(columns: int) -> int:
    """Return the width of a line, without the scroll bar."""
    return max(columns - 1, 20)


def _folded(line: str, width: int) -> list[str]:
    """Return a line in parts that fit; those behind the first are below its last column, which
    begins behind two blanks. It breaks at a blank, if there is one in the second half.
    """
    indent = line.rfind("  ", 0, width // 2) + 2 if "  " in line[: width // 2] else 0
    parts = []
    while len(line) > width:
        blank = line.rfind(" ", width // 2, width + 1)
        end = blank if blank > 0 else width
        parts.append(line[:end])
        line = " " * indent + (line[end:].lstrip() if blank > 0 else line[end:])
    return [*parts, line]


def key_lines() -> list[str]:
    """Return the help text of the keys."""
    wide = max(len(key) for key, _ in KEYS)
    return [f"{key:<{wide}}  {text}".rstrip() for key, text in shown(KEYS)]


class StacksScreen(Screen[None]):
    """The stacks of one function as a tree; enter folds and unfolds."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "close", "back"),
        Binding("c", "turn", "callers or callees"),
    ]
    DEFAULT_CSS = """
    StacksScreen > .bar { height: 1; text-style: bold; }
    StacksScreen > .hint { height: 1; dock: bottom; text-style: dim; }
    """

    def __init__(self, stacks: Stacks, turn: Callable[[str, bool], None]) -> None:
        super().__init__()
        self.stacks = stacks
        self._turn = turn
        self._folded: set[int] = set()
        self._open: list[int] = []

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(classes="bar")
        yield Lines()
        yield Static(classes="hint")

    def on_mount(self) -> None:
        """Show the tree."""
        self.take(self.stacks)

    def take(self, stacks: Stacks) -> None:
        """Show another tree."""
        self.stacks = stacks
        self._folded.clear()
        callers, callees = phrase("who called it"), phrase("what it calls")
        direction, other = (callers, callees) if stacks.callers else (callees, callers)
        title = joined(": ", [one_line(stacks.function), direction])
        self.query_one(".bar", Static).update(Text(shown(title)))
        keys = (phrase("esc back"), phrase("enter fold"), joined(" ", ["c", other]), stacks.note)
        self.query_one(".hint", Static).update(Text("   ".join(filter(None, shown(keys)))))
        self._show()

    def _show(self) -> None:
        self._open = []
        number = 0
        branches = self.stacks.branches
        while number < len(branches):
            self._open.append(number)
            number += 1 + (branches[number].below if number in self._folded else 0)
        self.query_one(Lines).show(len(self._open), self._drawn)

    def _drawn(self, line: int, width: int) -> list[Part]:
        number = self._open[line]
        branch = self.stacks.branches[number]
        numbers = branch_numbers(branch)
        mark = "+" if number in self._folded else " "
        text = shortened(branch.text, width - len(numbers) - 2)
        return [(f"{numbers}{mark} {text}", "")]

    def on_lines_chosen(self, message: Lines.Chosen) -> None:
        """Fold or unfold the lines below a line."""
        number = self._open[message.number]
        if self.stacks.branches[number].below:
            self._folded ^= {number}
            self._show()

    def action_turn(self) -> None:
        """Look in the other direction."""
        self._turn(self.stacks.function, not self.stacks.callers)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)


def branch_numbers(branch: Branch) -> str:
    """Return bytes with their error and the share of a line of a tree."""
    value = format_bytes(branch.total.value)
    margin = format_margin(branch.total, Unit.SPACE)
    return f"{value:>10} {margin:>11} {percent(branch.share, 1.0):>6}"
