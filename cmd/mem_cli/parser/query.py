"""`mem_parser query`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import PATH
from mem_cli.console import waiting
from mem_cli.options import (
    check_form,
    csv_option,
    frame_options,
    json_option,
    output_option,
    partial_option,
    symbol_options,
    time_options,
)
from mem_cli.parser.rights import also_changes, temporary_folder
from mem_parser.errors import UsageProblem

if TYPE_CHECKING:
    from mem_parser.reports.grid import Block
    from mem_parser.tables.sql import Answer

_ROWS = 40
_LEAST_MEMORY = 64 << 20


class _Size(click.ParamType[int]):
    """A size, `2G`, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes; fails as click's types do."""
        from mem_parser.sizes import parse_whole

        try:
            size = parse_whole(str(value))
        except ValueError:
            size = 0
        if size < _LEAST_MEMORY:
            self.fail(f"{value!r} is no size from 64M on, such as 2G", param, ctx)
        return size


@click.command("query", no_args_is_help=True)
@click.argument("sql", metavar="SQL", required=False)
@click.argument("files", type=PATH, metavar="FILE...", nargs=-1)
@click.option("--tables", is_flag=True, help="List tables and columns, and what each means.")
@click.option("-n", "--rows", type=click.IntRange(min=0), help="Rows (40); 0: all.")
@click.option("--memory", type=_Size(), default="1G", help="What the query may take (1G).")
@time_options
@symbol_options
@frame_options
@partial_option
@output_option
@json_option
@csv_option
@also_changes(temporary_folder)
def query(
    sql: str | None, files: tuple[str, ...], *, tables: bool, rows: int | None, memory: int,
    **options: Any,
) -> None:  # fmt: skip
    r"""Ask .memlog and .heap files in SQL (DuckDB's): pip install 'mem-profiler[query]'.

    Each file has the tables events, blocks, sites, stacks, frames, readings, marks, holes and
    captures; files of one log are one. A query is one SELECT, and reads nothing else.

    \b
    mem_parser query --tables
    mem_parser query "SELECT kind, count(*) FROM events GROUP BY kind" app.*.memlog
    """
    from mem_parser.tables.sql import ask

    check_form(options)
    if tables:
        _list_tables(options)
        return
    if not sql or not files:
        raise UsageProblem(
            "a query needs its text and a file",
            hint='mem_parser query "SELECT count(*) FROM events" app.1-0.memlog; --tables lists'
            " tables and columns",
        )
    from mem_cli.tables import opened_tables

    every = options["as_json"] or options["as_csv"]
    most = (None if every else _ROWS) if rows is None else (rows or None)
    with opened_tables(files, options) as found:
        with waiting("asking"):
            answer = ask(
                sql,
                found.tables,
                most_rows=most,
                memory_bytes=memory,
                threads=len(os.sched_getaffinity(0)),
            )
        _show(answer, options)
        found.end(partial=options["partial"])


def _show(answer: Answer, options: dict[str, Any]) -> None:
    from mem_cli.terminal import columns, show, write_csv, write_json
    from mem_parser.reports import answer as report

    if options["as_json"]:
        write_json(report.record(answer), options["output"])
    elif options["as_csv"]:
        write_csv(report.records(answer), report.keys(answer), options["output"])
    else:
        show(report.blocks(answer, columns(options["output"])), options["output"])


def _list_tables(options: dict[str, Any]) -> None:
    from mem_cli.terminal import show, write_csv, write_json
    from mem_parser.tables import schema

    keys = ("table", "column", "type", "meaning")
    records = [dict(zip(keys, row, strict=True)) for row in schema.rows()]
    if options["as_json"]:
        write_json({"rows": records}, options["output"])
    elif options["as_csv"]:
        write_csv(records, keys, options["output"])
    else:
        show(_listed(), options["output"])


def _listed() -> list[Block]:
    from mem_parser.reports.grid import Column, Grid
    from mem_parser.tables.schema import TABLES

    heads = (
        Column("column", right=False), Column("type", right=False),
        Column("meaning", right=False, flexible=True),
    )  # fmt: skip
    return [
        Grid(heads, [(f.name, f.kind.sql, f.meaning) for f in t.fields], f"{t.name}: {t.about}")
        for t in TABLES
    ]
