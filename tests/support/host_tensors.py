"""Which blocks of the host are PyTorch's tensors: those allocated below `c10::alloc_cpu`.

The function is found by its symbol in the library that has it, so no other name is looked up. A
process without the library has no tensors.
"""

import numpy as np
import numpy.typing as npt

from mem_parser.model import STACK_LOST_SHIFT, Module, Profile, StackTable
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.elftables import BadElf

LIBRARY = "libc10.so"
ALLOCATOR = "_ZN3c109alloc_cpuEm"
_MOST_BYTES = 1 << 16
_CAUSE, _EMPTY = 0xFF, 1


class TensorStacks:
    """Tells stacks of one log, which grows, apart. Not for several threads."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._asked: set[tuple[str, int]] = set()
        self._known = np.zeros(0, dtype=np.bool_)
        self.lost = np.zeros(0, dtype=np.bool_)
        """For each stack of the last call whether the sampler had no room for it."""

    def of(self, stacks: StackTable, facts: Profile | None) -> npt.NDArray[np.bool_]:
        """Return for each stack whether it is a tensor's; ``facts`` say what is mapped where."""
        if facts is not None:
            for module in facts.modules:
                key = module.path, module.start
                if module.name == LIBRARY and key not in self._asked:
                    self._asked.add(key)
                    found = allocator_of(module)
                    if found is not None:
                        self._ranges.append(found)
                        # What came before its library was known is looked at again.
                        self._known = self._known[:0]
        done = len(self._known)
        if done < len(stacks):
            new = _through(stacks, done, self._ranges)
            self.lost = (stacks.flags >> STACK_LOST_SHIFT & _CAUSE) > _EMPTY
            self._known = np.concatenate((self._known, new))
        return self._known


def allocator_of(module: Module) -> tuple[int, int] | None:
    """Return the addresses [begin, end) of the allocator in a library; None where it has none."""
    try:
        image = ElfImage.open(module.path)
    except (OSError, ValueError, BadElf):
        return None
    try:
        symbols = image.read_symbols(".dynsym")
        row = symbols.row_named(ALLOCATOR)
        bias = module.bias
        for part in module.ranges:
            if bias is None:
                bias = image.bias_of(part.start, part.file_offset, part.end - part.start)
        if row is None or bias is None:
            return None
        begin = bias + int(symbols.values[row])
        return begin, begin + min(int(symbols.sizes[row]), _MOST_BYTES)
    except (OSError, ValueError, BadElf):
        return None
    finally:
        image.close()


def _through(
    stacks: StackTable, first: int, ranges: list[tuple[int, int]]
) -> npt.NDArray[np.bool_]:
    """Return for the stacks from number ``first`` on whether they pass through a range."""
    begin = int(stacks.offsets[first])
    frames = stacks.frames[begin : int(stacks.offsets[-1])]
    inside = np.zeros(len(frames), dtype=np.bool_)
    for low, high in ranges:
        # A return address may be behind the last instruction.
        inside |= (frames > np.uint64(low)) & (frames <= np.uint64(high))
    before = np.concatenate(([0], np.cumsum(inside)))
    offsets = stacks.offsets[first:] - begin
    found: npt.NDArray[np.bool_] = np.diff(before[offsets]) > 0
    return found
