"""`mem_profiler driver-stats`: bytes in use by line of source, of every block of a process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from mem_cli.commands import PATH
from mem_cli.console import note, say, waiting, warn
from mem_cli.options import json_option, output_option
from mem_cli.output import check_output
from mem_cli.profiler.options import Bytes
from mem_cli.profiler.target import SAMPLED, Target, given, pid_of, target_options
from mem_cli.rerun_hint import next_command, next_lines
from mem_parser.errors import UsageProblem
from mem_parser.escape import shell_path
from mem_parser.records.linereport import LineReport
from mem_parser.reports.grid import Block, Column, Grid
from mem_parser.sizes import short_size
from mem_parser.units import counted
from mem_profiler.driver_stats.logs import MS_MAX
from mem_profiler.driver_stats.record_type import MemRecordType
from mem_profiler.events import FILES

if TYPE_CHECKING:
    from mem_parser.records.linelog import LineLog

_MODES = {
    (False, False): MemRecordType.MEM_RECORD,
    (False, True): MemRecordType.MEM_FAST,
    (True, False): MemRecordType.LOG_RECORD,
    (True, True): MemRecordType.LOG_FAST,
}
"""By --log and --fast."""
RESERVE_MAX_BYTES = 1 << 36


@click.group("driver-stats", no_args_is_help=True)
def driver_stats() -> None:
    """Show the bytes in use by line of source, of every block."""


@click.command(no_args_is_help=True)
@target_options
@click.option("--fast", is_flag=True, help="Reserve the tables up front.")
@click.option(
    "--reserve",
    "reserve_bytes",
    type=Bytes(1, RESERVE_MAX_BYTES, "1 and 64G"),
    help="How much --fast reserves; by default a quarter of the heap, 24M at least.",
)
@click.option("--log", "logs", is_flag=True, help="Write all allocations and frees to files, too.")
@click.option("--folder", type=PATH, help="With --log: where the files go; by default here.")
@click.option(
    "--files", type=click.IntRange(1, 100_000), metavar="N",
    help=f"With --log: files that stay, the latest ones; {FILES}.",
)  # fmt: skip
def on(
    target: Target | None,
    pid: Target | None,
    *,
    fast: bool,
    reserve_bytes: int | None,
    logs: bool,
    folder: str | None,
    files: int | None,
) -> None:
    """Begin to record every block of a process.

    It loads the sampler if need be.
    """
    from mem_profiler.driver_stats import other_process
    from mem_profiler.driver_stats.record import Wanted

    if reserve_bytes is not None and not fast:
        raise UsageProblem("--reserve is for --fast")
    if (folder is not None or files is not None) and not logs:
        raise UsageProblem("--folder and --files are for --log")
    number = pid_of(given(target, pid))
    place = os.path.abspath(folder or ".")
    wanted = Wanted(_MODES[logs, fast], reserve_bytes, place, files or FILES)
    with waiting(f"beginning the record of pid {number}"):
        attached = other_process.enable(number, wanted)
        room = other_process.room_bytes(number)
    what = "reserved up front" if fast else "so far"
    say(f"pid {number}: {wanted.mode.name}, every block; tables of {short_size(room)} {what}")
    profiler = next_command("mem_profiler")
    steps = [f"driver-stats report {number}", f"driver-stats off {number}"]
    steps += [f"driver-stats sizes {shell_path(folder or '.')}"] if logs else []
    steps += [f"detach {number}"] if attached else []
    for line in next_lines([[profiler, step] for step in steps]):
        note(line)


@click.command(no_args_is_help=True)
@target_options
def off(target: Target | None, pid: Target | None) -> None:
    """End the record of a process and drop what it has; its log stays."""
    from mem_profiler.driver_stats import other_process

    number = pid_of(given(target, pid), SAMPLED)
    other_process.close(number)
    say(f"pid {number}: CLOSED")


@click.command(no_args_is_help=True)
@target_options
@output_option
@json_option
def report(target: Target | None, pid: Target | None, *, output: str | None, as_json: bool) -> None:
    """Show what is in use, by line of source, the largest first.

    Lines whose blocks are all freed have 0 bytes.
    """
    from mem_cli.profiler.driver_stats import line_blocks
    from mem_cli.terminal import show, write_json
    from mem_profiler.driver_stats import other_process

    check_output(output)
    number = pid_of(given(target, pid), SAMPLED)
    with waiting(f"reading the record of pid {number}"):
        found = other_process.report(number)
    if as_json:
        write_json({"pid": number} | found.as_dict() | {"missing": found.missing}, output)
    else:
        show(line_blocks(found), output)
    if found.problem:
        warn(found.problem)


_FOLDER = click.argument("folder", type=PATH, default=".")
_WORKERS = click.option(
    "-j", "--workers", type=click.IntRange(min=1), metavar="N",
    help="Processes that read; by default one for each file.",
)  # fmt: skip


@contextmanager
def _parsed(folder: str, workers: int | None) -> Iterator[tuple[LineLog, list[str]]]:
    """The newest log of a folder, and its files. Raises MemError."""
    from mem_parser.records.linelog import LineLog
    from mem_parser.records.logfolder import newest_log

    with LineLog([file.path for file in newest_log(folder)]) as log:
        with waiting(f"reading the log in {folder}"):
            read = list(log.parse(workers))
        for text in log.warnings:
            warn(text)
        yield log, read


@click.command()
@_FOLDER
@_WORKERS
@output_option
@json_option
def log(folder: str, workers: int | None, *, output: str | None, as_json: bool) -> None:
    """Say what the newest log in a folder has."""
    from mem_cli.terminal import show, write_json
    from mem_profiler.driver_stats.logs import complete_line

    check_output(output)
    with _parsed(folder, workers) as (found, names):
        if as_json:
            facts = {"duration_ms": found.duration_ms, "started": found.started_s}
            write_json({"files": names} | facts, output)
            return
        lines = [f"Parse {os.path.basename(name)} complete" for name in names]
        show([*lines, complete_line(found.duration_ms, found.started_s)], output)


@click.command()
@_FOLDER
@_WORKERS
@output_option
@json_option
def sizes(folder: str, workers: int | None, *, output: str | None, as_json: bool) -> None:
    """Show the peak of each 100 ms of the newest log."""
    from mem_cli.profiler.driver_stats import size_blocks
    from mem_cli.terminal import show, write_json

    check_output(output)
    with _parsed(folder, workers) as (found, _):
        rows = found.sizes()
    if as_json:
        write_json({"sizes": rows}, output)
    else:
        show(size_blocks(rows), output)


@click.command()
@click.argument("time_ms", type=click.FloatRange(0, MS_MAX), metavar="MS")
@_FOLDER
@_WORKERS
@output_option
@json_option
def at(
    time_ms: float, folder: str, workers: int | None, *, output: str | None, as_json: bool
) -> None:
    """Show the peak around a time, by line of source.

    It is that of the 100 ms in which the time is.
    """
    from mem_cli.profiler.driver_stats import line_blocks
    from mem_cli.terminal import show, write_json

    check_output(output)
    with _parsed(folder, workers) as (parsed, _):
        found = parsed.report(time_ms)
    if as_json:
        write_json({"ms": time_ms} | found.as_dict() | {"sure": found.sure}, output)
    else:
        show(line_blocks(found), output)
    if found.problem:
        warn(found.problem)


for one in (on, off, report, log, sizes, at):
    driver_stats.add_command(one)


_COLUMNS = (Column("file", right=False, flexible=True), Column("line"), Column("size"))


def line_blocks(report: LineReport) -> Iterator[Block]:
    """Yield the total, and the table."""
    total = report.total_bytes
    yield f"{total} bytes ({short_size(total)}) in use, of {counted(len(report.lines), 'line')}"
    if report.lines:
        rows = [(one.file, str(one.line or "-"), str(one.size_bytes)) for one in report.lines]
        yield Grid(_COLUMNS, list(rows))


def size_blocks(sizes: Sequence[Sequence[int]]) -> Iterator[Block]:
    """Yield the highest size, and the table of all."""
    if not sizes:
        yield "the log knows no moment"
        return
    time_ms, most = max(sizes, key=lambda row: row[1])
    yield f"at most {most} bytes ({short_size(most)}) in use, in the 100 ms from {time_ms} ms on"
    yield Grid((Column("ms"), Column("size")), [(str(ms), str(size)) for ms, size in sizes])
