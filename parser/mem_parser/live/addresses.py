"""The names of a process's addresses, which are looked up once.

An address is known together with the generation of libraries that it was seen in, once the program
has closed one. What it is called depends on the modules of the process: `fits` tells whether the
names that are known are still those of a later profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mem_parser.interning import Growing, Interner, distinct, pairs
from mem_parser.model import AddressArray, BoolArray, IntArray, Module, Profile
from mem_parser.python.interpreter import FunctionKinds, runs_python
from mem_parser.symbols.modulelabels import module_keys, module_labels
from mem_parser.symbols.symbolizer import (
    Distinct,
    assign_modules,
    name_distinct,
    tells_generations,
)
from mem_parser.symbols.table import SymbolProblem, SymbolTableBuilder

Numbers = npt.NDArray[np.uint32]
_ModuleFacts = tuple[str, str, str, str, int | None, int, bool]


@dataclass(slots=True)
class Rows:
    """Addresses of some stacks: ``of_frame`` is the row of each of their frames, ``new`` are those
    that were not known before.
    """

    of_frame: IntArray
    new: int


class KeptAddresses:
    """Rows of addresses: each row has an address, a generation, a module and locations."""

    def __init__(self, profile: Profile, binary: str | None, debug_dirs: Sequence[str]) -> None:
        self.builder = SymbolTableBuilder()
        self.kinds = FunctionKinds()
        self.expansion: list[tuple[int, ...]] = []
        self._binary, self._debug_dirs = binary, debug_dirs
        self._by_generation = tells_generations(profile.modules)
        self._modules = list(profile.modules)
        self._embedded = profile.embedded
        self._numbers, self._pairs = Interner(), Interner()
        self._address: Growing[np.uint64] = Growing(np.uint64)
        self._generation: Growing[np.uint32] = Growing(np.uint32)
        self._module_of: Growing[np.int64] = Growing(np.int64)
        self._nameless: Growing[np.bool_] = Growing(np.bool_)
        self._runs_python: Growing[np.bool_] = Growing(np.bool_)
        self._problems: dict[tuple[str, bool], SymbolProblem] = {}
        self.program = ("", "")

    def __len__(self) -> int:
        return len(self._address)

    @property
    def problems(self) -> list[SymbolProblem]:
        """Why names are missing; of each module the latest word."""
        return list(self._problems.values())

    @property
    def module_of(self) -> IntArray:
        """The index of the module of each row, -1: none."""
        return self._module_of.values

    def fits(self, profile: Profile) -> bool:
        """Tell whether the known rows mean in ``profile`` what they meant before, and take over its
        modules if so. Libraries that came later change nothing, unless they are where known
        addresses are, or have the file name of another one.
        """
        if profile.embedded is not self._embedded:
            return False
        if profile.modules == self._modules:
            return True
        if tells_generations(profile.modules) != self._by_generation:
            return False
        module_of = assign_modules(profile.modules, self._distinct(0))
        before, after = _facts(self._modules), _facts(profile.modules)
        used = distinct(pairs(self.module_of + 1, module_of + 1))
        for pair in used.tolist():
            old, new = (pair >> 32) - 1, (pair & 0xFFFFFFFF) - 1
            if (before[old] if old >= 0 else None) != (after[new] if new >= 0 else None):
                return False
        self._modules = list(profile.modules)
        self._module_of = Growing(np.int64)
        self._module_of.extend(module_of)
        return True

    def take(self, profile: Profile, low: int, high: int) -> Rows:
        """Name what is new among the addresses of the stacks ``low`` to ``high``, which is not
        among them. Raises as `name_addresses` does.
        """
        stacks = profile.stacks
        bounds = stacks.offsets[low : high + 1] - stacks.offsets[low]
        frames = stacks.frames_between(low, high)
        leaf = np.zeros(len(frames), dtype=np.bool_)
        leaf[bounds[:-1][np.diff(bounds) > 0]] = True
        address = frames - np.where(leaf | (frames == 0), 0, 1).astype(np.uint64)
        generation = np.zeros(len(frames), dtype=np.uint32)
        if self._by_generation:
            generation = np.repeat(stacks.generation[low:high], np.diff(bounds))
        number, _ = self._numbers.intern(address)
        row, first = self._pairs.intern(pairs(number, generation.astype(np.int64)))
        if len(first):
            self._name(profile, address[first], generation[first])
        return Rows(row, len(first))

    def _name(self, profile: Profile, address: AddressArray, generation: Numbers) -> None:
        low = len(self)
        self._address.extend(address)
        self._generation.extend(generation)
        found = name_distinct(
            profile, self._distinct(low), self.builder, self._binary, debug_dirs=self._debug_dirs
        )
        self.expansion += found.expansion
        self.program = found.program
        self._module_of.extend(found.module_of)
        for problem in found.problems:
            self._problems[problem.module, problem.names_missing] = problem
        outer = [self.builder.locations[e[-1]].function for e in found.expansion]
        functions = [self.builder.functions[k] for k in outer]
        nameless = [not f.known and bool(f.module) for f in functions]
        self._nameless.extend(np.array(nameless, dtype=np.bool_))
        kinds = self.kinds.of(self.builder.functions)[np.array(outer, dtype=np.int64)]
        self._runs_python.extend(runs_python(kinds))

    def _distinct(self, low: int) -> Distinct:
        address = self._address.values[low:]
        none = np.zeros(len(address), dtype=np.bool_)
        return Distinct(address, self._generation.values[low:], none, np.zeros(0, dtype=np.int32))

    def distinct(self, of_frame: IntArray) -> Distinct:
        """Return all rows, as those of frames whose rows are given."""
        found = self._distinct(0)
        return Distinct(
            found.address, found.generation, found.foreign_leaf, of_frame.astype(np.int32)
        )

    def nameless(self, shown: BoolArray | None = None) -> dict[str, int]:
        """Return how many rows of each module have no name: of all, or of those ``shown``."""
        which = self._nameless.values if shown is None else self._nameless.values & shown
        counts: dict[str, int] = {}
        for row in np.flatnonzero(which).tolist():
            place = self.builder.locations[self.expansion[row][-1]]
            module = self.builder.functions[place.function].module
            counts[module] = counts.get(module, 0) + 1
        return counts

    def holding(self) -> BoolArray:
        """Return which modules have an interpreter."""
        holds = np.zeros(len(self._modules) + 1, dtype=np.bool_)
        holds[self.module_of[self._runs_python.values]] = True
        return holds[:-1]


def _facts(modules: Sequence[Module]) -> list[_ModuleFacts]:
    """Return for each module all that names of its addresses depend on."""
    keys, labels = module_keys(modules), module_labels(modules)
    return [
        (key, label, m.path, m.build_id, m.bias, m.start, m.deleted)
        for m, key, label in zip(modules, keys, labels, strict=True)
    ]
