"""What `mem_parser.merge` does with columns, done with dictionaries: one frame, stack and site at a
time.
"""

from typing import Any

import numpy as np

from mem_parser.mergedmodules import MergedModules
from mem_parser.model import Profile, SiteTable, StackTable
from mem_parser.python.labels import Labels
from mem_parser.python.owners import Owned
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.symbols.embedded import FIRST_INVENTED, NO_MODULE, EmbeddedNames
from mem_parser.symbols.modulelabels import module_keys
from mem_parser.symbols.symbolizer import assign_modules, distinct_addresses

COLUMNS = ("inuse_blocks", "inuse_bytes", "alloc_blocks", "alloc_bytes")
DEVICE_COLUMNS = ("inuse_taken_bytes", "alloc_taken_bytes", "failed_blocks", "failed_bytes")


PythonFrame = tuple[PythonCode, int, bool]


class DictionaryPython:
    """As `mem_parser.python.merged.MergedPython`; a stack is all its frames, outermost first."""

    def __init__(self) -> None:
        self.index: dict[tuple[PythonFrame, ...], int] = {(): 0}
        self.codes: dict[PythonCode, int] = {}

    def intern(self, python: PythonStacks | None) -> list[int]:
        result = [0]
        if python is None or not len(python):
            return result
        for code in python.codes:
            self.codes.setdefault(code, len(self.codes))
        for k in range(len(python)):
            stack = tuple(
                (python.codes[python.code[n]], int(python.line[n]), bool(python.entry[n]))
                for n in reversed(python.outwards(k + 1))
            )
            result.append(self.index.setdefault(stack, len(self.index)))
        return result

    def result(self) -> PythonStacks | None:
        stacks = [stack for stack in self.index if stack]
        if not stacks:
            return None
        return PythonStacks(
            np.array([self.index[stack[:-1]] for stack in stacks], dtype=np.uint32),
            np.array([self.codes[stack[-1][0]] for stack in stacks], dtype=np.uint32),
            np.array([stack[-1][1] for stack in stacks], dtype=np.uint32),
            np.array([stack[-1][2] for stack in stacks], dtype=np.bool_),
            list(self.codes),
        )


class DictionaryLabels:
    """As `mem_parser.python.owners.MergedLabels`; a label is all that it is in, outermost first."""

    def __init__(self) -> None:
        self.index: dict[tuple[tuple[int, str], ...], int] = {(): 0}

    def intern(self, labels: Labels | None) -> list[int]:
        result = [0]
        for k in range(len(labels or ())):
            chain = tuple(
                (int(labels.kind[n]), labels.names[n]) for n in reversed(labels.outwards(k + 1))
            )
            result.append(self.index.setdefault(chain, len(self.index)))
        return result

    def result(self) -> Labels | None:
        chains = [chain for chain in self.index if chain]
        if not chains:
            return None
        return Labels(
            np.array([self.index[chain[:-1]] for chain in chains], dtype=np.uint32),
            np.array([chain[-1][0] for chain in chains], dtype=np.uint8),
            [chain[-1][1] for chain in chains],
        )


class DictionaryFrames:
    """As `mem_parser.mergedframes.MergedFrames`."""

    def __init__(self) -> None:
        self.modules = MergedModules()
        self.files = 0
        self.frame_index: dict[tuple[int, int, Any], int] = {}
        self.stack_index: dict[tuple[tuple[int, ...], int, int, int], int] = {}
        self.python, self.labels = DictionaryPython(), DictionaryLabels()

    def intern(self, profile: Profile) -> list[int]:
        distinct = distinct_addresses(profile)
        self.files += 1
        keys = module_keys(profile.modules)
        ids = []
        rows = zip(
            assign_modules(profile.modules, distinct).tolist(), distinct.address, strict=True
        )
        for module, address in rows:
            place, offset = NO_MODULE, int(address)
            names = profile.embedded.find(module, int(address)) if profile.embedded else ()
            if module >= 0:
                of = profile.modules[module]
                key = keys[module] if of.path else f"{self.files}:{keys[module]}"
                found = self.modules.place(of, np.array([address]), key)
                if found is not None:
                    place, offset = found[0], int(found[1][0])
            which = (place, 0 if place == NO_MODULE and names else offset, tuple(names))
            ids.append(self.frame_index.setdefault(which, len(self.frame_index)))
        bounds, flags = profile.stacks.offsets.tolist(), profile.stacks.flags.tolist()
        result = []
        python, numbers = self.python.intern(profile.python), profile.stacks.interpreters.tolist()
        labels = self.labels.intern(profile.labels)
        label = profile.stacks.label_numbers.tolist()
        for k, flag in enumerate(flags):
            frames = tuple(ids[x] for x in distinct.of_frame[bounds[k] : bounds[k + 1]].tolist())
            key = (frames, flag, python[numbers[k]], labels[label[k]])
            result.append(self.stack_index.setdefault(key, len(self.stack_index)))
        return result

    def stacks(self, *, leaf_exact: bool) -> tuple[StackTable, Owned, EmbeddedNames | None]:
        lookup, names = [], EmbeddedNames()
        for k, (place, offset, frames) in enumerate(self.frame_index):
            address = offset
            if place != NO_MODULE:
                address = self.modules.base(place) + offset
            elif frames:
                address = FIRST_INVENTED + 2 * k
            lookup.append(address)
            if frames:
                names.frames[place, address] = frames
        addresses = []
        for stack, *_ in self.stack_index:
            for depth, frame in enumerate(stack):
                exact = leaf_exact and depth == 0
                addresses.append(
                    1 if lookup[frame] <= 1 else (lookup[frame] + (not exact)) % (1 << 64)
                )
        table = StackTable(
            np.cumsum([0, *(len(stack) for stack, *_ in self.stack_index)]).astype(np.int64),
            np.array(addresses, dtype=np.uint64),
            np.array([flag for _, flag, *_ in self.stack_index], dtype=np.uint32),
            np.zeros(len(self.stack_index), dtype=np.uint32),
            leaf_exact,
            np.array([number for *_, number, _ in self.stack_index], dtype=np.uint32),
            np.array([number for *_, number in self.stack_index], dtype=np.uint32),
        )
        owned = Owned(self.python.result(), self.labels.result(), table.interpreter, table.label)
        return table, owned, names if names.frames else None


class DictionarySites:
    """As `mem_parser.mergedsites.MergedSites`."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, int, int, float], list[int]] = {}

    def __len__(self) -> int:
        return len(self.sums)

    def add(self, profile: Profile, stack_ids: list[int]) -> None:
        s = profile.sites
        rates = np.maximum(np.broadcast_to(profile.rates, len(s)), 1.0).tolist()
        for k in range(len(s)):
            key = (
                stack_ids[s.stack[k]],
                size_class(int(s.inuse_blocks[k]), int(s.inuse_bytes[k])),
                size_class(int(s.alloc_blocks[k]), int(s.alloc_bytes[k])),
                rates[k],
            )
            sums = self.sums.setdefault(key, [0] * 8)
            for n, name in enumerate((*COLUMNS, *DEVICE_COLUMNS)):
                column = getattr(s, name)
                sums[n] += 0 if column is None else max(int(column[k]), 0)

    @property
    def rates(self) -> np.ndarray[Any, Any]:
        return np.array([rate for *_, rate in self.sums], dtype=np.float64)

    def table(self, *, mixed: bool, device: bool) -> SiteTable:
        rows = [[min(x, 1 << 62) for x in row] for row in self.sums.values()]
        sums = np.array(rows, dtype=np.int64).reshape(-1, 8)
        table = SiteTable(
            np.array([stack for stack, *_ in self.sums], dtype=np.int64),
            np.zeros(len(sums), dtype=np.int32),
            *(sums[:, n].copy() for n in range(4)),
            rate_bytes=self.rates if mixed else None,
        )
        for n, name in enumerate(DEVICE_COLUMNS if device else ()):
            setattr(table, name, sums[:, 4 + n].copy())
        return table


def size_class(blocks: int, size: int) -> int:
    if blocks <= 0:
        return -1
    mean = size / blocks
    return int(np.rint(mean) if mean < 64 else 64 + np.floor(64 * np.log2(mean / 64)))
