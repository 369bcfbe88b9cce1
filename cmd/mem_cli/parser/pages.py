"""Write a report page as one HTML file: shared by `flamegraph` and `report`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from mem_cli.commands import OUTPUT, PATH, together
from mem_cli.options import (
    file_options,
    filter_options,
    filters_from,
    settled,
    source_options,
    sources_from,
)
from mem_cli.output import changed_by, check_output, write_result
from mem_cli.parser.rights import also_changes
from mem_cli.pipeline import Opened, Source, open_sources, part_of, read, refuse_cut

if TYPE_CHECKING:
    from mem_parser.filters import Filters
    from mem_parser.model import BoolArray, Profile
    from mem_parser.reports.sourcefiles import Sources
    from mem_parser.symbols.table import Symbols
    from mem_parser.web.facts import Opening
    from mem_parser.web.times import LogTimes


def _default_output(values: Mapping[str, Any]) -> Iterable[str]:
    kind = click.get_current_context().info_name or ""
    return () if values["output"] else changed_by(_page_name(values["file"], kind))


page_options = together(
    file_options,
    filter_options,
    click.option(
        "-o",
        "--output",
        type=OUTPUT,
        metavar="FILE",
        help="Write here, `-` is standard output (default: beside FILE).",
    ),
    click.option(
        "--base", type=PATH, metavar="FILE", help="Show the difference to this older profile."
    ),
    click.option(
        "--confidential",
        is_flag=True,
        help="Leave out paths, source files, host and command line.",
    ),
    *source_options,
    click.option("--no-source", is_flag=True, help="Leave out the text of source lines."),
    also_changes(_default_output),
)
"""The profile, the filters, and where the page goes."""


@dataclass(slots=True)
class Given:
    """What a page is made of, filtered, and where it goes."""

    sources: Sequence[Source]
    profile: Profile
    symbols: Symbols
    binary: str | None
    base: tuple[Profile, Symbols] | None
    domains: Profile | None
    filters: Filters
    start: Opening
    output: str
    confidential: bool
    texts: Sources | None
    """Where the text of source lines is looked for; None: it stays out."""
    log: LogTimes | None = None
    """The log of which the page is; None: it is of no log, or is compared with a base."""

    @property
    def named(self) -> tuple[Profile, Symbols]:
        """The profile with the names that the page opens with."""
        return self.profile, self._named(self.symbols)

    @property
    def named_base(self) -> tuple[Profile, Symbols] | None:
        """The same of the base."""
        return None if self.base is None else (self.base[0], self._named(self.base[1]))

    def _named(self, symbols: Symbols) -> Symbols:
        from mem_parser.web.flamegraph import shown_names

        return shown_names(symbols, self.start)

    def drawn(self, render: Callable[..., str], **more: object) -> str:
        """Return the page that ``render`` makes of it, with ``more`` of its arguments."""
        return render(
            self.profile,
            self.symbols,
            name=os.path.basename(self.sources[0].file),
            base=self.base,
            start=self.start,
            domains=self.domains,
            sources=self.texts,
            confidential=self.confidential,
            log=self.log,
            **more,
        )


def open_page(file: str, kind: str, options: dict[str, Any]) -> Given:
    """Read, name and filter what the page is made of. Raises `MemError`."""
    from mem_parser.domains import as_part
    from mem_parser.names import FrameRule
    from mem_parser.web.facts import Opening

    filters_from(options)  # refuses before a large file is read
    output = options["output"] or _page_name(file, kind)
    check_output(output)
    sources = read((file, *options["with_files"]), options)
    older = read([options["base"]], options | {"parts": ()}) if options["base"] else []
    every = [source.profile for source in (*sources, *older)]
    filters = filters_from(settled(options, every))
    # The page hides allocator frames itself, so that its reader can have them back.
    keep_frames = dataclasses.replace(filters, rule=FrameRule.NONE)
    # The page has both names of a function, and so does its reader.
    templates, options = options["templates"], options | {"templates": False}
    # So have its stacks, unless a pattern could match labels that nobody asked for.
    labels = options["labels"]
    patterns = filters.focus or filters.ignore or filters.hide
    options = options | {"labels": labels or not patterns}
    opened = open_sources(sources, options, filters.count, whole=True)
    profile, symbols = filters.with_allocators(opened.profile, opened.symbols)
    domains = None
    if profile.parts and len(profile.domains) > 1:
        domains = profile
        profile = as_part(profile.where(profile.sites.domain == 0), profile.domains[0])
    base = None
    if older:
        others = options | {"binary": None}
        before = open_sources(older, others, filters.count, whole=True, like=opened)
        base = filters.with_allocators(before.profile, before.symbols)
    hide = filters.rule is not FrameRule.NONE
    start = Opening(
        filters.count,
        filters.unit,
        hide,
        apart=domains is not None,
        templates=templates,
        inverted=options.get("invert", False),
        labels=labels,
        start_frames=filters.start_frames,
    )
    return Given(
        sources=opened.sources,
        profile=profile,
        symbols=symbols,
        binary=options["binary"],
        base=base,
        domains=domains,
        filters=filters,
        start=start,
        output=output,
        confidential=options["confidential"],
        texts=_texts(options, sources),
        log=None if older else _log((file, *options["with_files"]), opened, keep_frames, options),
    )


def _log(
    files: Sequence[str], opened: Opened, filters: Filters, options: dict[str, Any]
) -> LogTimes | None:
    """Open the log that files are of, for as long as the command runs; None where they are of none,
    or only temporary blocks are shown.
    """
    from mem_parser.memlog.part import is_log
    from mem_parser.memlog.profiles import domains_of
    from mem_parser.memlog.run import read_log
    from mem_parser.web.times import LogTimes

    part = part_of(options)
    files = [*files, *(options.get("parts") or ())]
    if part.temporary is not None or not all(is_log(file) for file in files):
        return None
    run = click.get_current_context().with_resource(read_log(files))
    first, last = part.times_ns(run)
    return LogTimes(run, first, last, domains_of(run, part), _kept_stacks(opened, filters))


def _kept_stacks(opened: Opened, filters: Filters) -> BoolArray:
    """Return which stacks the filters leave, also those without blocks."""
    import numpy as np

    from mem_parser.model import Count, SiteTable

    count = len(opened.profile.stacks)
    none = np.zeros(count, dtype=np.int64)
    parts = max(len(opened.profile.domains), 1)
    domain = np.arange(count) // max(count // parts, 1)
    sites = SiteTable(np.arange(count), domain.astype(np.int32), none, none, none, none)
    every = dataclasses.replace(opened.profile, sites=sites)
    # Which stacks match does not depend on what is counted, and no site here has a peak.
    any_count = dataclasses.replace(filters, min_samples=0, count=Count.INUSE)
    left, _ = any_count.apply(every, opened.symbols)
    kept = np.zeros(count, dtype=np.bool_)
    kept[left.sites.stack] = True
    if filters.min_samples > 1:
        shown, _ = filters.apply(opened.profile, opened.symbols)
        kept &= np.isin(np.arange(count), shown.sites.stack)
    return kept


def _texts(options: dict[str, Any], sources: Sequence[Source]) -> Sources | None:
    if options["no_source"] or options["confidential"]:
        return None
    return sources_from(options, [source.profile for source in sources])


def _page_name(file: str, kind: str) -> str:
    """Return the page's name beside the profile: `x.heap` becomes `x.flamegraph.html`."""
    stem = file.removesuffix(".gz").removesuffix(".heap")
    return f"{stem}.{kind}.html"


def finish_page(page: str, given: Given, *, partial: bool) -> None:
    """Write the page, and refuse a cut file. Raises `MemError`."""
    write_result(page, given.output, advice="open it in a browser")
    refuse_cut(given.sources, partial=partial)
