"""`mem_profiler report-bug`: a text for an issue, shown before it is written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mem_cli.commands import OUTPUT, PATH
from mem_cli.console import note, waiting
from mem_cli.output import check_output, write_lines
from mem_cli.profiler.target import PROCESS, Target, pid_of

if TYPE_CHECKING:
    from mem_profiler.doctor.bugreport import Hiding, Rows

_FILE = "mem_profiler-bug.txt"
_READ_S = 60.0


@click.command("report-bug")
@click.argument("file", type=PATH, required=False, metavar="[FILE]")
@click.option("-p", "--pid", type=PROCESS, help="Examine this process, too.")
@click.option("--ran", metavar="TEXT", help="The command that failed.")
@click.option("--said", metavar="TEXT", help="The last line of its error.")
@click.option("--with-names", is_flag=True, help="Keep names of programs, modules and functions.")
@click.option(
    "-o", "--output", type=OUTPUT, metavar="OUT", default=_FILE, show_default=True,
    help="Write here; `-`: stdout.",
)  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Write without a question.")
def report_bug(
    file: str | None,
    *,
    pid: Target | None,
    ran: str | None,
    said: str | None,
    with_names: bool,
    output: str,
    yes: bool,
) -> None:
    r"""Collect what an issue needs: versions, limits, counters, and the header of FILE.

    The report is shown first, and written only after a yes. It has no path, argument, value of the
    environment, or name of a program, function, host or user.

    \b
    mem_profiler report-bug x.heap --ran 'mem_profiler -c 1K -p 4711' --said 'error: ...'
    """
    from mem_profiler.doctor import bugreport

    check_output(output)
    hiding = bugreport.Hiding(with_names, [Path(__file__).parents[1]])
    number = None if pid is None else pid_of(pid)
    sections: list[tuple[str, Rows]] = [("machine", bugreport.machine())]
    told = [("ran", hiding.command(ran))] if ran else []
    told += [("said", hiding.text(said))] if said else []
    if told:
        sections.append(("problem", told))
    if number is not None:
        with waiting(f"examining pid {number}"):
            sections.append(("process", bugreport.process(number, hiding)))
        sections.append(("sampler", bugreport.sampler(number)))
    if file is not None:
        sections.append(("file", _of_file(file, hiding)))
    lines = bugreport.render(sections, number)
    write_lines(lines, None)
    if output == "-":
        return
    if not yes and not _may_ask():
        note("nothing was written: -y writes it without a question", err=True)
    elif yes or click.confirm(f"Write this to {output}?", err=True):
        write_lines(lines, output)


def _may_ask() -> bool:
    return sys.stdin.isatty()


def _of_file(path: str, hiding: Hiding) -> Rows:
    """Return the facts of a profile, which a child without rights reads. Raises `MemError`."""
    from mem_parser.errors import MemError
    from mem_profiler.doctor import bugreport
    from mem_sandbox import child, confine

    def read(_asked: child.Asked) -> Rows:
        from mem_parser.readers import read_profile

        return bugreport.profile(read_profile(path), hiding)

    try:
        rows = child.call(read, path, _READ_S, enter=confine.enter_reader)
    except MemError as error:
        if not os.path.exists(path):
            raise
        return [("unreadable", hiding.text(str(error)))]
    return [(str(name), str(value)) for name, value in rows]
