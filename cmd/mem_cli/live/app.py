"""The live view: one screen that shows a `Follower`'s findings and passes keys on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import signal
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.widgets import Input, Static

from mem_cli.live import texts
from mem_cli.live.answers import LEAKS, LEAKS_AT_END
from mem_cli.live.following import Answer, Follower
from mem_cli.live.head import Facts, Graphs, Heads, Verdicts
from mem_cli.live.pages import KEYS_TITLE, Reading, StacksScreen, key_lines, room_for_text
from mem_cli.live.screen_state import Page, Restarted, Said, ScreenState, Stacks
from mem_cli.live.terminal import TerminalDriver
from mem_cli.live.view_options import ViewOptions
from mem_cli.live.widgets import THEME, Asking, Lines, Part
from mem_parser.escape import one_line
from mem_parser.live.totals import Order
from mem_parser.words import phrase
from mem_profiler.live.watched import State

HINTS = (
    phrase("? keys"), phrase("q leave"), phrase("enter stacks"), phrase("t total"), phrase("o own"),
    phrase("g growth"), phrase("/ filter"), phrase("b mark"), phrase("space pause"),
    phrase("l leaks"), phrase("w write"), phrase("f flame graph"), phrase("left right threads"),
    phrase("a blocks"),
)  # fmt: skip
_PIDS_MAX = 4
_OF_TABLE = {
    "order", "thread", "merge", "filter", "module", "domain", "mark", "unmark", "leaks", "page",
    "capture", "notes", "output", "help", "close",
}  # fmt: skip


class Arrived(Message):
    """The follower has an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class LiveApp(App[int | None]):
    """The live view. `run` returns the process to follow next; None: the viewer leaves.

    ``output`` reads the end of the program's output, and ``forward`` gives it a signal, if this
    command started it. The view ends with a signal nevertheless.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #news { height: 1; display: none; text-style: reverse; }
    #news.-shown { display: block; }
    #hints { height: 1; text-style: dim; }
    #small { display: none; }
    Verdicts.-none { display: none; }
    .-small > * { display: none; }
    .-small > #small { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "leave"),
        Binding("ctrl+c", "interrupt", priority=True, show=False),
        Binding("ctrl+q", "leave", priority=True, show=False),
        Binding("t", "order('total')", "total"),
        Binding("o", "order('own')", "own"),
        Binding("a", "order('blocks')", "blocks"),
        Binding("g", "order('growth')", "growth"),
        Binding("left,less_than_sign", "thread(-1)", show=False),
        Binding("right,greater_than_sign", "thread(1)", show=False),
        Binding("m", "merge", "all threads"),
        Binding("slash", "filter", "filter", priority=True),
        Binding("i", "module", "module"),
        Binding("d", "domain", "domain"),
        Binding("b", "mark", "mark"),
        Binding("B", "unmark", show=False),
        Binding("space", "pause", "pause"),
        Binding("l", "leaks", "leaks"),
        Binding("n", "notes", "notes"),
        Binding("w", "write", "write"),
        Binding("W", "write_resident", show=False),
        Binding("f", "page", "flame graph"),
        Binding("c", "capture", show=False),
        Binding("r", "restarted", show=False),
        Binding("p", "output", show=False),
        Binding("question_mark,h", "help", "help"),
        Binding("escape", "close", show=False),
    ]

    def __init__(
        self,
        follower: Follower,
        *,
        output: Callable[[], Sequence[str]] | None = None,
        forward: Callable[[int], object] | None = None,
    ) -> None:
        # The colours are known before the theme: NO_COLOR depends on it.
        super().__init__(driver_class=TerminalDriver, ansi_color=True)
        self.follower = follower
        self.picture: ScreenState | None = None
        self.options = ViewOptions()
        self.paused = False
        self.successor: int | None = None
        self.written: list[str] = []
        self.broken: BaseException | None = None
        self._output = output
        self._forward = forward
        self._heard = False
        self._loop_here: asyncio.AbstractEventLoop | None = None
        self._chosen = ""
        self._said_end = False
        # Other screens may cover these, and at the end they go one by one: nobody looks for them.
        self._verdicts, self._facts = Verdicts(), Facts()
        self._graphs, self._heads = Graphs(), Heads()
        self._rows = Lines(id="rows")
        self._news = Static(id="news")
        self._asked = Asking("regular expression")
        self._hints = Static(id="hints")
        self._small = Static(id="small")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Tell whether a key acts: those of the table do not while another screen covers it."""
        if action in _OF_TABLE and len(self.screen_stack) > 1:
            return False
        if action == "filter" and self.focused is self._asked:
            return False
        return super().check_action(action, parameters)

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield self._facts
        yield self._verdicts
        yield self._graphs
        yield self._news
        yield self._heads
        yield self._rows
        yield self._asked
        yield self._hints
        yield self._small

    def on_mount(self) -> None:
        """Begin to follow."""
        self.theme = THEME
        self._loop_here = asyncio.get_running_loop()
        if self._heard:
            self.exit(None)
        self._rows.focus()
        self._fit(self.size)
        self.follower.begin(self._deliver)

    def _deliver(self, answer: Answer) -> None:
        """Take an answer on the follower's thread. After the end of the view nobody wants it."""
        with contextlib.suppress(RuntimeError):
            self.post_message(Arrived(answer))

    def hear(self, number: int) -> None:
        """Leave for a signal; a handler of signals may call it."""
        self._heard = True
        if self._forward is not None:
            self._forward(number)
        if self._loop_here is not None:
            self._loop_here.call_soon_threadsafe(self.exit)

    def _fatal_error(self) -> None:
        """Exit on an error of the view itself; the command prints it in a line."""
        self.broken = self._exception
        self._close_messages_no_wait()

    # -- what is shown --------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        """Give the graphs the extra room of a larger screen, and report a screen that is too
        small.
        """
        self._fit(event.size)  # which this app has not yet
        self._show()

    def _fit(self, size: Size) -> None:
        columns, lines = size
        is_small = columns < texts.LEAST_COLUMNS or lines < texts.LEAST_LINES
        self._small.update(Text(texts.too_small(columns, lines)))
        self.screen_stack[0].set_class(is_small, "-small")
        self._hints.update(Text(texts.as_many(HINTS, columns)))
        self._verdicts.styles.height = 1 if lines < 20 else 2 if lines < 40 else 3
        self._graphs.styles.height = 3 if lines < 20 else 4 if lines < 40 else 8

    def on_arrived(self, message: Arrived) -> None:
        """Show the follower's result."""
        if not self._rows.is_attached:
            return  # the view is being taken down
        answer = message.answer
        if isinstance(answer, ScreenState):
            self._chosen = self._row_name() or ""
            self.picture = answer
            self.options = dataclasses.replace(
                self.options, domain=answer.options.domain, thread=answer.options.thread
            )
            self._show()
            self._say_state(answer)
        elif isinstance(answer, Said):
            self.say(answer.text)
            if answer.written:
                self.written.append(answer.text)
        elif isinstance(answer, Page):
            self._open_page(answer)
        elif isinstance(answer, Stacks):
            self._open_stacks(answer)
        elif isinstance(answer, Restarted):
            self._offer(answer)
        else:
            self.exit(None)

    def _offer(self, restarted: Restarted) -> None:
        self.successor = None if restarted.others else restarted.pid
        why = self.follower.source.why or "it has ended"
        if restarted.others:
            pids = ", ".join(map(str, [restarted.pid, *restarted.others][:_PIDS_MAX]))
            number = 1 + len(restarted.others)
            self.say(f"{why}; {number} processes of it run: q, then mem_profiler live PID: {pids}")
        elif restarted.at_once:
            self.exit(restarted.pid)
        elif restarted.pid == self.follower.source.pid:
            self.say("the process runs another program: r follows it")
        else:
            self.say(f"{why}; it runs again as pid {restarted.pid}: r follows it")

    def say(self, text: str) -> None:
        """Show a line of news."""
        self._news.update(Text(one_line(text)))
        self._news.add_class("-shown")

    def _say_state(self, picture: ScreenState) -> None:
        situation = picture.situation
        if situation.state is State.ENDED and not self._said_end:
            self._said_end = True
            self.say(f"ended: {situation.why or 'the process is gone'}; this is its last state")
            if isinstance(self.screen, Reading) and self.screen.heading == LEAKS:
                self.follower.leaks(room_for_text(self.size.width))

    def _show(self) -> None:
        picture = self.picture
        if picture is None or not self._rows.is_attached:
            return
        self._facts.show(picture)
        self._verdicts.show(picture)
        self._verdicts.set_class(not picture.verdicts, "-none")
        self._graphs.show(picture)
        self._heads.show(picture, paused=self.paused)
        rows, lines = picture.rows, self._rows
        cursor = None
        if lines.moved and self._chosen in rows.names:
            cursor = rows.names.index(self._chosen)
        lines.show(len(rows), self._drawn, cursor=cursor)

    def _drawn(self, number: int, width: int) -> list[Part]:
        picture = self.picture
        if picture is None:
            return []
        marked = picture.marked_s is not None
        order = picture.options.order
        # The heads do not know whether there is a bar of scrolling.
        shown = texts.columns(min(width, self.size.width - 1), order, marked=marked)
        by_total = order is Order.TOTAL
        row = picture.rows[number]
        stands = row.total_growth_stands if by_total else row.growth_stands
        cells = texts.row_cells(row, shown, order)
        return [
            (f"{cell} ", "bold" if c.head == "since mark" and stands else "")
            for c, cell in zip(shown, cells, strict=True)
        ]

    def _row_name(self) -> str | None:
        number = self._rows.cursor
        if self.picture is None or number >= len(self.picture.rows):
            return None
        return self.picture.rows.names[number]

    # -- keys -----------------------------------------------------------------------------------

    def _want(self, **changes: object) -> None:
        self.options = dataclasses.replace(self.options, **changes)  # type: ignore[arg-type]
        self.follower.want(self.options)

    def action_order(self, order: str) -> None:
        """Sort by something else."""
        if order == Order.GROWTH and (self.picture is None or self.picture.marked_s is None):
            self.say("growth is since a mark: b sets one")
        self._want(order=Order(order))

    def on_heads_sorted(self, message: Heads.Sorted) -> None:
        """Sort by the column whose head was clicked."""
        self.action_order(message.order)

    def action_thread(self, step: int) -> None:
        """Show another thread."""
        places = [] if self.picture is None else [p.key for p in self.picture.threads]
        if not places:
            self.say("this capture tells no threads apart")
            return
        at = places.index(self.options.thread) if self.options.thread in places else None
        first = 0 if step > 0 else len(places) - 1
        self._want(thread=places[first if at is None else (at + step) % len(places)])

    def action_merge(self) -> None:
        """Show all threads together."""
        self._want(thread=None)

    def action_domain(self) -> None:
        """Show another memory."""
        count = 1 if self.picture is None else len(self.picture.domains)
        if count == 1:
            self.say("the program has used the memory of no device")
            return
        self._want(domain=(self.options.domain + 1) % count, thread=None)

    def action_module(self) -> None:
        """Show the module of the chosen function alone, or all again."""
        if self.options.module:
            self._want(module="")
            return
        number = self._rows.cursor
        if self.picture is not None and number < len(self.picture.rows):
            self._want(module=self.picture.rows[number].module)

    def action_filter(self) -> None:
        """Ask for a regular expression."""
        self._asked.ask(self.options.pattern)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Show matches."""
        try:
            re.compile(message.value)
        except (re.error, RecursionError, OverflowError) as error:
            self.say(f"not a regular expression: {error}")
            return
        self._close_filter()
        self._want(pattern=message.value)

    def _close_filter(self) -> None:
        self._asked.end()
        self.screen.set_focus(self._rows)

    def action_close(self) -> None:
        """Close the line of the filter, and the news."""
        self._close_filter()
        self._news.remove_class("-shown")

    def action_mark(self) -> None:
        """Compare with now."""
        self.follower.put_mark()

    def action_unmark(self) -> None:
        """Compare no more."""
        self.follower.take_mark()

    def action_pause(self) -> None:
        """Pause or resume the view."""
        self.paused = not self.paused
        self.follower.pause(paused=self.paused)
        self._show()

    def action_leaks(self) -> None:
        """Show verdicts on leaks."""
        self.follower.leaks(room_for_text(self.size.width))

    def action_notes(self) -> None:
        """Show missing parts of the profile."""
        notes = [] if self.picture is None else list(self.picture.notes)
        self._open_page(Page("notes", notes or ["nothing is missing"]))

    def action_write(self, *, resident: bool = False) -> None:
        """Write a file, if asked for with what is resident."""
        self.say("writing a file ...")
        self.follower.write(resident=resident)

    def action_write_resident(self) -> None:
        """Write a file with what is resident."""
        self.action_write(resident=True)

    def action_page(self) -> None:
        """Write a flame graph."""
        self.say("drawing a flame graph ...")
        self.follower.write_page()

    def action_capture(self) -> None:
        """Start a capture if none runs."""
        self.follower.capture()

    def action_restarted(self) -> None:
        """Leave for the process that took the place of this one."""
        if self.successor is not None:
            self.exit(self.successor)

    def action_output(self) -> None:
        """Show the program's output."""
        if self._output is None:
            self.say("the output of a program is here with mem_profiler run --live")
        else:
            self.push_screen(Reading("output", self._output(), self._output))

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(Reading(KEYS_TITLE, key_lines()))

    def action_leave(self) -> None:
        """Leave."""
        self.exit(None)

    def action_interrupt(self) -> None:
        """Leave; before that let the program have the Ctrl-C that was for it."""
        self.hear(signal.SIGINT)

    # -- stacks ---------------------------------------------------------------------------------

    def on_lines_chosen(self, message: Lines.Chosen) -> None:
        """Ask for the stacks of a row."""
        if message.lines.id == "rows":
            name = self._row_name()
            if name is not None:
                self.follower.stacks(name, callers=True)

    def _open_page(self, page: Page) -> None:
        top = self.screen
        of_leaks = (LEAKS, LEAKS_AT_END)
        same = of_leaks if page.title in of_leaks else (page.title,)
        if isinstance(top, Reading) and top.heading in same:
            top.take(page.lines, page.title)
        else:
            fit = self.follower.leaks if page.title in of_leaks else None
            self.push_screen(Reading(page.title, page.lines, fit=fit))

    def _open_stacks(self, stacks: Stacks) -> None:
        if isinstance(self.screen, StacksScreen):
            self.screen.take(stacks)
        else:
            self.push_screen(
                StacksScreen(
                    stacks, lambda name, callers: self.follower.stacks(name, callers=callers)
                )
            )
