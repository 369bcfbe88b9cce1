"""Drop root's rights before `mem_parser` reads anything.

Model: the command line says which files a command changes. Options of outputs have the type
`Output`; what else a command changes, it names by `also_changes`. So once the command line is read,
and before the command begins, this process keeps the right to change that, and to read. An output
that neither names is refused by the kernel (`mem_sandbox.confine`).
"""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import click

from mem_cli.commands import Output
from mem_cli.output import changed_by
from mem_parser import sudo
from mem_sandbox import confine, syscalls

Callback = TypeVar("Callback", bound=Callable[..., Any])
Places = Callable[[Mapping[str, Any]], Iterable[str]]
"""Gets the values of a command's parameters; returns folders and files."""
_also: dict[Callable[..., Any], Places] = {}


def also_changes(places: Places) -> Callable[[Callback], Callback]:
    """Let a command change paths that none of its options names."""

    def note(callback: Callback) -> Callback:
        _also[inspect.unwrap(callback)] = places
        return callback

    return note


def temporary_folder(_values: Mapping[str, Any]) -> Iterable[str]:
    """The folder of temporary files."""
    import tempfile

    return [tempfile.gettempdir()]


def confined(command: click.Command) -> click.Command:
    """Return the command with a step that drops root's rights before it begins."""
    begin = command.callback
    assert begin is not None

    def call(*words: Any, **values: Any) -> Any:
        give_up(click.get_current_context(), _also.get(inspect.unwrap(begin), lambda _: ()))
        return begin(*words, **values)

    command = copy.copy(command)
    command.callback = call
    return command


def give_up(ctx: click.Context, also: Places = lambda _: ()) -> None:
    """Drop rights that the command of ``ctx`` does not need, if this process has root's.

    Raises OSError if it cannot, and anything that ``also`` raises.
    """
    if os.geteuid() == 0 or syscalls.has_capabilities():
        network = bool(ctx.params.get("debuginfod"))
        places = [*_outputs(ctx), *also(ctx.params), *_caches(network=network)]
        confine.enter_command(places, network=network, gives_away=sudo.caller() is not None)


def _outputs(ctx: click.Context) -> Iterator[str]:
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if isinstance(param.type, Output) and value:
            yield from changed_by(value, makes_folders=param.type.makes_folders)


def _caches(*, network: bool) -> Iterable[str]:
    """The cache of symbols, or the folder of fetched files without one."""
    from mem_parser.symbols.cache import SymbolCache, default_folder

    return [*SymbolCache(default_folder()).folders(), *(temporary_folder({}) if network else ())]
