"""From addresses to names: `symbolize` gives every stack of a profile its functions and lines.

Every distinct address is looked up once, module by module. Return addresses are looked up one byte
earlier, inside the call. In files of other tools the innermost frame may be either; it is taken as
it stands if a function begins exactly there, which a return address of an allocation never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.model import (
    LOST_CAUSES,
    SAMPLER_NAME,
    STACK_LOST_SHIFT,
    Module,
    Profile,
    StackTable,
)
from mem_parser.symbols.cache import SymbolCache, default_folder
from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS
from mem_parser.symbols.demangle import full_name, printable, short_name
from mem_parser.symbols.dwarf import SourceFrame
from mem_parser.symbols.files import ModuleFinder
from mem_parser.symbols.modulenames import ModuleNames
from mem_parser.symbols.table import Function, SymbolProblem, Symbols, SymbolTableBuilder

Addresses = npt.NDArray[np.uint64]
Ids = npt.NDArray[np.int64]
_NO_STACK = "[no stack]"


def symbolize(
    profile: Profile,
    binary: str | None = None,
    *,
    debug_dirs: Sequence[str] = DEFAULT_DEBUG_DIRS,
    cache: SymbolCache | None = None,
) -> Symbols:
    """Name all stacks of ``profile``.

    ``binary`` is the program's own file if it is not where the profile says. Raises
    `InputFileError` if that cannot be read or is another program's; everything else that is missing
    is in `Symbols.problems`.
    """
    finder = ModuleFinder(profile, binary, debug_dirs)
    return _Symbolizer(profile, finder, cache or SymbolCache(default_folder())).run()


@dataclass(slots=True)
class _Distinct:
    """The distinct (address, generation, is it a foreign leaf) of all frames, and each frame's
    index in them.
    """

    address: Addresses
    generation: npt.NDArray[np.uint32]
    foreign_leaf: npt.NDArray[np.bool_]
    of_frame: Ids


def _distinct_addresses(stacks: StackTable, *, by_generation: bool) -> _Distinct:
    leaf = stacks.is_leaf
    exact = leaf if stacks.leaf_exact else np.zeros_like(leaf)
    address = stacks.frames - np.where(exact | (stacks.frames == 0), 0, 1).astype(np.uint64)
    foreign = leaf & ~exact
    generation = np.zeros(len(address), dtype=np.uint32)
    if by_generation:
        generation = np.repeat(stacks.generation, stacks.depths)
    if not foreign.any() and not by_generation:
        unique = _sorted_distinct(address)
        zeros = np.zeros(len(unique), dtype=np.uint32)
        return _Distinct(
            unique, zeros, zeros.astype(np.bool_), np.searchsorted(unique, address).astype(np.int64)
        )
    key = np.empty(len(address), dtype=[("a", "u8"), ("g", "u4"), ("f", "?")])
    key["a"], key["g"], key["f"] = address, generation, foreign
    rows, inverse = np.unique(key, return_inverse=True)
    return _Distinct(
        rows["a"].copy(), rows["g"].copy(), rows["f"].copy(), np.asarray(inverse).reshape(-1)
    )


def _sorted_distinct(values: Addresses) -> Addresses:
    """Return the distinct values in order. Sorting beats numpy's hashing by far here."""
    ordered = np.sort(values)
    if not len(ordered):
        return ordered
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]


class _Symbolizer:
    """One run over one profile."""

    def __init__(self, profile: Profile, finder: ModuleFinder, cache: SymbolCache) -> None:
        self.profile = profile
        self.finder = finder
        self.cache = cache
        self.builder = SymbolTableBuilder()
        self.problems: list[SymbolProblem] = []
        self.nameless: dict[str, int] = {}

    def run(self) -> Symbols:
        modules = self.profile.modules
        by_generation = any(m.last_generation is not None for m in modules)
        distinct = _distinct_addresses(self.profile.stacks, by_generation=by_generation)
        module_of = _assign_modules(modules, distinct)
        expansion: list[tuple[int, ...]] = [()] * len(distinct.address)
        order = np.argsort(module_of, kind="stable")
        bounds = np.searchsorted(module_of[order], np.arange(-1, len(modules) + 1))
        for index in range(-1, len(modules)):
            which = order[bounds[index + 1] : bounds[index + 2]]
            if not len(which):
                continue
            chosen = modules[index] if index >= 0 else None
            found = self._name_addresses(
                chosen, distinct.address[which], distinct.foreign_leaf[which]
            )
            for k, locations in zip(which.tolist(), found, strict=True):
                expansion[k] = locations
        return self._spell(distinct.of_frame, expansion)

    def _name_addresses(
        self, module: Module | None, addresses: Addresses, foreign_leaf: npt.NDArray[np.bool_]
    ) -> list[tuple[int, ...]]:
        if module is None:
            return [self._unknown("", a) for a in addresses.tolist()]
        names = ModuleNames(module, self.finder, self.cache)
        virtual, found = names.find(addresses, foreign_leaf)
        problem = names.problem
        if problem is not None and problem not in self.problems and module.name != SAMPLER_NAME:
            self.problems.append(problem)
        result = []
        for address, frames in zip(virtual.tolist(), found, strict=True):
            if frames:
                result.append(self._known(module, frames))
            else:
                self.nameless[module.path] = self.nameless.get(module.path, 0) + 1
                result.append(self._unknown(module.name, address, module.path))
        return result

    def _known(self, module: Module, frames: list[SourceFrame]) -> tuple[int, ...]:
        last = len(frames) - 1
        return tuple(
            self.builder.location(
                Function(short_name(f.symbol), full_name(f.symbol), module.path, printable(f.file)),
                printable(f.file),
                f.line,
                inlined=k < last,
            )
            for k, f in enumerate(frames)
        )

    def _unknown(self, module: str, address: int, path: str = "") -> tuple[int, ...]:
        name = printable(f"{module}+0x{address:x}" if module else f"0x{address:x}")
        return (self.builder.location(Function(name, name, path, known=False)),)

    def _special(self, name: str) -> int:
        return self.builder.location(Function(name, name, "", known=False))

    def _spell(self, of_frame: Ids, expansion: list[tuple[int, ...]]) -> Symbols:
        """Put the locations of every frame in the place of its address."""
        stacks = self.profile.stacks
        lengths = np.array([len(e) for e in expansion], dtype=np.int64)
        starts = np.concatenate(([0], np.cumsum(lengths)))[: len(lengths)]
        flat = np.array([x for e in expansion for x in e], dtype=np.int32)
        per_frame = lengths[of_frame] if len(of_frame) else np.zeros(0, dtype=np.int64)
        frame_offsets = np.concatenate(([0], np.cumsum(per_frame)))
        within = np.arange(int(frame_offsets[-1])) - np.repeat(frame_offsets[:-1], per_frame)
        spelled = flat[np.repeat(starts[of_frame], per_frame) + within] if len(flat) else flat
        offsets = frame_offsets[stacks.offsets]
        offsets, spelled = self._replace_lost(offsets, spelled)
        return Symbols(
            self.builder.functions,
            self.builder.locations,
            offsets,
            spelled,
            self.problems,
            self.nameless,
        )

    def _replace_lost(
        self, offsets: Ids, spelled: npt.NDArray[np.int32]
    ) -> tuple[Ids, npt.NDArray[np.int32]]:
        """Give stacks that were lost, or are empty, the one location that says so."""
        stacks = self.profile.stacks
        cause = stacks.flags >> STACK_LOST_SHIFT & 0xFF
        one_frame = stacks.depths == 1
        marker = np.zeros(len(stacks), dtype=np.bool_)
        marker[one_frame] = stacks.frames[stacks.offsets[:-1][one_frame]] == 1
        special = (cause > 0) | marker | (stacks.depths == 0)
        if not special.any():
            return offsets, spelled
        lengths = np.where(special, 1, np.diff(offsets))
        new_offsets = np.concatenate(([0], np.cumsum(lengths)))
        keep = np.repeat(~special, np.diff(offsets))
        result = np.zeros(int(new_offsets[-1]), dtype=np.int32)
        is_special = np.repeat(special, lengths)
        result[~is_special] = spelled[keep]
        names = {int(c): self._special(_lost_name(int(c))) for c in np.unique(cause[special])}
        empty = self._special(_NO_STACK)
        chosen = [
            empty if not c and not m else names[c]
            for c, m in zip(cause[special].tolist(), marker[special].tolist(), strict=True)
        ]
        result[is_special] = chosen
        return new_offsets, result


def _lost_name(cause: int) -> str:
    return f"[stack lost: {LOST_CAUSES.get(cause, f'cause {cause}')}]" if cause else "[stack lost]"


def _assign_modules(modules: list[Module], distinct: _Distinct) -> Ids:
    """Return for each distinct address the index of its module, -1 for none."""
    result = np.full(len(distinct.address), -1, dtype=np.int64)
    for generation in np.unique(distinct.generation).tolist():
        here = np.flatnonzero(distinct.generation == generation)
        ranges = [
            (r.start, r.end, k)
            for k, m in enumerate(modules)
            if m.first_generation <= generation or not generation
            if m.last_generation is None or generation <= m.last_generation
            for r in m.ranges
        ]
        if not ranges:
            continue
        # Of overlapping ranges the one that begins last wins; a later module wins over an
        # earlier one.
        table = sorted(ranges, key=lambda r: (r[0], r[2]))
        start = np.array([r[0] for r in table], dtype=np.uint64)
        last = np.array([r[1] - 1 for r in table], dtype=np.uint64)
        index = np.array([r[2] for r in table], dtype=np.int64)
        at = np.searchsorted(start, distinct.address[here], side="right") - 1
        inside = (at >= 0) & (distinct.address[here] <= last[at])
        result[here[inside]] = index[at[inside]]
    return result
