"""`mem_parser schema`."""

from __future__ import annotations

from collections.abc import Iterable

import click

from mem_cli.console import say
from mem_cli.options import output_option
from mem_parser.errors import UsageProblem, nearest


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Iterable[str]:
    from mem_parser.schemas import OUTPUTS

    return [name for name in OUTPUTS if name.startswith(incomplete)]


@click.command("schema")
@click.argument("words", nargs=-1, metavar="[COMMAND]", shell_complete=_complete)
@output_option
def schema(words: tuple[str, ...], *, output: str | None) -> None:
    r"""Print the JSON Schema (draft 2020-12) of what COMMAND prints with --json.

    Without COMMAND: the names of all, those of mem_profiler's commands too.

    \b
    mem_parser schema top -o top.schema.json
    mem_parser schema driver-stats at
    """
    from mem_cli.terminal import write_json
    from mem_parser import schemas

    name = " ".join(words)
    if not name:
        for one in schemas.OUTPUTS:
            say(one)
    elif name in schemas.OUTPUTS:
        write_json(schemas.schema(name), output)
    else:
        raise UsageProblem(
            f"{name!r} has no JSON output",
            hint=nearest(name, schemas.OUTPUTS) or "mem_parser schema lists those that have",
        )
