"""Decide on coloured output: `--color`, `NO_COLOR`, kind of stream.

Colour never carries information that the text lacks. A file named by `-o` has no colours.
"""

from __future__ import annotations

import os
import sys
from typing import IO, Any

import click

_ASKED = {"auto": None, "always": True, "never": False}


def _note(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.color = _ASKED[value]


def color_option() -> click.Option:
    """Return `--color`, which a group and each of its commands take; the innermost counts."""
    return click.Option(
        ["--color"],
        type=click.Choice(list(_ASKED)),
        expose_value=False,
        is_eager=True,
        callback=_note,
        help="Use colours: auto (on a terminal), always, never.",
    )


def is_coloured(stream: IO[Any] | None = None) -> bool:
    """Tell whether output to ``stream`` (by default standard output) has colours."""
    context = click.get_current_context(silent=True)
    asked = None if context is None else context.color
    if asked is not None:
        return asked
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return (stream or sys.stdout).isatty()
