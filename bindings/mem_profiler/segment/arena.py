"""The arena of a segment: interned records, most of them stacks.

Model: a record has a head (struct mp_stack) and words; its id is its offset in the arena / 8. Most
are native stacks. A pair is a native stack with a Python stack on top of it: the ids of the native
record and of the innermost Python frame (`mem_profiler.segment.pyframes`), and that of the label of
its thread or task, if it has one (`mem_profiler.segment.pylabels`). A deep native stack is stored
as runs of frames, which others share: its record names them. A record is stored after those
that it names, so it contains only smaller ids.

Every number is untrusted: a record outside the arena, not published, of another kind, or on top of
an earlier one counts as unreadable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mem_parser.model import STACK_LOST_SHIFT, StackTable
from mem_parser.sharedstacks import SharedStacks
from mem_profiler.segment import layout
from mem_profiler.segment.file import Control, Records, Segment, Words

Ints = NDArray[np.int64]
_SLACK_WORDS = 1 << 16
HEAD_WORDS = layout.STACK.itemsize // 8
_FRAMES_MAX = 1 << 27
"""Frames of all stacks together; pairs that share native stacks could be forged to need more."""
_PIECES_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Found:
    """Records of one kind, by the ids that were asked for: which are `real`, their heads, and in
    `at` where their words begin.
    """

    real: NDArray[np.bool_]
    heads: Records
    at: Ints

    @property
    def depth(self) -> Ints:
        """Words of each record; of one that is not real 0."""
        return np.where(self.real, self.heads["depth"].astype(np.int64), 0)


def read_arena(segment: Segment, control: Control) -> Words:
    """All words of the arena that are in use."""
    arena = control.array(layout.STACKS, 8, control.limit_bytes // 8)
    used = min(control.number("arena_cursor") // 8, arena.rows)
    return segment.read(arena.offset, used * 8).view(np.uint64)


def find(arena: Words, ids: Ints, *kinds: int) -> Found:
    """The records of some kinds with the given ids, which are distinct."""
    real = (ids >= layout.STACK_LOST_MAX) & (ids + HEAD_WORDS <= len(arena))
    at = np.where(real, ids, 0)
    heads = np.zeros(len(ids), layout.STACK)
    if len(arena) >= HEAD_WORDS:
        index = at[:, None] + np.arange(HEAD_WORDS)
        heads = np.ascontiguousarray(arena[index]).view(layout.STACK).reshape(-1)
    depth = heads["depth"].astype(np.int64)
    real &= (heads["hash"] != 0) & (depth > 0) & (depth <= layout.DEPTH_MAX)
    real &= np.isin(heads["kind"], kinds)
    real &= at + HEAD_WORDS + depth <= len(arena)
    real &= _apart(at, np.where(real, HEAD_WORDS + depth, 0))
    return Found(real, heads, at + HEAD_WORDS)


def bytes_of(arena: Words, record: int, kind: int) -> bytes:
    """The content of a record; empty if it is not of that kind."""
    found = find(arena, np.array([record], np.int64), kind)
    if not found.real[0]:
        return b""
    at = int(found.at[0])
    return arena[at : at + int(found.depth[0])].tobytes()


def _apart(at: Ints, length: Ints) -> NDArray[np.bool_]:
    """Which records overlap no earlier record. Honest records are back to back; forged ones that
    overlap could need more memory than there is. `at` may be in any order.
    """
    order = np.argsort(at, kind="stable")
    ends = np.maximum.accumulate((at + length)[order])
    apart = np.ones(len(at), np.bool_)
    apart[order[1:]] = at[order[1:]] >= ends[:-1]
    return np.asarray(apart | (length == 0))


def read_stacks(arena: Words, ids: Ints) -> SharedStacks:
    """The stacks with the given ids (below 16: a lost cause), in that order. `interpreter` has the
    ids of records of Python frames, `label` those of labels.

    A lost stack has the one frame 1; so has a record that cannot be read.
    """
    distinct, back = np.unique(ids, return_inverse=True)
    some = find(arena, distinct, layout.STACK_NATIVE, layout.STACK_JOINED, layout.STACK_PAIR)
    pair = some.real & (some.heads["kind"] == layout.STACK_PAIR) & (some.depth <= 2)
    native = np.where(pair, 0, distinct)
    native[pair] = arena[some.at[pair]].astype(np.int64)
    python = np.where(pair, some.heads["interpreter"], 0).astype(np.uint32)
    label = np.zeros(len(distinct), np.uint32)
    labelled = pair & (some.depth == 2)
    label[labelled] = arena[some.at[labelled] + 1] & layout.U32_MAX
    of_pair = np.asarray(back).reshape(-1)
    natives, of = _native_stacks(arena, native[of_pair])
    python = np.where(natives.flags[of] >> STACK_LOST_SHIFT == 0, python[of_pair], 0)
    return SharedStacks(
        natives,
        of,
        python.astype(np.uint32),
        np.where(python > 0, label[of_pair], 0).astype(np.uint32),
    )


@dataclass(frozen=True)
class _Pieces:
    """Where the frames of stacks are in the arena: the pieces of each stack, innermost first."""

    stack: Ints
    at: Ints
    depth: Ints

    def lay_out(self, arena: Words, real: NDArray[np.bool_], offsets: Ints) -> Words:
        """The frames of all stacks, back to back; of one that is not ``real`` the frame 1."""
        frames = np.ones(int(offsets[-1]), np.uint64)
        wanted = real[self.stack]
        stack, at, depth = self.stack[wanted], self.at[wanted], self.depth[wanted]
        before = np.cumsum(depth) - depth
        own = np.zeros(len(real) + 1, np.int64)
        own[1:] = np.cumsum(np.where(real, np.diff(offsets), 0))
        to = offsets[stack] + before - own[stack]
        for first in range(0, len(at), _PIECES_AT_ONCE):
            some = slice(first, first + _PIECES_AT_ONCE)
            count = depth[some]
            step = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
            frames[np.repeat(to[some], count) + step] = arena[np.repeat(at[some], count) + step]
        return frames


def _pieces(arena: Words, found: Found) -> _Pieces:
    """Where the frames of native records are: one place each, or that of each run."""
    joined = found.real & (found.heads["kind"] == layout.STACK_JOINED)
    joined &= found.depth <= layout.STACK_RUNS_MAX // 2
    words = np.where(joined, found.depth, 0)
    of = np.repeat(np.arange(len(words)), 2 * words)
    first = np.repeat(found.at - (np.cumsum(words) - words), words)
    ids = arena[np.arange(int(words.sum())) + first].view(np.uint32).astype(np.int64)
    used = ids > 0
    of, ids = of[used], ids[used]
    distinct, back = np.unique(ids, return_inverse=True)
    runs = find(arena, distinct, layout.STACK_RUN)
    back = np.asarray(back).reshape(-1)
    plain = np.flatnonzero(found.real & (found.heads["kind"] == layout.STACK_NATIVE))
    stack = np.concatenate((plain, of))
    order = np.argsort(stack, kind="stable")
    at = np.concatenate((found.at[plain], runs.at[back]))
    depth = np.concatenate((found.depth[plain], runs.depth[back]))
    return _Pieces(stack[order], at[order], depth[order])


def _native_stacks(arena: Words, ids: Ints) -> tuple[StackTable, Ints]:
    """The native stacks with these ids, each once, by ascending id, and which is that of each."""
    distinct, back = np.unique(np.append(ids, layout.STACK_UNREADABLE), return_inverse=True)
    of = np.asarray(back, np.int64).reshape(-1)[:-1]
    found = find(arena, distinct, layout.STACK_NATIVE, layout.STACK_JOINED)
    pieces = _pieces(arena, found)
    held = np.bincount(pieces.stack, pieces.depth, len(distinct)).astype(np.int64)
    is_joined = found.heads["kind"] == layout.STACK_JOINED
    told = np.where(is_joined, found.heads["interpreter"].astype(np.int64), found.depth)
    real = found.real & (held == told) & (held > 0) & (held <= layout.DEPTH_MAX)
    real &= np.cumsum(np.where(real, held, 0)) <= _FRAMES_MAX
    depth = np.where(real, held, 1)
    too_many = np.cumsum(depth[of]) > _FRAMES_MAX
    of[too_many] = np.searchsorted(distinct, layout.STACK_UNREADABLE)
    offsets = np.concatenate(([0], np.cumsum(depth))).astype(np.int64)
    cause = np.where(distinct < layout.STACK_LOST_MAX, distinct, layout.STACK_UNREADABLE)
    cut = found.heads["truncated"].astype(np.int64) & 3
    table = StackTable(
        offsets=offsets,
        frames=pieces.lay_out(arena, real, offsets),
        flags=np.where(real, cut, cause << STACK_LOST_SHIFT).astype(np.uint32),
        generation=np.where(real, found.heads["generation"], 0).astype(np.uint32),
        leaf_exact=True,
    )
    return table, of


class ArenaWords:
    """The words of one segment's arena, read incrementally as it grows.

    Words that were read before are not read again. A record that was incomplete at that time stays
    unpublished in this copy; `again` reads everything anew.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._words: Words = np.zeros(0, np.uint64)
        self._used = 0

    @property
    def words(self) -> Words:
        """All words that were in use at the last `update`."""
        return self._words[: self._used]

    def update(self) -> None:
        """Read the words added since the last update."""
        self._read_from(self._used)

    def again(self) -> None:
        """Read all of it anew."""
        self._read_from(0)

    def _read_from(self, first: int) -> None:
        control = self._segment.control()
        arena = control.array(layout.STACKS, 8, control.limit_bytes // 8)
        used = max(self._used, min(control.number("arena_cursor") // 8, arena.rows))
        if used > len(self._words):
            grown = np.zeros(min(arena.rows, used + used // 2 + _SLACK_WORDS), np.uint64)
            grown[: self._used] = self.words
            self._words = grown
        new = self._segment.read(arena.offset + first * 8, (used - first) * 8)
        self._words[first:used] = new.view(np.uint64)
        self._used = used
