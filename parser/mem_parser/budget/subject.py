"""The subject of a budget: one capture with its names, and the parts that sites select."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mem_parser.budget.rules import Kind, Match, Site
from mem_parser.charge import charged_from
from mem_parser.filters import Filters, stacks_with
from mem_parser.frames import Places, find_places, frames_of
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.model import BoolArray, Profile
from mem_parser.names import FrameRule
from mem_parser.startframes import fold_starts
from mem_parser.symbols.functionnames import Known, is_own, nearest
from mem_parser.symbols.table import Role, Symbols

_CARGO_HASH = re.compile(r"-[0-9a-f]{16}$")
"""Ends the names of cargo's test programs, and changes with the compiler and the version."""


@dataclass
class Subject:
    """One capture. ``path`` is its name in reports; ``name`` is that of the part of the program (a
    test), where the subject is not the whole program. ``naming`` is the names, or a function that
    returns them at their first use. ``libraries`` say which functions blocks are not charged to.
    ``naming_native`` returns the names with the frames of Python's interpreter, which sites may
    select too; None: ``naming`` hides no frame. ``looking`` searches the program's files for a
    function or library that no stack has; None: there are none. ``passing`` are the wrappers by
    shape of a baseline (as of `mark_libraries`).
    """

    profile: Profile
    naming: Symbols | Callable[[], Symbols]
    path: str = ""
    name: str = ""
    libraries: Libraries = field(default_factory=Libraries)
    naming_native: Callable[[], Symbols] | None = None
    looking: Callable[[Match], Known] | None = None
    passing: tuple[str, ...] | None = None
    _parts: dict[tuple[str, bool], Profile | None] = field(default_factory=dict, repr=False)

    @cached_property
    def symbols(self) -> Symbols:
        """The names of the profile's addresses, with the roles of functions."""
        return mark_libraries(self.profile, self._unmarked, self.libraries, passing=self.passing)

    @cached_property
    def _unmarked(self) -> Symbols:
        return self.naming if isinstance(self.naming, Symbols) else self.naming()

    def charged_like(self, passing: tuple[str, ...] | None) -> Subject:
        """Return the capture charged as a baseline with these wrappers is: another rate shows other
        ones, and what is charged elsewhere would look new. None: the baseline names none.
        """
        if passing is None:
            return self
        return dataclasses.replace(self, naming=lambda: self._unmarked, passing=passing, _parts={})

    @cached_property
    def _every_symbols(self) -> tuple[Symbols, ...]:
        """The names that sites select from: as verdicts show them, and those with all frames."""
        if self.naming_native is None:
            return (self.symbols,)
        native = mark_libraries(
            self.profile, self.naming_native(), self.libraries, passing=self.passing
        )
        return (self.symbols, native)

    @property
    def program(self) -> str:
        """The program's name: its file's, or where the process has another (the user started a
        link), that one.
        """
        if self.name:
            return self.name
        comm, file, called = self._spellings
        other = comm and not file.startswith(comm)
        called = called if called.startswith(comm) else comm
        found = (called if other else file) or comm or os.path.basename(self.path)
        return _CARGO_HASH.sub("", found)

    @property
    def names(self) -> tuple[str, ...]:
        """All names by which target sections may select the program."""
        every = (self.program, *(() if self.name else self._spellings))
        return tuple(dict.fromkeys(name for name in every if name))

    @property
    def _spellings(self) -> tuple[str, str, str]:
        """The process's name (the kernel cuts it after 15 bytes), its file's, and that of its
        command.
        """
        capture = self.profile.capture
        called = capture.command.split(" ", 1)[0]
        return capture.comm, os.path.basename(capture.exe), os.path.basename(called)

    @property
    def title(self) -> str:
        """The capture's name in baselines and reports: the program, and the memory domain where it
        is not the host's.
        """
        if self.is_of_host:
            return self.program
        return f"{self.program} {' '.join(self.profile.domains)}"

    @property
    def is_of_host(self) -> bool:
        """Tell whether the capture is of malloc's memory, and not of a device or of mappings."""
        return "host" in self.profile.domains

    @property
    def build(self) -> str:
        """The first digits of the program's build-id; empty where it is unknown."""
        exe = self.profile.capture.exe
        return next((m.build_id[:12] for m in self.profile.modules if m.path == exe), "")

    def is_of_build(self, build: str) -> bool:
        """Tell whether the program is of that build; a Python program's own code has none."""
        return bool(build) and build == self.build and self.profile.python is None

    @cached_property
    def places(self) -> Places:
        """The stacks as verdicts name them."""
        return find_places(self.profile, self.symbols)

    @cached_property
    def whole_places(self) -> Places:
        """The stacks with the frames of libraries, as patterns match them."""
        return find_places(self.profile, self.symbols, FrameRule.OWN)

    @cached_property
    def _unnamed(self) -> BoolArray:
        """Which locations are of a function that has no name, and may be one that a site is about:
        of the program or a file of its own. Libraries of the system and frames that start a program
        or thread are not.
        """
        found = [
            not (f.known or f.python or f.role is not Role.PROGRAM) and is_own(f.module)
            for f in self.symbols.functions
        ]
        return np.array(found, dtype=np.bool_)[self.symbols.function_of_location]

    @cached_property
    def nameless(self) -> tuple[str, ...]:
        """The modules of those functions."""
        of_location = self.symbols.function_of_location[self._unnamed]
        return tuple(dict.fromkeys(self.symbols.functions[k].module for k in of_location.tolist()))

    def knows(self, match: Match) -> Known:
        """Tell whether the profile, or a file of the program, has a function that matches, or a
        module that was loaded. An interpreted program may have any: no file's symbols name its
        functions, and their files are modules.
        """
        if self.profile.stacks.interpreters.any():
            return True, []
        if match.kind is Kind.MODULE:
            seen = [module.path for module in self.profile.modules]
            names = others = [os.path.basename(path).split(".so")[0] for path in seen]
            some = not seen or any(map(match.pattern.search, seen))
        else:
            some = any(_locations(symbols, match).any() for symbols in self._every_symbols)
            known = [f for f in self.symbols.functions if f.known]
            names = [f.name for f in known if f.role is Role.PROGRAM and is_own(f.module)]
            others = [f.name for f in known]
        if some:
            return True, []
        found, near = self.looking(match) if self.looking else (False, [])
        return found, nearest(match.pattern, [*near, *names]) or nearest(match.pattern, others)

    @property
    def spelled(self) -> set[str]:
        """All that suppressions match: names of functions, source files and modules on stacks."""
        return {
            name
            for f in frames_of(self.profile, self.symbols)
            for name in (f.function, f.file, f.module)
            if name
        }

    def part(self, site: Site | None, *, unnamed: bool = False) -> Profile | None:
        """Return the profile of a site's blocks (of all without one); None where the site needs
        blocks by thread, which the file lacks. ``unnamed``: with those that may be the site's if
        functions without a name are.
        """
        if site is None:
            return self.profile
        key = (site.key, unnamed)
        if key not in self._parts:
            self._parts[key] = self._part(site, unnamed=unnamed)
        return self._parts[key]

    def _part(self, site: Site, *, unnamed: bool) -> Profile | None:
        threads = [m for m in site.matches if m.kind is Kind.THREAD]
        profile = self.profile
        if threads:
            if profile.thread_blocks is None:
                return None
            profile = self._of_threads(profile, threads)
        kept = np.ones(len(profile.sites), dtype=np.bool_)
        for match in site.matches:
            if match.kind is Kind.DOMAIN:
                known = [bool(match.pattern.search(d)) for d in profile.domains]
                kept &= np.array(known, dtype=np.bool_)[profile.sites.domain]
            elif match.kind is not Kind.THREAD:
                found = self._stacks(match, own=site.own)
                if unnamed and match.kind is not Kind.MODULE:
                    found = found | self._unnamed_stacks(
                        own=site.own and match.kind is not Kind.STACK
                    )
                kept &= found[profile.sites.stack]
        return profile.where(kept)

    def _of_threads(self, profile: Profile, matches: list[Match]) -> Profile:
        wanted = tuple(
            str(t.tid)
            for t in profile.threads
            if all(m.pattern.search(t.name) or m.pattern.fullmatch(str(t.tid)) for m in matches)
        )
        if not wanted:
            return profile.where(np.zeros(len(profile.sites), dtype=np.bool_))
        return Filters(threads=wanted).apply(profile, self.symbols)[0]

    def _unnamed_stacks(self, *, own: bool) -> BoolArray:
        if own:
            return _allocating(self.symbols, self._unnamed)
        folded = fold_starts(self.symbols)
        more = np.zeros(len(folded.locations) - len(self._unnamed), dtype=np.bool_)
        return stacks_with(folded, np.concatenate((self._unnamed, more)))

    def _stacks(self, match: Match, *, own: bool) -> BoolArray:
        if match.kind is Kind.STACK:
            spelled = [
                ";".join(f.function for f in reversed(frames))
                for frames in self.whole_places.frames
            ]
            found = [bool(match.pattern.search(text)) for text in spelled]
            return np.array(found, dtype=np.bool_)[self.whole_places.place]
        selected = np.zeros(len(self.profile.stacks), dtype=np.bool_)
        for symbols in self._every_symbols:
            locations = _locations(symbols, match)
            some = _allocating(symbols, locations) if own else stacks_with(symbols, locations)
            selected |= some
        return selected


def _allocating(symbols: Symbols, locations: BoolArray) -> BoolArray:
    """Return for each stack whether one of ``locations`` allocated its blocks: the charged
    frame, or one of a library below it.
    """
    matched = locations[symbols.locations_of_stack]
    before = np.concatenate(([0], np.cumsum(matched)))
    first = charged_from(symbols, FrameRule.OWN)
    last = charged_from(symbols, FrameRule.PROGRAM)
    return np.asarray(before[last + 1] > before[first], dtype=np.bool_)


def _locations(symbols: Symbols, match: Match) -> BoolArray:
    """Return for each location whether its function, file or module matches."""
    matches = match.pattern.search
    if match.kind is Kind.FILE:
        files = [x.file or symbols.functions[x.function].file for x in symbols.locations]
        return np.array([bool(matches(f)) for f in files], dtype=np.bool_)
    names = (
        [bool(matches(f.module)) for f in symbols.functions]
        if match.kind is Kind.MODULE
        else [bool(matches(f.name) or matches(f.full_name)) for f in symbols.functions]
    )
    found = np.array(names, dtype=np.bool_)[symbols.function_of_location]
    return np.asarray(found, dtype=np.bool_)
