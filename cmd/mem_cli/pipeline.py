"""Load, symbolize, filter and print: the pipeline of every `mem_parser` report.

    read         files of any format
    settled      choose what is counted where the user did not (`mem_cli.options`)
    check_has    refuse a file that lacks the count that is asked for
    named        join domains of one capture and name the addresses
    say_missing  say why names are missing
    view_of      filter
    deliver      write the report as text, JSON, CSV or Markdown, then `refuse_cut`
    refuse_cut   refuse an incomplete file, after what could be read of it was reported

`open_sources`, `open_view` and `open_views` are several of these steps. Commands that
make an SVG, a page or another file write it by `mem_cli.output` and end with `refuse_cut` or
`end_written`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from mem_cli.console import waiting, warn
from mem_cli.options import (
    Options,
    check_form,
    debug_servers,
    filters_from,
    libraries_from,
    python_view,
    settled,
)
from mem_parser.errors import InputFileError, SymbolError
from mem_parser.escape import shell_path

if TYPE_CHECKING:
    from mem_parser.filters import Filters
    from mem_parser.libraries.rules import Libraries
    from mem_parser.memlog.part import Part
    from mem_parser.model import Count, Profile
    from mem_parser.python.splice import Spliced
    from mem_parser.reports.grid import Block, Record
    from mem_parser.reports.view import View
    from mem_parser.symbols.symbolizer import AddressNames
    from mem_parser.symbols.table import Symbols


class Source(NamedTuple):
    """A file as read; ``file`` is its name in messages."""

    file: str
    profile: Profile


@dataclass(frozen=True)
class Opened:
    """Files that are read as one profile, which has names.

    ``names`` are those of the addresses, and ``shown`` is the same with Python's frames, as reports
    show it. ``libraries`` are the rules by which functions of libraries are marked; None: none are.
    With ``like`` they are marked as in that other profile, which this one is compared with. With
    ``labels`` stacks begin with who ran them.
    """

    sources: Sequence[Source]
    profile: Profile
    names: AddressNames
    shown: Spliced
    libraries: Libraries | None = None
    templates: bool = False
    like: Opened | None = None
    labels: bool = False

    @cached_property
    def symbols(self) -> Symbols:
        """The names of all stacks of the profile."""
        from mem_parser.libraries.mark import mark_libraries
        from mem_parser.python.labelframes import with_labels
        from mem_parser.symbols.templates import with_templates

        symbols = self.shown.spell()
        if self.libraries is not None:
            passing = None if self.like is None else self.like.symbols.passing
            symbols = mark_libraries(self.profile, symbols, self.libraries, passing=passing)
        if self.labels:
            symbols = with_labels(self.profile, symbols)
        return with_templates(symbols) if self.templates else symbols


def read(
    files: Iterable[str], options: Options | None = None, *, every_domain: bool = False
) -> list[Source]:
    """Read profiles of any format; all logs of events among them are one, the files of one run.

    ``options`` may choose a part of it, ``every_domain`` makes a source of each of its memories.
    Raises `InputFileError`, and `UsageProblem` for a part that there is not.
    """
    from mem_parser.memlog.part import is_log
    from mem_parser.readers import read_profile

    files = [*files, *((options or {}).get("parts") or ())]
    logs = [file for file in files if is_log(file)]
    part = part_of(options or {}, every_domain=every_domain)
    if not logs and not part.is_whole:
        check_is_log(files[0])
    sources = []
    for file in files:
        with waiting(f"reading {file}"):
            if file not in logs:
                sources.append(Source(file, read_profile(file)))
            elif file == logs[0]:
                from mem_parser.memlog.profiles import read_part

                sources += [Source(file, profile) for profile in read_part(logs, part)]
    return sources


def part_of(options: Options, *, every_domain: bool = False) -> Part:
    """Return the part of a log that options choose."""
    from mem_parser.memlog.part import Part

    return Part(
        options.get("from_text"),
        options.get("to_text"),
        tuple(options.get("domain") or ()),
        every_domain,
        options.get("temporary"),
    )


def check_is_log(file: str) -> None:
    """Refuse files other than event logs. Raises `InputFileError`."""
    from mem_parser.memlog.part import is_log

    if not is_log(file):
        raise InputFileError(
            f"{file}: not a log of events: it has counts for each call stack, and no times",
            hint=log_hint(file),
        )


def log_hint(file: str) -> str:
    """Return where the log of events of a capture's file is, or how to get one. Raises
    `InputFileError` with the reason if the file cannot be read.
    """
    from mem_parser.readers import read_profile
    from mem_parser.records.logrecords import log_beside

    logs = log_beside(file, read_profile(file))
    if logs:
        return f"the log of this capture: {' '.join(map(shell_path, logs))}"
    return "mem_profiler run --events PROGRAM writes a .memlog"


def check_has(sources: Iterable[Source], count: Count) -> None:
    """Refuse files without blocks of ``count``. Raises `InputFileError`."""
    from mem_parser.filters import check_count

    for file, profile in sources:
        check_count(profile, count, file)


def named(
    sources: Sequence[Source],
    options: Options,
    only: Count | None = None,
    *,
    like: Opened | None = None,
) -> Opened:
    """Join ``sources`` and name their addresses as the values of `symbol_options` and
    `frame_options` say; ``like`` is as of `Opened`.

    With ``only`` just the sites that have such blocks are named, which is less work. Raises
    `InputFileError`, and `UsageProblem` for files that are not domains of one capture.
    """
    from mem_parser.domains import join
    from mem_parser.python.splice import Spliced, spliced
    from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS
    from mem_parser.symbols.symbolizer import name_addresses

    libraries = libraries_from(options)
    view = python_view(options)
    profile = join(sources)
    if only is not None:
        profile = profile.used(only)
    with waiting("looking up the names of functions"):
        names = name_addresses(
            profile,
            options["binary"],
            debug_dirs=(*options["debug_dir"], *DEFAULT_DEBUG_DIRS),
            debuginfod=debug_servers(asked=options["debuginfod"]),
        )
        shown = Spliced(names)
        if view is not None:
            shown = spliced(profile, names, view, nn_modules=options["nn_modules"])
    if shown.notes:
        profile = dataclasses.replace(profile, warnings=[*profile.warnings, *shown.notes])
    templates = options.get("templates", False)
    labels = options.get("labels", False)
    return Opened(sources, profile, names, shown, libraries, templates, like, labels)


def say_missing(opened: Iterable[Opened], *, strict: bool = False) -> None:
    """Warn of each reason why names are missing, once. Raises `SymbolError` if ``strict``."""
    problems = dict.fromkeys(problem for one in opened for problem in one.names.problems)
    for problem in problems:
        if strict:
            raise SymbolError(problem.text, hint=problem.hint)
        warn("; ".join(filter(None, (problem.text, problem.hint))))


def open_sources(
    sources: Sequence[Source],
    options: Options,
    count: Count | None = None,
    *,
    whole: bool = False,
    like: Opened | None = None,
) -> Opened:
    """Name files as one profile, and report missing names.

    ``count`` is the count to show, if known; ``whole``: name all sites nevertheless;
    ``like`` is as of `Opened`. Raises `InputFileError` and `UsageProblem`.
    """
    if count is not None:
        check_has(sources, count)
    opened = named(sources, options, None if whole else count, like=like)
    say_missing([opened])
    return opened


def open_view(file: str, options: Options, *, whole: bool = False) -> tuple[Opened, View]:
    """Read, name and filter a profile; ``whole`` as of `open_sources`. Raises `MemError`."""
    [(opened, view)] = open_views([file], options, whole=whole)
    return opened, view


def open_views(
    files: Sequence[str], options: Options, *, whole: bool = False
) -> list[tuple[Opened, View]]:
    """Read, name and filter profiles that are compared with the first: all count the same, and
    functions of libraries are marked as in the first. Raises `MemError`.
    """
    filters_from(options)  # refuses before a large file is read
    check_form(options)
    sources = [
        source
        for k, file in enumerate(files)
        for source in read([file], options if not k else options | {"parts": ()})
    ]
    filters = filters_from(settled(options, [source.profile for source in sources]))
    # Frees between two files determine the error of their changes.
    whole = whole or len(sources) > 1
    opened: list[Opened] = []
    for source in sources:
        first = opened[0] if opened else None
        own = options if first is None else options | {"binary": None}
        opened.append(open_sources([source], own, filters.count, whole=whole, like=first))
    return [(one, view_of(one, filters)) for one in opened]


def view_of(opened: Opened, filters: Filters) -> View:
    """Filter a profile. Raises as `mem_parser.reports.view.make_view` does."""
    from mem_parser.reports.view import make_view

    return make_view(opened.profile, opened.symbols, filters)


def deliver(
    sources: Iterable[Source],
    options: Options,
    text: Iterable[Block],
    *,
    record: Callable[[], Record] | None = None,
    rows: Callable[[], Sequence[Record]] | None = None,
    keys: Sequence[str] = (),
    markdown: Callable[[], Iterable[str]] | None = None,
    fold: bool = True,
) -> None:
    """Write a report in the form that the options ask for, then refuse incomplete ``sources``.

    ``record`` gives the object of `--json`, ``rows`` and ``keys`` are those of `--csv`,
    ``markdown`` the lines of `--markdown`. ``fold``: a terminal shows lines of text within its
    width; else they are printed as they are. Raises `MemError`.
    """
    from mem_cli.output import write_result
    from mem_cli.terminal import show, write_csv, write_json

    output = options["output"]
    if record is not None and options["as_json"]:
        write_json(record(), output)
    elif rows is not None and options["as_csv"]:
        write_csv(rows(), keys, output)
    elif markdown is not None and options["as_markdown"]:
        write_result("".join(f"{line}\n" for line in markdown()), output)
    else:
        show(text, output, fold=fold)
    refuse_cut(sources, partial=options["partial"])


def refuse_cut(
    sources: Iterable[Source], *, partial: bool = False, done: str | None = "reported"
) -> None:
    """Refuse the first file that is incomplete, unless ``partial``. Raises `InputFileError`.

    ``done`` is the outcome of the readable part; None if there is none.
    """
    for file, profile in sources:
        if profile.incomplete and not partial:
            hint = f"what could be read was {done}; --partial accepts it" if done else None
            raise InputFileError(f"{file}: incomplete: {profile.incomplete}", hint=hint)


def end_written(sources: Iterable[Source], *, partial: bool) -> None:
    """Report incomplete files from which another file was made. Raises `InputFileError`."""
    sources = list(sources)
    for _, profile in sources:
        for warning in profile.warnings:
            warn(warning)
    refuse_cut(sources, partial=partial, done="written")
