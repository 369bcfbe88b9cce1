"""`mem_parser transform`: records for other programs, in memray's forms."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from mem_cli.commands import OUTPUT, PATH
from mem_cli.output import changed_by, check_output, write_parts
from mem_cli.parser.convert import convert
from mem_cli.parser.rights import also_changes
from mem_parser.errors import InputFileError, UsageProblem

_SUFFIXES = {"gprof2dot": ".json", "csv": ".csv", "speedscope": ".speedscope.json"}


def _default_output(values: Mapping[str, Any]) -> Iterable[str]:
    return changed_by(_beside(values["file"], _SUFFIXES[values["format_name"]]))


@click.command("transform")
@click.argument("format_name", metavar="FORMAT", type=click.Choice(list(_SUFFIXES)))
@click.argument("file", type=PATH, metavar="FILE")
@click.option("-o", "--output", type=OUTPUT, metavar="OUT", help="Write here; `-`: stdout.")
@click.option("-f", "--force", is_flag=True, hidden=True, help="Replace OUT.")
@click.option("--leaks", is_flag=True, help="Blocks not freed at the end; without it, the peak.")
@click.pass_context
@also_changes(_default_output)
def transform(
    ctx: click.Context, format_name: str, file: str, *, output: str | None, force: bool, leaks: bool
) -> None:
    r"""Write what was in use at the peak for another program: gprof2dot, csv, speedscope.

    \b
    mem_parser transform gprof2dot out.bin       # memray-transform-out.json
    gprof2dot -f json memray-transform-out.json | dot -Tsvg -o out.svg

    -f replaces OUT.
    """
    target = output or _beside(file, _SUFFIXES[format_name])
    if target != "-" and os.path.lexists(target) and not force:
        raise UsageProblem(f"{target}: the file exists already", hint="-f replaces it")
    check_output(target)
    if format_name == "speedscope":
        ctx.invoke(convert, file=file, output=target, to=format_name, binary=None)
        return
    from mem_parser.records.reader import FileReader, NotInFile
    from mem_parser.records.transforms import csv_text, gprof2dot

    try:
        with FileReader(file) as reader:
            records = (
                reader.get_leaked_allocation_records()
                if leaks
                else reader.get_high_watermark_allocation_records()
            )
            text = (gprof2dot if format_name == "gprof2dot" else csv_text)(records)
    except NotInFile:
        raise InputFileError(
            f"{file} holds no peak: it was written without one",
            hint="--leaks: blocks not freed at the end",
        ) from None
    except OSError as error:
        raise InputFileError(str(error)) from None
    write_parts((text.encode(),), target)


def _beside(file: str, suffix: str) -> str:
    """Return the name that memray gives: `memray-transform-out.json` beside `out.bin`."""
    folder, name = os.path.split(file)
    stem = os.path.splitext(name)[0].removeprefix("memray-")
    return os.path.join(folder, f"memray-transform-{stem}{suffix}")
