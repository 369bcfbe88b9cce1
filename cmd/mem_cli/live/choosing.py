"""The list of processes to choose one from: `mem_profiler live` without a process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input, Static

from mem_cli.live.candidates import Candidate, candidates
from mem_cli.live.terminal import TerminalDriver
from mem_cli.live.widgets import THEME, Asking, Lines, Part
from mem_parser.errors import MemError
from mem_parser.escape import one_line
from mem_parser.textwidth import cut, differences, ljust, rjust, told_apart
from mem_parser.words import phrase, shown

Find = Callable[[Callable[[], bool]], Iterable[Candidate]]
_LEAST_COMMAND = 16


class Found(Message):
    """One more process; None: these are all."""

    def __init__(self, candidate: Candidate | None, problem: str = "") -> None:
        super().__init__()
        self.candidate = candidate
        self.problem = problem


class ChooserApp(App[int | None]):
    """Choose a process. `run` returns its number; None: the viewer leaves."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Static { height: 1; }
    #hints { text-style: dim; }
    #heads { text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,escape", "leave", "leave"),
        Binding("ctrl+c,ctrl+q", "leave", priority=True, show=False),
        Binding("slash", "filter", "filter", priority=True),
    ]

    def __init__(self, find: Find = candidates) -> None:
        # The colours are known before the theme: NO_COLOR depends on it.
        super().__init__(driver_class=TerminalDriver, ansi_color=True)
        self.found: list[Candidate] = []
        self.shown: list[Candidate] = []
        self.complete = False
        self._find = find
        self._differ: list[int] = []
        self._pattern = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._search, name="choose")

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(id="title")
        yield Static(id="heads")
        yield Lines()
        yield Asking(shown(phrase("part of a command")))
        hints = (phrase("enter watch"), phrase("/ filter"), phrase("q leave"))
        yield Static(Text("   ".join(shown(hints))), id="hints")

    def on_mount(self) -> None:
        """Begin to look for processes."""
        self.theme = THEME
        self.query_one(Lines).focus()
        self._show()
        self._thread.start()

    def on_resize(self, event: events.Resize) -> None:
        """Say which columns there are."""
        self.query_one("#heads", Static).update(Text(_line(shown(_HEADS), event.size.width - 1)))

    def end(self) -> None:
        """End the search, and wait for it."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _search(self) -> None:
        problem = ""
        try:
            for one in self._find(self._ending.is_set):
                if self._ending.is_set():
                    return
                self._tell(Found(one))
        except (MemError, OSError) as error:
            problem = str(error)
        except Exception as error:  # else the list would wait for more for ever
            problem = f"the search ended early: {type(error).__name__}: {error}"
        self._tell(Found(None, problem))

    def _tell(self, message: Found) -> None:
        with contextlib.suppress(RuntimeError):  # the view has ended
            self.post_message(message)

    def on_found(self, message: Found) -> None:
        """Add a process to the list."""
        if message.candidate is None:
            self.complete = True
            if message.problem:
                self.query_one("#hints", Static).update(Text(one_line(message.problem)))
        else:
            self.found.append(message.candidate)
            if self._fits(message.candidate):
                self.shown.append(message.candidate)
        self._say_what_is_shown()

    def _fits(self, one: Candidate) -> bool:
        return self._pattern.lower() in one.command.lower()

    def _show(self) -> None:
        self.shown = [one for one in self.found if self._fits(one)]
        self._say_what_is_shown()

    def _say_what_is_shown(self) -> None:
        more = "" if self.complete else phrase(", looking for more ...")
        self._differ = []
        number = len(self.shown)
        title = phrase("which process?  {number} may be watched{more}", number=number, more=more)
        self.query_one("#title", Static).update(Text(shown(title)))
        self.query_one(Lines).show(len(self.shown), self._drawn)

    def _drawn(self, number: int, width: int) -> list[Part]:
        if not self._differ:
            self._differ = differences([one_line(one.command) for one in self.shown])
        one = self.shown[number]
        cells = (str(one.pid), one.user, one.state, one.live, one.rss, one.command)
        return [(_line(cells, width, self._differ[number]), "")]

    def on_lines_chosen(self, message: Lines.Chosen) -> None:
        """Take the chosen process."""
        self.exit(self.shown[message.number].pid)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Tell whether a key acts: inside the filter, the key that opens it is text."""
        if action == "filter" and isinstance(self.focused, Asking):
            return False
        return super().check_action(action, parameters)

    def action_filter(self) -> None:
        """Ask for a part of a command."""
        self.query_one(Asking).ask(self._pattern)

    def on_input_changed(self, message: Input.Changed) -> None:
        """Show only processes whose command contains the text."""
        self._pattern = message.value
        self._show()

    def on_input_submitted(self) -> None:
        """Take the only process that is left, or go back to the list."""
        if len(self.shown) == 1:
            self.exit(self.shown[0].pid)
            return
        self._to_list()

    def _to_list(self) -> None:
        self.query_one(Asking).end()
        self.screen.set_focus(self.query_one(Lines))

    def action_leave(self) -> None:
        """Leave, or go back to the list."""
        if isinstance(self.focused, Asking):
            self._to_list()
        else:
            self.exit(None)


_HEADS = (
    "PID", phrase("USER"), phrase("STATE"), phrase("LIVE"), "RSS", phrase("COMMAND"),
)  # fmt: skip
_WIDTHS = (10, -8, -18, 8, 8)
_GO_FIRST = (1, 4, 3, 2)
"""Of the columns: user, RSS, live bytes, state."""


def _line(cells: Sequence[str], width: int, differs: int = 0) -> str:
    """Return a line of the list in ``width`` columns; narrow lines omit some. The command is cut so
    that what begins at ``differs`` is seen.
    """
    kept = list(range(len(_WIDTHS)))
    for column in _GO_FIRST:
        if sum(abs(_WIDTHS[k]) + 2 for k in kept) + _LEAST_COMMAND <= width:
            break
        kept.remove(column)
    parts = []
    for k in kept:
        text, room = one_line(cells[k]), abs(_WIDTHS[k])
        parts.append(rjust(text, room) if _WIDTHS[k] > 0 else ljust(cut(text, room), room))
    facts = "  ".join([*parts, ""])
    return (facts + told_apart(one_line(cells[-1]), width - len(facts), differs))[:width]


def choose() -> int | None:
    """Let the user choose a process; None if they choose none."""
    app = ChooserApp()
    try:
        return app.run()
    finally:
        app.end()
