"""Write lines to standard output and standard error, for all commands.

These lines contain names of files, processes and functions. They are escaped, so that neither a
terminal nor a CI system that reads the log takes anything in them for a command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mem_cli.colour import is_coloured
from mem_parser.escape import log_line, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def say(line: str, *, err: bool = False) -> None:
    """Print a line, to standard error with ``err``."""
    click.echo(log_line(line), err=err)


def note(line: str, *, err: bool = False) -> None:
    """Print a line as `say` does, unless `-q` was given: notes, progress, next steps."""
    if not is_quiet():
        say(line, err=err)


def say_sentence(line: str, *, err: bool = False) -> None:
    """Print a line as `say` does, on a terminal in lines that end between words."""
    if not (sys.stderr if err else sys.stdout).isatty():
        say(line, err=err)
        return
    import shutil

    from mem_parser.textwidth import wrapped

    columns = shutil.get_terminal_size().columns
    for part in wrapped(one_line(line), columns, "  ", whole_words=True):
        say(part, err=err)


def is_quiet() -> bool:
    """Whether `-q` was given to the running command or to its group."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_QUIET))


def quiet_option(text: str = "Leave out notes, progress and next steps.") -> click.Option:
    """Return `-q`, which a group and each of its commands take."""

    def keep(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[_QUIET] = True

    return click.Option(
        ["-q", "--quiet"], is_flag=True, expose_value=False, callback=keep, help=text
    )


def warn(text: str) -> None:
    """Print `warning: text` to standard error."""
    say(f"warning: {text}", err=True)


def say_command(command: str, *, err: bool = False) -> None:
    """Print a workflow command made by `mem_parser.escape.github_command`."""
    click.echo(command, err=err)


_QUIET = "mem_cli.quiet"
_UNCUT = 1 << 20
WAIT_S = 1.0
"""After this time a user may think that nothing happens; then once in this time."""
_ERASE = "\r\x1b[K"
_NOBODY = signal.SIG_DFL
"""What the timer's signal does where nobody has it: neither a caller nor an outer `waiting`."""


@contextlib.contextmanager
def waiting(text: str, after_s: float | None = None) -> Iterator[None]:
    """Show `text` and the seconds since, while the work of a ``with`` block goes on.

    One line of standard error, rewritten once in ``after_s`` (`WAIT_S`) and erased at the end;
    nothing if standard error is not a terminal, or the work is done sooner. A timer's signal does
    it, not a thread, because the work may fork. Inside another `waiting` this one shows nothing.
    """
    is_main = threading.current_thread() is threading.main_thread()
    is_free = is_main and signal.getsignal(signal.SIGALRM) is _NOBODY
    if is_quiet() or not (is_free and sys.stderr.isatty()):
        yield
        return
    import shutil

    after_s = WAIT_S if after_s is None else after_s
    begin = time.monotonic()
    shown = False

    def show(*_: object) -> None:
        nonlocal shown
        shown = True
        line = f"{text} ... {time.monotonic() - begin:.0f} s"
        room = max(shutil.get_terminal_size().columns - 1, 1)
        _write(_ERASE + log_line(one_line(line))[-room:])

    signal.signal(signal.SIGALRM, show)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, after_s, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _NOBODY)
        if shown:
            _write(_ERASE)


def _write(text: str) -> None:
    """Bypass the buffer of standard error, which may be in use when a signal arrives."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), text.encode("utf-8", "backslashreplace"))


def plain_console(*, err: bool = False) -> Console:
    """Return a console of rich that takes no text for markup, a number or a face."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    coloured = is_coloured(stream)
    return Console(
        stderr=err,
        highlight=False,
        markup=False,
        emoji=False,
        color_system="auto" if coloured else None,
        no_color=not coloured,
        force_terminal=coloured or None,
        width=None if stream.isatty() else _UNCUT,
    )


def show_line(console: Console, text: Text) -> None:
    """Print a text in lines of the terminal's width, each of which is as `log_line` gives it."""
    from rich.text import Text

    text.plain = one_line(text.plain)
    for part in text.wrap(console, console.width):
        plain = log_line(part.plain)
        console.print(part if plain == part.plain else Text(plain), soft_wrap=True)
