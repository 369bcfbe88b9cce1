"""The one way of lines to standard output and standard error, for all commands.

Names of files, processes and functions are in these lines. On a terminal nothing in them acts, and
no line of them is a command to a continuous integration that reads the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mem_parser.escape import log_line, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def say(line: str, *, err: bool = False) -> None:
    """Print a line, to standard error with ``err``."""
    click.echo(log_line(line), err=err)


def warn(text: str) -> None:
    """Print `warning: text` to standard error."""
    say(f"warning: {text}", err=True)


def say_command(command: str, *, err: bool = False) -> None:
    """Print what `mem_parser.escape.github_command` made, which is to be a command."""
    click.echo(command, err=err)


def plain_console(*, err: bool = False) -> Console:
    """Return a console of rich that takes no text for markup, a number or a face."""
    from rich.console import Console

    return Console(stderr=err, highlight=False, markup=False, emoji=False)


def show_line(console: Console, text: Text) -> None:
    """Print a text in lines of the terminal's width, each of which is as `log_line` gives it."""
    from rich.text import Text

    text.plain = one_line(text.plain)
    for part in text.wrap(console, console.width):
        plain = log_line(part.plain)
        console.print(part if plain == part.plain else Text(plain), soft_wrap=True)
