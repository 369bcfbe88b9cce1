"""Base classes of the commands of both programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from mem_cli.colour import color_option
from mem_parser.errors import UsageProblem


class _Path(click.ParamType[str]):
    """The name of a file or folder; what it leads to is looked at when it is used."""

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
        return [CompletionItem(incomplete, type="file")]


class Output(_Path):
    """The name of what a command writes. ``makes_folders``: missing folders above it, too."""

    def __init__(self, *, makes_folders: bool = False) -> None:
        self.makes_folders = makes_folders


PATH = _Path()
OUTPUT = Output()


def add_commands(group: click.Group, commands: Iterable[click.Command]) -> None:
    """Add commands to a group. Each takes `--color`, and one that needs arguments shows its help
    where it is called without any.
    """
    group.params.append(color_option())
    for command in commands:
        command.params.append(color_option())
        command.no_args_is_help |= any(
            isinstance(param, click.Argument) and param.required for param in command.params
        )
        group.add_command(command)


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
