"""The site's reference, made from the program: help of all commands, and tables of queries."""

from __future__ import annotations

import click
import manpages

from mem_parser.tables.schema import TABLES

WIDTH = 100


def commands(name: str) -> str:
    """A page with the help of a command and of all its subcommands."""
    group = manpages.COMMANDS[name]
    context = click.Context(
        group, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH,
        **{k: v for k, v in group.context_settings.items() if k != "max_content_width"},
    )  # fmt: skip
    lines = [f"# {name}", "", *_help(context)]
    for child in manpages.below(context, group):
        lines += [f"## {child.command_path}", "", *_help(child)]
    lines += ["## Exit codes", "", *(f"- {code}: {what}" for code, what in manpages.EXIT_CODES)]
    return "\n".join(lines) + "\n"


def _help(context: click.Context) -> list[str]:
    return ["~~~~text", context.get_help(), "~~~~", ""]


def tables() -> str:
    """A page with the tables and columns that `mem_parser query` and Parquet have."""
    lines = ["# Tables of queries", ""]
    for table in TABLES:
        only = " Logs only." if table.logs_only else ""
        lines += [f"## {table.name}", "", f"A row is {table.about}.{only}", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{f.name}` | {f.kind.sql} | {f.meaning} |" for f in table.fields]
        lines.append("")
    return "\n".join(lines)


PAGES = {
    "mem_profiler.md": lambda: commands("mem_profiler"),
    "mem_parser.md": lambda: commands("mem_parser"),
    "tables.md": tables,
}
