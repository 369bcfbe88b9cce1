"""Command lines without a command name: resolve their first words.

Model: a `DirectGroup` reads its arguments once to see whether their first word is a command. If it
is none, `direct` says which hidden command is meant, and that one gets all arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

_MEANT = "mem_cli.direct.meant"


class DirectGroup(click.Group):
    """A group that may be called without a command's name."""

    option_sources: Sequence[click.Command] = ()
    """Commands that `direct` may return: their options may come before the first word."""

    def direct(self, words: Sequence[str], given: Mapping[str, Any]) -> click.Command | None:
        """Return the command that is meant; None: the first word should have been a command.

        ``words`` begin with one that is none; ``given`` has the options by their names, as texts.
        """
        raise NotImplementedError

    def first_words(self, incomplete: str) -> Iterable[CompletionItem]:
        """Yield what a shell may complete the first word to, beside the commands."""
        raise NotImplementedError

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options before the command."""
        meant = None if ctx.resilient_parsing else self._meant(ctx, args)
        if meant is not None:
            ctx.meta[_MEANT] = meant
            args = ["", *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command and its arguments."""
        meant = ctx.meta.pop(_MEANT, None)
        if meant is None:
            return super().resolve_command(ctx, args)
        return meant.name, meant, args[1:]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what a shell may complete a word to."""
        first = [] if incomplete.startswith("-") else self.first_words(incomplete)
        return [*first, *super().shell_complete(ctx, incomplete)]

    def _meant(self, ctx: click.Context, args: Sequence[str]) -> click.Command | None:
        every = click.Command(None, params=every_option((self, *self.option_sources)))
        parser = every.make_parser(ctx)
        try:
            _, words, _ = parser.parse_args(list(args))
        except click.UsageError:  # said once more where the arguments are read
            return None
        if not words or words[0] in self.commands:
            return None
        parser.allow_interspersed_args = True
        try:
            given, _, _ = parser.parse_args(list(args))
        except click.UsageError:  # the same
            given = {}
        return self.direct(words, given)


def every_option(commands: Iterable[click.Command]) -> list[click.Parameter]:
    """Return the options of all ``commands``; of options with a common name the first."""
    found: list[click.Parameter] = []
    names: set[str] = set()
    for command in commands:
        for param in command.params:
            if isinstance(param, click.Option) and not names.intersection(param.opts):
                names.update(param.opts)
                found.append(param)
    return found
