"""Filters of reports, applied to the model once, before any report.

    --focus RE        only stacks on which a function, file or module matches
    --ignore RE       no stack on which one matches
    --hide RE         no matching frames in the stacks; the blocks stay
    --thread NAME     only blocks in use that this thread (tid or name) allocated
    --domain NAME     only blocks of this memory domain
    --min-samples N   no stack with fewer samples

Filters keep or drop a stack whole, so every remaining number is still an unbiased estimate. Regular
expressions are Python's and match anywhere in the text. A library's frames choose stacks even where
their blocks are charged to a caller, which is said; what starts a program or thread, and is on
every stack, only if it is asked for. So all reports, in any form, and the boxes of pages choose the
same stacks.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.folds import Folds
from mem_parser.model import BoolArray, Count, IntArray, Profile, ThreadBlocks, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import without_frames
from mem_parser.startframes import fold_starts
from mem_parser.symbols.table import Function, Location, Symbols
from mem_parser.units import format_value, percent
from mem_parser.words import phrase

HIDDEN = "[hidden]"
"""What a stack consists of when all its frames are hidden."""

_ACCUMULATE = "jemalloc keeps them with MALLOC_CONF=prof_accum:true"
Matches = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Filters:
    """One choice of what to show; the default is everything in use, in bytes."""

    count: Count = Count.INUSE
    unit: Unit = Unit.SPACE
    focus: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    min_samples: int = 0
    rule: FrameRule = FrameRule.PROGRAM
    start_frames: bool = False
    """Keep all frames that start a program or thread, in place of one."""
    starts_choose: bool = False
    """Those frames choose stacks, too: the user asked for them, not for a form that has them."""
    addresses: bool = False
    """Keep all functions without a name, in place of one for each file."""
    at_length: bool = False
    """Notes of reports say everything."""

    def __post_init__(self) -> None:
        """Check all that needs no profile. Raises `UsageProblem`."""
        for option in ("focus", "ignore", "hide"):
            for pattern in getattr(self, option):
                compile_pattern(pattern, f"--{option}")
        if self.threads and self.count is not Count.INUSE:
            raise UsageProblem(
                f"--thread and --{self.count} exclude each other",
                hint="only blocks in use are known by thread",
            )

    @property
    def words(self) -> list[str]:
        """The narrowing filters, as the user gave them."""
        found = [
            f"--{option} {value}"
            for option, values in (
                ("focus", self.focus),
                ("ignore", self.ignore),
                ("hide", self.hide),
                ("thread", self.threads),
                ("domain", self.domains),
            )
            for value in values
        ]
        return [*found, *([f"--min-samples {self.min_samples}"] if self.min_samples else [])]

    @property
    def narrows(self) -> bool:
        """Whether some filter leaves out part of a domain."""
        return self.words != [f"--domain {name}" for name in self.domains]

    def apply(self, profile: Profile, symbols: Symbols) -> tuple[Profile, Symbols]:
        """Return the rest of ``profile``, and its stacks without hidden and allocator frames.

        Stacks keep their numbers. Where a filter removed something, the profile's warnings say how
        much is left. Raises `InputFileError` if the file lacks the count, `UsageProblem` for a
        thread or domain that it does not know.
        """
        check_count(profile, self.count)
        profile = self._of_domains(profile)
        whole = profile.total(self.count, self.unit)
        left = self._of_threads(profile)
        left = left.where(self.stacks(left, symbols)[left.sites.stack])
        named = without_frames(self.without_hidden(symbols), self.rule, folds=self.folds)
        if self.narrows:
            total = left.total(self.count, self.unit)
            note = phrase(
                "only {filters}: {part} of {whole} ({share})",
                filters=" ".join(self.words),
                part=format_value(total.value, self.unit),
                whole=format_value(whole.value, self.unit),
                share=percent(total.value, whole.value),
            )
            notes = [note, *self._unshown(left, named)]
            left = dataclasses.replace(left, warnings=[*left.warnings, *notes])
        return left, named

    def _unshown(self, left: Profile, named: Symbols) -> Iterator[str]:
        """Yield which patterns chose stacks by frames that these do not show."""
        if self.rule is not FrameRule.PROGRAM or self.hide:
            return
        for pattern in self.focus:
            seen = stacks_with(named, matching_locations(named, pattern, "--focus"))
            if not seen[left.sites.stack].all():
                yield phrase(
                    "{filter} matches frames that are charged to their callers, too; --all-frames"
                    " shows them",
                    filter=f"--focus {pattern}",
                )

    def with_allocators(self, profile: Profile, symbols: Symbols) -> tuple[Profile, Symbols]:
        """Apply, but keep all frames: pages leave some of them out themselves."""
        return dataclasses.replace(self, rule=FrameRule.NONE).apply(profile, symbols)

    @property
    def folds(self) -> Folds:
        """The frames for which one stands."""
        if self.rule is not FrameRule.PROGRAM:
            return Folds.NONE
        starts = Folds.NONE if self.start_frames else Folds.STARTS
        return starts if self.addresses else starts | Folds.UNNAMED

    def part(self, profile: Profile) -> Profile:
        """Return the blocks of the domains and threads. Raises as `apply` does."""
        return self._of_threads(self._of_domains(profile))

    def stacks(self, profile: Profile, symbols: Symbols) -> BoolArray:
        """Return which stacks to show of ``profile``, which is a `part`."""
        kept = np.ones(len(symbols.offsets) - 1, dtype=np.bool_)
        if (self.focus or self.ignore) and not self.starts_choose:
            symbols = fold_starts(symbols)
        for pattern in self.focus:
            kept &= stacks_with(symbols, matching_locations(symbols, pattern, "--focus"))
        for pattern in self.ignore:
            kept &= ~stacks_with(symbols, matching_locations(symbols, pattern, "--ignore"))
        if self.min_samples > 1:
            blocks = profile.counts(self.count)[0]
            samples = np.bincount(profile.sites.stack, weights=blocks, minlength=len(kept))
            kept &= samples >= self.min_samples
        return kept

    def _of_domains(self, profile: Profile) -> Profile:
        if not self.domains:
            return profile
        return profile.where(np.isin(profile.sites.domain, _domains(profile, self.domains)))

    def _of_threads(self, profile: Profile) -> Profile:
        """Return the profile of the blocks in use that the threads allocated."""
        if not self.threads:
            return profile
        if profile.thread_blocks is None:
            raise InputFileError("--thread: the file has no counts by thread")
        return of_threads(profile, _threads(profile, self.threads))

    def without_hidden(self, symbols: Symbols) -> Symbols:
        """Return ``symbols`` whose stacks lack the hidden frames; no stack becomes empty."""
        if not self.hide:
            return symbols
        hidden = np.zeros(len(symbols.locations), dtype=np.bool_)
        for pattern in self.hide:
            hidden |= matching_locations(symbols, pattern, "--hide")
        functions = [*symbols.functions, Function(HIDDEN, HIDDEN, "", known=False)]
        locations = [*symbols.locations, Location(len(symbols.functions))]
        spelled = symbols.locations_of_stack.copy()
        shown = ~hidden[spelled]
        stack = np.repeat(np.arange(len(symbols.offsets) - 1), np.diff(symbols.offsets))
        empty = np.bincount(stack[shown], minlength=len(symbols.offsets) - 1) == 0
        first = symbols.offsets[:-1][empty]
        spelled[first] = len(symbols.locations)
        shown[first] = True
        lengths = np.bincount(stack[shown], minlength=len(symbols.offsets) - 1)
        return dataclasses.replace(
            symbols,
            functions=functions,
            locations=locations,
            offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            locations_of_stack=spelled[shown],
        )


def of_threads(profile: Profile, rows: Sequence[int]) -> Profile:
    """Return the profile of the blocks in use that the threads of these rows allocated; it has no
    counts of all allocations. It is empty for a profile without counts by thread.
    """
    none = np.zeros(0, dtype=np.int64)
    blocks = profile.thread_blocks or ThreadBlocks(none, none, none, none)
    chosen = np.isin(blocks.row, rows)
    of_site = blocks.site[chosen]
    count = len(profile.sites)
    number, size = (
        np.bincount(of_site, weights=c[chosen], minlength=count).astype(np.int64)
        for c in (blocks.blocks, blocks.bytes)
    )
    sites = dataclasses.replace(
        profile.sites.without_parts(),
        inuse_blocks=number,
        inuse_bytes=size,
        alloc_blocks=number,
        alloc_bytes=size,
        peak_blocks=None,
        peak_bytes=None,
        births=None,
        live_births=None,
        before_end_blocks=None,
        before_end_bytes=None,
    )
    kept = dataclasses.replace(
        blocks,
        site=of_site,
        row=blocks.row[chosen],
        blocks=blocks.blocks[chosen],
        bytes=blocks.bytes[chosen],
    )
    return dataclasses.replace(profile, sites=sites, thread_blocks=kept, has_alloc=False)


Side = tuple[Profile, Symbols]


def apply_to_both(filters: Filters, base: Side, new: Side) -> tuple[Side, Side]:
    """Apply ``filters`` to two profiles that are to be compared. Raises as `Filters.apply`.

    A thread or domain that only one of them knows has no blocks in the other.
    """
    for name in filters.threads:
        if not _knows_thread(base[0], name):
            _threads(new[0], [name])
    for name in filters.domains:
        if not _knows_domain(base[0], name):
            _domains(new[0], [name])
    return _applied(filters, base), _applied(filters, new)


def _applied(filters: Filters, side: Side) -> Side:
    profile = side[0]
    threads = tuple(name for name in filters.threads if _knows_thread(profile, name))
    domains = tuple(name for name in filters.domains if _knows_domain(profile, name))
    nothing = (filters.threads and not threads) or (filters.domains and not domains)
    if nothing:
        side = profile.where(np.zeros(len(profile.sites), dtype=np.bool_)), side[1]
    return dataclasses.replace(filters, threads=threads, domains=domains).apply(*side)


def _knows_thread(profile: Profile, name: str) -> bool:
    return any(name in (t.name, str(t.tid)) for t in profile.threads)


def _knows_domain(profile: Profile, name: str) -> bool:
    return name in profile.domains


def compile_pattern(pattern: str, option: str) -> re.Pattern[str]:
    """Compile the regular expression of ``option``. Raises `UsageProblem`."""
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        raise UsageProblem(
            f"{option} {pattern}: not a regular expression: {reason}",
            hint="a \\ before a special character makes it an ordinary one",
        ) from error


def check_count(profile: Profile, count: Count, file: str = "the file") -> None:
    """Refuse a count that ``file`` does not have. Raises `InputFileError`, `UsageProblem`."""
    if profile.has(count):
        return
    if count is Count.PEAK:
        raise InputFileError(f"{file} holds no peak: it was written without one")
    if count is not count.blocks:
        what = "on huge pages" if count is Count.HUGE else str(count)
        if profile.sites.part_in_use(count) is not None:
            raise InputFileError(f"{file} holds nothing {what}")
        since = ", since Linux 6.7" if count is Count.HUGE else ""
        raise InputFileError(
            f"{file} does not say what was {what}",
            hint=f"mem_profiler --resident writes files that do{since}",
        )
    if count is Count.FREED and profile.capture.holds_older:
        raise UsageProblem(
            f"{file}: what is in use at the end of this part was not all allocated in it, so no"
            " count tells what was freed",
            hint="mem_parser lifetimes shows what was freed when; --alloc what was allocated",
        )
    raise InputFileError(
        f"{file} holds no counts of all allocations",
        hint=_ACCUMULATE if profile.format.startswith("jemalloc") else None,
    )


def matching_functions(symbols: Symbols, matches: Matches) -> BoolArray:
    """Return for each function whether its name, full name, file or module matches."""
    return np.array(
        [any(map(matches, (f.name, f.full_name, f.file, f.module))) for f in symbols.functions],
        dtype=np.bool_,
    )


def matching_locations(symbols: Symbols, pattern: str, option: str) -> BoolArray:
    """Return for each location whether its function, file or module matches ``pattern``."""
    matches = compile_pattern(pattern, option).search
    functions = matching_functions(symbols, matches)[symbols.function_of_location]
    files: dict[str, bool] = {}
    for location in symbols.locations:
        if location.file not in files:
            files[location.file] = matches(location.file) is not None
    by_file = np.array([files[x.file] for x in symbols.locations], dtype=np.bool_)
    return np.asarray(functions | by_file, dtype=np.bool_)


def stacks_with(symbols: Symbols, locations: BoolArray) -> BoolArray:
    """Return for each stack whether one of ``locations`` (a mask) is on it."""
    stacks = len(symbols.offsets) - 1
    stack = np.repeat(np.arange(stacks), np.diff(symbols.offsets))
    return np.bincount(stack[locations[symbols.locations_of_stack]], minlength=stacks) > 0


def _threads(profile: Profile, wanted: Sequence[str]) -> list[int]:
    """Return the rows of the threads with these names or numbers."""
    rows: list[int] = []
    for name in wanted:
        found = [t.row for t in profile.threads if name in (t.name, str(t.tid))]
        if not found:
            known = ", ".join(_first_few(f"{t.name or '?'} ({t.tid})" for t in profile.threads))
            raise UsageProblem(
                f"--thread {name}: no such thread in the file", hint=f"it has: {known or 'none'}"
            )
        rows += found
    return rows


def _domains(profile: Profile, wanted: Sequence[str]) -> IntArray:
    for name in wanted:
        if name not in profile.domains:
            known = ", ".join(_first_few(profile.domains))
            raise UsageProblem(
                f"--domain {name}: no such domain in the file", hint=f"it has: {known}"
            )
    return np.array([profile.domains.index(name) for name in wanted], dtype=np.int64)


def _first_few(names: Sequence[str] | Iterator[str], most: int = 8) -> list[str]:
    found = list(names)
    return [*found[:most], "…"] if len(found) > most else found
