"""Put Python's frames into native stacks, where the interpreter's evaluation loops are.

An evaluation loop (one `_PyEval_EvalFrameDefault` on the native stack) runs a row of Python frames
that ends, outwards, with one that was entered from C. So the first loop, from the innermost
outwards, stands for the frames up to and including the first with `PythonStacks.entry`, the next
loop for those up to the next, and so on. Python 3.9 and 3.10 have one loop for each frame.

Where the numbers differ nobody knows which frames belong to which loop: then all Python frames of
the stack are inside of its innermost loop; without any, inside of its innermost frame of the
interpreter; without that, at its outer end. Such stacks are counted. A native stack that was cut at
the depth limit has its inner loops; the Python frames of the others are at its outer end.

Where the interpreter's own frames are hidden, so is what is outside of all of them: how the program
or the thread began, and that outer native frames were cut, if no Python frame is missing. So what
one Python function called is in one place.

The result is stacks of locations as before, so all that works on names works on it. Frames are
placed by counting, some hundred thousand at a time: a profile may have many millions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mem_parser.interning import distinct
from mem_parser.model import STACK_CUT, BoolArray, IntArray, Profile, StackTable
from mem_parser.python.functions import python_locations
from mem_parser.python.interpreter import FunctionKinds, InterpreterCode, interpreter_code
from mem_parser.python.nnmodules import ModuleCalls
from mem_parser.python.stacks import PythonStacks
from mem_parser.python.view import PythonView
from mem_parser.symbols.symbolizer import AddressNames, Distinct, lost_stacks
from mem_parser.symbols.table import Function, Symbols
from mem_parser.units import counted
from mem_parser.words import phrase

NO_PYTHON = "[no Python frame]"
"""The only frame of a stack without Python frames, where only these are shown."""
MOST_DEPTH = 1 << 14
"""Python frames of a stack that are shown at most."""
MOST_FRAMES = 1 << 26
"""Python frames of all stacks together that are shown at most."""
_LEAST_FRAMES, _TIMES = 1 << 22, 256
"""As many are always shown, and this many for each stack and node: a forged tree makes stacks of
its depth out of few bytes.
"""
_FRAMES_AT_A_TIME = 1 << 20
_UNPLACED_SHARE = 0.01
"""Of the stacks with Python frames; fewer change nothing that a reader could see."""
_OWN = -1
"""In place of the row of a frame that is this project's own: it stands for its evaluation loop."""
_FRAMES_MISSING = "python"
"""The count of samples whose stacks have not all their Python frames."""
_Rows = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Spliced:
    """Names with Python's frames in their stacks, and ``notes`` on them: sentences for the user.

    ``unplaced`` are the stacks whose Python frames are not known to be where they are shown,
    ``cut`` those of which outer Python frames are left out. ``beside_python`` and ``called`` are
    those of `Symbols`.
    """

    names: AddressNames
    unplaced: int = 0
    cut: int = 0
    notes: list[str] = field(default_factory=list)
    beside_python: bool = False
    called: npt.NDArray[np.int32] | None = None

    def spell(self) -> Symbols:
        """Replace the address of every frame by its locations."""
        return dataclasses.replace(
            self.names.spell(), beside_python=self.beside_python, called=self.called
        )


def spliced(
    profile: Profile,
    names: AddressNames,
    view: PythonView = PythonView.MIXED,
    *,
    nn_modules: bool = False,
    kinds: FunctionKinds | None = None,
    holding: BoolArray | None = None,
) -> Spliced:
    """Return ``names`` of ``profile`` with the stacks that ``view`` asks for. ``kinds`` and
    ``holding`` are those of `interpreter_code`.

    ``nn_modules``: a call of a module of torch's is one frame (`ModuleCalls`).
    Stacks keep their numbers. A stack without Python frames stays as it is, except that a view of
    Python alone shows `NO_PYTHON` for it; lost stacks say so in every view.
    """
    python = profile.python
    if python is None or not len(python):
        if view is not PythonView.PYTHON:
            return Spliced(names)
        empty = np.zeros(0, dtype=np.uint32)
        python = PythonStacks(empty, empty, empty, np.zeros(0, dtype=np.bool_))
        native = profile.stacks.numbered(None, profile.stacks.label)
        profile = dataclasses.replace(profile, stacks=native)
    code = interpreter_code(profile.modules, names, kinds, holding)
    return _Splicer(profile, python, names, view, code, nn_modules=nn_modules).run()


@dataclass(slots=True)
class _Batch:
    """Stacks [``low``, ``high``): their native frames, and their Python frames back to back.

    ``of_frame`` are rows of `Distinct`; ``first`` is where each stack's native frames begin in it,
    ``stack`` the stack of each, counted from ``low``. ``starts`` is where each stack's Python
    frames begin in ``rows`` and ``entry``, ``owner`` the stack of each.
    """

    low: int
    high: int
    of_frame: _Rows
    first: IntArray
    stack: IntArray
    length: IntArray
    starts: IntArray
    owner: IntArray
    rows: _Rows
    entry: BoolArray


class _Splicer:
    """One run over one profile."""

    def __init__(
        self,
        profile: Profile,
        python: PythonStacks,
        names: AddressNames,
        view: PythonView,
        code: InterpreterCode,
        *,
        nn_modules: bool,
    ) -> None:
        self.names, self.view, self.python = names, view, python
        self.stacks = names.stacks
        self.number = profile.stacks.interpreters.astype(np.int64)
        self.has = self.number > 0
        self.lost = lost_stacks(self.stacks)
        self.code = code
        self.builder = names.builder
        self.unplaced = 0
        own = python.own()
        used = _used(python, self.number) & ~own
        locations, self.row_of_node = python_locations(python, self.builder, used)
        self.expansion = [*names.expansion, *((k,) for k in locations)]
        self.row_of_node = self.row_of_node + np.int32(len(names.expansion))
        self.row_of_node[own] = _OWN
        self.nn_modules = nn_modules
        whole = np.concatenate(([0], depths(python)))
        depth = whole[self.number]
        most = _most_depth(depth, _TIMES * (len(depth) + len(python)))
        self.too_deep = depth > most
        self.length = np.minimum(depth, most)
        self.is_whole = not profile.capture.lost.get(_FRAMES_MISSING)

    def run(self) -> Spliced:
        """Splice all stacks, some at a time."""
        alone = self._without_python()
        calls = self._module_calls() if self.nn_modules else None
        counts, parts = [np.zeros(1, dtype=np.int64)], [np.zeros(0, dtype=np.int32)]
        for low, high in self._ranges():
            rows, lengths = self._spliced(self._batch(low, high), alone)
            rows, lengths = _without_own(rows, lengths, alone)
            if calls is not None:
                rows, lengths = calls.folded(rows, lengths)
            parts.append(rows)
            counts.append(lengths)
        offsets = np.cumsum(np.concatenate(counts))
        of_frame = np.concatenate(parts)
        names = self._names(offsets, of_frame)
        cut = int(self.too_deep.sum())
        mixed = self.view is PythonView.MIXED
        called = self._called() if self.view is PythonView.PYTHON else None
        return Spliced(names, self.unplaced, cut, self._notes(cut), mixed, called)

    def _module_calls(self) -> ModuleCalls:
        code = np.full(len(self.expansion), -1, dtype=np.int64)
        shown = self.row_of_node != _OWN
        code[self.row_of_node[shown]] = self.python.code[shown]
        return ModuleCalls(self.builder, self.expansion, code, self.python.codes)

    def _called(self) -> npt.NDArray[np.int32]:
        """Return for each stack the function that was called to allocate; -1: unknown."""
        called = np.full(len(self.stacks), -1, dtype=np.int32)
        some = np.flatnonzero(self.stacks.depths)
        leaf = self.names.distinct.of_frame[self.stacks.offsets[:-1][some]]
        some, leaf = some[self.code.allocator[leaf]], leaf[self.code.allocator[leaf]]
        distinct, back = np.unique(leaf, return_inverse=True)
        locations = [self.builder.locations[self.expansion[k][-1]] for k in distinct.tolist()]
        functions = np.array([place.function for place in locations], dtype=np.int32)
        if len(some):
            called[some] = functions[np.asarray(back).reshape(-1)]
        return called

    def _without_python(self) -> int:
        """Return the row of `NO_PYTHON`."""
        place = self.builder.location(Function(NO_PYTHON, NO_PYTHON, ""))
        self.expansion.append((place,))
        return len(self.expansion) - 1

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of stacks with about `_FRAMES_AT_A_TIME` frames each."""
        ends = np.cumsum(self.stacks.depths + self.length + 1)
        low = 0
        while low < len(ends):
            before = int(ends[low - 1]) if low else 0
            high = int(np.searchsorted(ends, before + _FRAMES_AT_A_TIME, side="right"))
            high = max(high, low + 1)
            yield low, high
            low = high

    def _batch(self, low: int, high: int) -> _Batch:
        bounds = self.stacks.offsets[low : high + 1]
        of_frame = self.names.distinct.of_frame[bounds[0] : bounds[-1]]
        length = self.length[low:high]
        starts = np.cumsum(length) - length
        node = self._outwards(self.number[low:high], starts, length)
        return _Batch(
            low,
            high,
            of_frame,
            bounds[:-1] - bounds[0],
            np.repeat(np.arange(high - low), np.diff(bounds)),
            length,
            starts,
            np.repeat(np.arange(high - low), length),
            self.row_of_node[node],
            self.python.entry[node],
        )

    def _outwards(self, number: IntArray, starts: IntArray, length: IntArray) -> IntArray:
        """Return the nodes of the stacks of these numbers, innermost first: so many of each, from
        its start on.
        """
        node = np.zeros(int(length.sum()), dtype=np.int64)
        left = np.flatnonzero(length)
        at, rest, number = starts[left], length[left], number[left]
        while len(left):
            node[at] = number - 1
            rest = rest - 1
            left = np.flatnonzero(rest)
            at, rest = at[left] + 1, rest[left]
            number = self.python.parent[number[left] - 1].astype(np.int64)
        return node

    def _spliced(self, batch: _Batch, alone: int) -> tuple[_Rows, IntArray]:
        """Return the rows of the stacks of ``batch``, and the depth of each."""
        kept = self._kept(batch)
        slot = self._slots(batch)
        stacks = batch.high - batch.low
        rows, length = batch.rows, batch.length
        if self.view is PythonView.PYTHON:
            bare = ~(self.has | self.lost)[batch.low : batch.high]
            slot = np.concatenate((slot, _ends(batch)[bare]))
            order = np.argsort(slot, kind="stable")
            slot = slot[order]
            rows = np.concatenate((rows, np.full(int(bare.sum()), alone, dtype=np.int32)))[order]
            length = length + bare
        # Each stack has one place more than native frames, for what is at its outer end.
        places = len(batch.of_frame) + stacks
        place = np.arange(len(batch.of_frame)) + batch.stack
        shown = np.zeros(places, dtype=np.int64)
        shown[place] = kept
        before = np.cumsum(shown) - shown
        inside = np.cumsum(np.bincount(slot, minlength=places))
        result = np.empty(len(rows) + int(kept.sum()), dtype=np.int32)
        result[before[slot] + np.arange(len(slot))] = rows
        mine = place[kept]
        result[before[mine] + inside[mine]] = batch.of_frame[kept]
        native = np.bincount(batch.stack[kept], minlength=stacks)
        return result, native + length

    def _kept(self, batch: _Batch) -> BoolArray:
        """Return which native frames the view shows."""
        has = self.has[batch.low : batch.high][batch.stack]
        lost = self.lost[batch.low : batch.high][batch.stack]
        if self.view is PythonView.PYTHON:
            return np.asarray(lost & ~has)
        if self.view is PythonView.NATIVE:
            return np.asarray(~(lost & has))
        hidden = self.code.own[batch.of_frame]
        hidden[self._allocating(batch)] = False
        return np.asarray(~(has & (hidden | lost | self._beginning(batch))))

    def _beginning(self, batch: _Batch) -> BoolArray:
        """Return the frames outside of all of the interpreter's that begin programs or threads,
        where nothing else is outside of these.
        """
        own, beginning = (k[batch.of_frame] for k in (self.code.own, self.code.beginning))
        places = np.arange(len(own))
        # Of each stack the outermost frame of the interpreter, and the outermost that is neither.
        last_own, last_other = (np.full(batch.high - batch.low, -1) for _ in range(2))
        last_own[batch.stack[own]] = places[own]
        other = ~(own | beginning)
        last_other[batch.stack[other]] = places[other]
        ends = np.where(last_own > last_other, last_own, len(own))
        return np.asarray(beginning & (places > ends[batch.stack]))

    def _allocating(self, batch: _Batch) -> IntArray:
        """Return the innermost frames that are allocation functions."""
        first = batch.first[np.flatnonzero(self.stacks.depths[batch.low : batch.high])]
        return first[self.code.allocator[batch.of_frame[first]]]

    def _slots(self, batch: _Batch) -> IntArray:
        """Return for each Python frame the place of the native frame that it is inside of."""
        stacks = batch.high - batch.low
        loops = _loops(batch, self.code)
        loops_of = np.bincount(batch.stack[loops], minlength=stacks)
        group, groups = _groups(batch)
        has = batch.length > 0
        cut = self.stacks.flags[batch.low : batch.high] & STACK_CUT != 0
        complete = ~self.too_deep[batch.low : batch.high]
        agree = (loops_of == groups) & complete
        known = agree | (cut & (loops_of > 0) & (loops_of <= groups))
        known |= ~complete & (loops_of >= groups)
        self.unplaced += int((has & ~known & ~self.lost[batch.low : batch.high]).sum())
        slot = self._fallback(batch, loops)[batch.owner]
        placed = np.flatnonzero(known[batch.owner])
        owner = batch.owner[placed]
        slot[placed] = _ends(batch)[owner]
        inner = group[placed] < loops_of[owner]
        behind = np.cumsum(loops_of) - loops_of
        at = loops[behind[owner[inner]] + group[placed[inner]]]
        slot[placed[inner]] = at + batch.stack[at]
        return slot

    def _fallback(self, batch: _Batch, loops: IntArray) -> IntArray:
        """Return the place of each stack where Python frames of no known loop are."""
        result = _ends(batch)
        own = self.code.own[batch.of_frame]
        own[self._allocating(batch)] = False
        for found in (np.flatnonzero(own)[::-1], loops[::-1]):
            result[batch.stack[found]] = found + batch.stack[found]
        return result

    def _names(self, offsets: IntArray, of_frame: _Rows) -> AddressNames:
        names, stacks = self.names, self.stacks
        flags = stacks.flags.copy()
        flags[self.lost & self.has] = 0
        if self.view is PythonView.PYTHON:
            flags[~self.lost] = 0
        elif self.view is PythonView.MIXED and self.is_whole:
            flags[self.has] &= ~np.uint32(STACK_CUT)
        flags[self.too_deep] |= STACK_CUT
        # Only a lost stack of one frame is known by its address; nothing reads the others.
        frames = np.zeros(len(of_frame), dtype=np.uint64)
        marked = np.flatnonzero(self.lost & ~self.has & (stacks.depths == 1))
        frames[offsets[marked]] = stacks.frames[stacks.offsets[marked]]
        table = StackTable(
            offsets, frames, flags, stacks.generation, stacks.leaf_exact, label=stacks.label
        )
        more = len(self.expansion) - len(names.expansion)
        distinct = Distinct(
            np.concatenate((names.distinct.address, np.zeros(more, dtype=np.uint64))),
            np.concatenate((names.distinct.generation, np.zeros(more, dtype=np.uint32))),
            np.concatenate((names.distinct.foreign_leaf, np.zeros(more, dtype=np.bool_))),
            of_frame,
        )
        module_of = np.concatenate((names.module_of, np.full(more, -1, dtype=np.int64)))
        return dataclasses.replace(
            names,
            stacks=table,
            distinct=distinct,
            module_of=module_of,
            expansion=self.expansion,
            nameless=self._nameless(of_frame),
        )

    def _nameless(self, of_frame: _Rows) -> dict[str, int]:
        """Return the modules of frames that are still shown and have no name."""
        used = np.bincount(of_frame, minlength=len(self.expansion)) > 0
        found: dict[str, int] = {}
        for row in np.flatnonzero(used).tolist():
            function = self.builder.functions[
                self.builder.locations[self.expansion[row][-1]].function
            ]
            if not function.known and function.module in self.names.nameless:
                found[function.module] = found.get(function.module, 0) + 1
        return found

    def _notes(self, cut: int) -> list[str]:
        notes: list[str] = []
        total = int(self.has.sum())
        if not total and self.view is PythonView.PYTHON:
            notes.append(phrase("the file holds no Python frames"))
        if self.unplaced > _UNPLACED_SHARE * total and self.view is not PythonView.PYTHON:
            notes.append(
                phrase(
                    "in {number} of {stacks} the order of Python and native frames is not known; "
                    "Python's are shown together",
                    number=f"{self.unplaced:,}",
                    stacks=counted(total, "stack"),
                )
            )
        if cut:
            stacks = counted(cut, "stack")
            notes.append(phrase("outer Python frames of {stacks} are left out", stacks=stacks))
        return notes


def is_whole(profile: Profile) -> bool:
    """Tell whether `spliced` shows all Python frames of all stacks; of honest ones it does."""
    python, number = profile.python, profile.stacks.interpreters
    if python is None or not number.any():
        return True
    depth = np.concatenate(([0], depths(python)))[number]
    return int(depth.max()) <= MOST_DEPTH and int(depth.sum()) <= _LEAST_FRAMES


def _without_own(rows: _Rows, lengths: IntArray, alone: int) -> tuple[_Rows, IntArray]:
    """Return stacks of so many ``rows`` each without our own frames; of nothing else: ``alone``."""
    shown = rows != _OWN
    if shown.all():
        return rows, lengths
    ends = np.cumsum(lengths)
    stack = np.repeat(np.arange(len(lengths)), lengths)
    bare = (np.bincount(stack[shown], minlength=len(lengths)) == 0) & (lengths > 0)
    rows[ends[bare] - 1] = alone
    shown[ends[bare] - 1] = True
    return rows[shown], np.bincount(stack[shown], minlength=len(lengths))


def depths(python: PythonStacks) -> IntArray:
    """Return for each node the number of frames from it outwards."""
    depth = np.ones(len(python), dtype=np.int64)
    above = python.parent.astype(np.int64) - 1
    # Each round doubles how far `above` leads, so that a chain of n nodes takes log2(n) rounds.
    left = np.flatnonzero(above >= 0)
    while len(left):
        further = above[left]
        depth[left] += depth[further]
        above[left] = above[further]
        left = left[above[left] >= 0]
    return depth


def _used(python: PythonStacks, number: IntArray) -> BoolArray:
    """Return which nodes are on the stacks of these numbers, as far as stacks are shown."""
    result = np.zeros(len(python) + 1, dtype=np.bool_)
    above = np.concatenate(([0], python.parent.astype(np.int64)))
    left = distinct(number)
    for _ in range(MOST_DEPTH):
        result[left] = True
        left = distinct(above[left])
        left = left[~result[left]]
        if not len(left):
            break
    return result[1:]


def _most_depth(depth: IntArray, frames: int) -> int:
    """Return the largest depth at most `MOST_DEPTH` to which all stacks together have about so many
    Python frames, in the bounds above, or fewer; at least 1.
    """
    frames = min(MOST_FRAMES, max(_LEAST_FRAMES, frames))
    low, high = 1, MOST_DEPTH
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(depth, middle).sum()) <= frames:
            low = middle
        else:
            high = middle - 1
    return low


def _ends(batch: _Batch) -> IntArray:
    """Return the place at the outer end of each stack."""
    count = np.bincount(batch.stack, minlength=batch.high - batch.low)
    return np.cumsum(count) + np.arange(len(count))


def _loops(batch: _Batch, code: InterpreterCode) -> IntArray:
    """Return the innermost frame of each evaluation loop.

    A handler runs on the loop that is the next frame outwards; both are one loop.
    """
    handler = code.handler[batch.of_frame]
    any_part = code.loop[batch.of_frame] | handler
    goes_on = np.zeros(len(any_part), dtype=np.bool_)
    goes_on[1:] = handler[:-1] & (batch.stack[1:] == batch.stack[:-1])
    return np.flatnonzero(any_part & ~goes_on)


def _groups(batch: _Batch) -> tuple[IntArray, IntArray]:
    """Return for each Python frame the number of its evaluation loop, counted outwards from 0, and
    for each stack how many there are.
    """
    stacks = batch.high - batch.low
    before: IntArray = np.cumsum(batch.entry) - batch.entry
    filled = np.flatnonzero(batch.length)
    base = np.zeros(stacks, dtype=np.int64)
    base[filled] = before[batch.starts[filled]]
    group = before - base[batch.owner]
    groups = np.zeros(stacks, dtype=np.int64)
    groups[filled] = group[batch.starts[filled] + batch.length[filled] - 1] + 1
    return group, groups
