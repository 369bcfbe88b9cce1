"""The call stacks of a profile as lists of (function, file, line), innermost first.

Names of native functions are looked up when the first native stack is asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence

import numpy as np

from mem_parser.model import Profile, StackTable
from mem_parser.records.kinds import AllocatorType, allocator_of
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.table import Location, Symbols

Element = tuple[str, str, int]
"""Function, file and line of a frame."""
_EVALUATION_LOOP = re.compile(r"_PyEval_EvalFrameDefault(?:[. ].*)?|_TAIL_CALL_\w+")
_NO_FILE = "<unknown>"


def frames_below(stack: Sequence[Element], root: Sequence[Element]) -> int:
    """Return how many of the outermost frames of a stack, which is innermost first, are callers of
    the frame that began the capture: those of ``root``, outermost first, but its last. 0 where the
    stack does not come from there.

    A stack that was cut has lost its outermost frames, so ``root`` may begin at any frame.
    """
    outwards = list(stack[::-1])
    for begin in range(len(root)):
        callers = len(root) - begin - 1
        if (
            callers < len(outwards)
            and outwards[:callers] == list(root[begin:-1])
            and outwards[callers][:2] == root[-1][:2]
        ):
            return callers
    return 0


class Stacks:
    """The stacks of one profile; `Profile.stacks` numbers the native ones."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    @functools.cached_property
    def allocators(self) -> list[AllocatorType]:
        """The allocators of each stack's blocks."""
        stacks = self.profile.stacks
        if not stacks.leaf_exact:
            return [AllocatorType.MALLOC] * len(stacks)
        some = stacks.depths > 0
        leaves = StackTable(
            np.concatenate(([0], np.cumsum(some))),
            stacks.frames[stacks.is_leaf],
            stacks.flags & ~np.uint32(1),
            stacks.generation,
            stacks.leaf_exact,
        )
        names = symbolize(dataclasses.replace(self.profile, stacks=leaves, python=None))
        # The last location of an address has the frame; what is inlined there comes before.
        last = names.locations_of_stack[names.offsets[1:] - 1]
        function = names.function_of_location[last]
        return [allocator_of(names.functions[k].name) for k in function.tolist()]

    @functools.cached_property
    def symbols(self) -> Symbols:
        """The names of all native frames."""
        return symbolize(self.profile)

    def python(self, number: int, most: int | None = None) -> list[Element]:
        """Return the Python stack of a number of `StackTable.interpreter`."""
        return [frame for frame, _ in self._python(number) if frame is not None][:most]

    def _python(self, number: int) -> Iterator[tuple[Element | None, bool]]:
        """Yield the frames, None for ours, and whether each was entered from C, down to the one
        that began the capture.
        """
        python = self.profile.python
        if python is None or not 0 < number <= len(python):
            return iter(())
        found: list[tuple[Element | None, bool]] = []
        for node in python.outwards(number):
            code = python.codes[int(python.code[node])]
            frame = None if code.own else (code.name, code.file, int(python.line[node]))
            found.append((frame, bool(python.entry[node])))
        tracked = self.profile.capture.tracked
        if tracked is not None:
            shown = [frame for frame, _ in found if frame is not None]
            below = frames_below(shown, tracked.root)
            while below:
                below -= found.pop()[0] is not None
        return iter(found)

    def native(self, stack: int, most: int | None = None) -> list[Element]:
        """Return the native stack, without the function that was called to allocate."""
        return [self._element(at) for at in self._native(stack)][:most]

    def _native(self, stack: int) -> list[Location]:
        symbols = self.symbols
        places = symbols.locations_of_stack[symbols.offsets[stack] : symbols.offsets[stack + 1]]
        found = [symbols.locations[k] for k in places.tolist()]
        if not self.profile.stacks.leaf_exact:
            return found
        inlined = next((k for k, at in enumerate(found) if not at.inlined), 0)
        return found[inlined + 1 :]

    def _element(self, at: Location) -> Element:
        function = self.symbols.functions[at.function]
        return function.name, at.file or function.file or function.module or _NO_FILE, at.line

    def hybrid(self, stack: int, number: int, most: int | None = None) -> list[Element]:
        """Return both: each evaluation loop of the interpreter is replaced by the Python frames
        that it ran; those without a loop are outermost. Without Python frames it stays.
        """
        python = self._python(number)
        found: list[Element] = []
        for at in self._native(stack):
            if not number or not _EVALUATION_LOOP.fullmatch(
                self.symbols.functions[at.function].name
            ):
                found.append(self._element(at))
                continue
            for frame, entered in python:
                if frame is not None:
                    found.append(frame)
                if entered:
                    break
        found += [frame for frame, _ in python if frame is not None]
        return found[:most]
