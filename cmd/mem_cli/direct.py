"""Command groups: lazy imports of commands, and command lines without a command name.

Model: each command is a module, imported when the command is called: the list of the commands comes
from a table. A `DirectGroup` reads its arguments once to see whether their first word is a command.
If it is not, `direct` returns the hidden command that is meant, and that one gets all arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mem_cli.colour import color_option
from mem_cli.commands import keep_examples
from mem_cli.console import quiet_option
from mem_parser.errors import UsageProblem, nearest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_MEANT = "mem_cli.direct.meant"


class DirectGroup(click.Group):
    """A group that may be called without a command's name."""

    unknown = ""
    """What is said of a first word that means nothing, before the word."""
    sibling = ("", "")
    """The other program's name, and the module that has its commands in `SUMMARIES`."""

    def __init__(
        self, *words: Any, package: str, summaries: Mapping[str, str], **options: Any
    ) -> None:
        """``package`` has a module for each command, under its name; ``summaries`` are the lines in
        the list of commands: one without a line is hidden.
        """
        super().__init__(*words, **options)
        self.params += [quiet_option(), color_option()]
        self.package = package
        self.summaries = summaries

    def option_sources(self) -> Sequence[click.Command]:
        """Return the commands that `direct` may return: their options may come before the first
        word.
        """
        return ()

    def direct(self, words: Sequence[str], given: Mapping[str, Any]) -> click.Command | None:
        """Return the command that is meant; None: the first word should have been a command.

        ``words`` begin with one that is none; ``given`` has the options by their names, as texts.
        """
        raise NotImplementedError

    def first_words(self, incomplete: str) -> Iterable[CompletionItem]:
        """Yield shell completions of the first word, besides the commands."""
        raise NotImplementedError

    def other_words(self) -> Iterable[str]:
        """Return what a wrong first word may be a slip of, besides the commands."""
        raise NotImplementedError

    def advice(self, word: str) -> str | None:  # noqa: ARG002 - for who overrides it
        """Return what to do with a word that is no command, and which no other word is like."""
        return None

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's method
        """Return the names of all commands."""
        return sorted(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command. It takes `-q` and `--color`, and shows its help if required arguments
        are missing.
        """
        if cmd_name in self.summaries and cmd_name not in self.commands:
            module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
            found = (one for one in vars(module).values() if isinstance(one, click.Command))
            command = next(one for one in found if one.name == cmd_name)
            _add_shared_options(command)
            command.no_args_is_help |= any(
                isinstance(param, click.Argument) and param.required for param in command.params
            )
            keep_examples(command)
            self.add_command(command)
        return super().get_command(ctx, cmd_name)

    def every_command(self) -> dict[str, click.Command]:
        """Return all commands by their names."""
        found = ((name, self.get_command(click.Context(self), name)) for name in self.summaries)
        return {name: command for name, command in found if command is not None}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        listed = [click.Command(name, help=text) for name, text in self.summaries.items() if text]
        click.Group(commands=listed).format_commands(ctx, formatter)

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
            try:
                return super().resolve_command(ctx, args)
            except click.exceptions.NoSuchCommand:
                raise self._unknown_word(ctx, args[0]) from None
        return meant.name, meant, args[1:]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the shell completions of a word."""
        from click.shell_completion import CompletionItem

        first = [] if incomplete.startswith("-") else self.first_words(incomplete)
        commands = (
            CompletionItem(name, help=click.Command(name, help=text).get_short_help_str())
            for name, text in sorted(self.summaries.items())
            if text and name.startswith(incomplete)
        )
        return [*first, *commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def _unknown_word(self, ctx: click.Context, word: str) -> UsageProblem:
        listed = [name for name, text in self.summaries.items() if text]
        program, module = self.sibling
        if word in importlib.import_module(module).SUMMARIES:
            return UsageProblem(
                f"{ctx.command_path} has no command {word!r}.", hint=f"{program} {word} has it"
            )
        near = self.advice(word) or nearest(word, [*listed, *self.other_words()])
        commands = f"{ctx.command_path} --help lists the commands"
        return UsageProblem(
            f"{self.unknown} {word!r}.", hint=" ".join(filter(None, [near, commands]))
        )

    def _meant(self, ctx: click.Context, args: Sequence[str]) -> click.Command | None:
        every = click.Command(None, params=every_option((self, *self.option_sources())))
        parser = every.make_parser(ctx)
        try:
            _, words, _ = parser.parse_args(list(args))
        except click.UsageError:  # reported where the arguments are parsed
            return None
        if not words or words[0] in self.summaries:
            return None
        parser.allow_interspersed_args = True
        try:
            given, _, _ = parser.parse_args(list(args))
        except click.UsageError:  # the same
            given = {}
        meant = self.direct(words, given)
        if meant is not None:
            _add_shared_options(meant)
        return meant


def _add_shared_options(command: click.Command) -> None:
    """Add `-q` and `--color` to a command and those below it, unless they have their own."""
    known = {name for param in command.params for name in param.opts}
    command.params += [
        o for o in (quiet_option(), color_option()) if not known.intersection(o.opts)
    ]
    if isinstance(command, click.Group):
        for one in command.commands.values():
            _add_shared_options(one)


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
