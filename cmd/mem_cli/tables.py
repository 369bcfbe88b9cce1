"""Files as tables, for `convert -o x.parquet` and `query`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mem_cli.console import waiting, warn
from mem_cli.logs import refuse_cut_log
from mem_cli.options import Options
from mem_cli.output import announce, not_written
from mem_cli.pipeline import Source, check_is_log, end_written, named, part_of, say_missing
from mem_parser.errors import UsageProblem, reason_of

if TYPE_CHECKING:
    from mem_parser.memlog.run import Run
    from mem_parser.model import Profile
    from mem_parser.tables.frametables import Named
    from mem_parser.tables.source import TableSource


@dataclass(slots=True)
class OpenedTables:
    """The tables of files: all logs of a run are one, each other file is one."""

    tables: list[TableSource] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    profiles: list[Source] = field(default_factory=list)

    def end(self, *, partial: bool) -> None:
        """Say what the files lacked. Raises `InputFileError` for one that was cut."""
        for run in self.runs:
            for warning in run.warnings:
                warn(warning)
        end_written(self.profiles, partial=partial)
        for run in self.runs:
            refuse_cut_log(run, partial=partial)


@contextmanager
def opened_tables(files: Sequence[str], options: Options) -> Iterator[OpenedTables]:
    """Open files as tables; ``options`` choose a part of logs, and say where names come from.

    Raises `MemError`.
    """
    from mem_parser.memlog.part import is_log
    from mem_parser.readers import read_profile
    from mem_parser.tables.source import LogSource, ProfileSource

    def names(file: str, profile: Profile) -> Named:
        return _named(file, profile, options)

    part = part_of(options)
    logs = [file for file in files if is_log(file)]
    if not logs and not part.is_whole:
        check_is_log(files[0])
    with ExitStack() as stack:
        run_of = _opened_runs(logs, stack)
        found = OpenedTables(runs=list(run_of.values()))
        for file in dict.fromkeys(files):
            if file in run_of:
                found.tables.append(LogSource(file, run_of[file], part, names))
            elif file not in logs:
                with waiting(f"reading {file}"):
                    profile = read_profile(file)
                found.profiles.append(Source(file, profile))
                found.tables.append(ProfileSource(file, profile, names))
        yield found


def _opened_runs(logs: Sequence[str], stack: ExitStack) -> dict[str, Run]:
    """Return the run of each log that is the first of its run among those given."""
    from mem_parser.memlog.reader import Memlog, open_memlog
    from mem_parser.memlog.run import Run

    parts: dict[str, list[Memlog]] = {}
    for file in logs:
        with waiting(f"reading {file}"):
            log = stack.enter_context(open_memlog(file))
        parts.setdefault(log.file_facts.run, []).append(log)
    return {files[0].name: Run(files) for files in parts.values()}


def _named(file: str, profile: Profile, options: Options) -> Named:
    """Name all stacks as reports do: blocks are charged to the program's functions."""
    from mem_parser.tables.frametables import Named

    usual: Options = {"library": (), "all_frames": False, "labels": False}
    opened = named([Source(file, profile)], usual | options)
    say_missing([opened])
    return Named(opened.profile, opened.shown.names, opened.symbols)


def check_folder_output(path: str) -> None:
    """Refuse a place where a folder of tables cannot be, before any work. Raises `MemError`."""
    from mem_parser.tables.extras import pyarrow
    from mem_parser.tables.parquet import check_folder

    if path == "-":
        raise UsageProblem("tables are a folder: standard output is none", hint="-o x.parquet")
    pyarrow("pyarrow.parquet")
    try:
        check_folder(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageProblem(f"cannot write {path}: no such folder") from error
    except (OSError, ValueError) as error:
        raise UsageProblem(f"cannot write {path}: {reason_of(error)}") from error


def write_tables(tables: Sequence[TableSource], path: str) -> None:
    """Write tables as a folder of Parquet files, and say so. Raises `MemError`."""
    from mem_parser.tables.parquet import write_folder

    try:
        with waiting(f"writing {path}"):
            size_bytes = write_folder(tables, path)
    except (OSError, ValueError) as error:
        raise not_written(path, error) from error
    announce(path, size_bytes, "a file for each table: mem_parser query --tables lists them")
