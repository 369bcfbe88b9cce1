"""What the commands of both programs are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mem_parser.errors import UsageProblem

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])


class _Path(click.ParamType[str]):
    """The name of a file or folder; the file is checked when it is used."""

    name = "path"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:  # noqa: ARG002
        """The name as it is."""
        return str(value)

    def shell_complete(
        self,
        ctx: Any,  # noqa: ARG002
        param: Any,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Let the shell complete it as a file."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class Output(_Path):
    """The name of a command's output. ``makes_folders``: creates missing parent folders."""

    def __init__(self, *, makes_folders: bool = False) -> None:
        self.makes_folders = makes_folders


PATH = _Path()
OUTPUT = Output()


def together(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return what adds these options to a command, for its help in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def keep_examples(command: click.Command) -> None:
    """Tell click which paragraphs of help texts to leave as they are: the docstrings are raw, so
    they hold its mark for that as two characters.
    """
    command.help = command.help and command.help.replace("\\b\n", "\b\n")
    if isinstance(command, click.Group):
        for one in command.commands.values():
            keep_examples(one)


def refuse_group_options(ctx: click.Context) -> None:
    """Refuse options of a group that were given before the name of a command, which would not see
    them. Raises `UsageProblem`.
    """
    for param in ctx.command.params:
        given = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if given and param.expose_value:
            raise UsageProblem(
                f"{param.opts[0]} was given before the command {ctx.invoked_subcommand}",
                hint=f"{ctx.command_path} {ctx.invoked_subcommand} --help",
            )
