"""Stacks as people read them: functions instead of addresses, inlined calls spelled out.

A symbolizer gives, for each address, the functions that are active there, innermost first. `name_stacks` replaces every
address of a `StackTable` by them; the result, `NamedStacks`, is again one flat array of ids with offsets into it, so that
a million stacks cost arrays and not objects. `Frame` objects exist once per distinct place in the program.

Names come from files of strangers: they are cut to a sane length and freed of control characters here, once, and
nothing downstream may treat them as markup.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mem_parser.model import LOST_CAUSES, STACK_LOST_SHIFT, IntArray, StackTable

LONGEST_NAME = 1024
"""Characters of a function, file or module name that are kept."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_PATH = re.compile(r"(?:/|[A-Za-z]:\\|~/)[\w.+@%~-]*(?:[/\\][\w.+@%~ -]*)*[/\\]([\w.+@%~-]+)")


class Frame(NamedTuple):
    """One function active in a stack. ``file`` and ``module`` may be empty; ``line`` 0 is unknown."""

    function: str
    file: str = ""
    line: int = 0
    module: str = ""
    inlined: bool = False


@dataclass(slots=True)
class NamedStacks:
    """All stacks, named: stack *k* is ``ids[offsets[k]:offsets[k + 1]]``, innermost first, ids into ``frames``."""

    frames: list[Frame]
    offsets: IntArray
    ids: IntArray
    notes: list[str] = field(default_factory=list)
    """Why names are missing, one sentence per module."""

    def __len__(self) -> int:
        return len(self.offsets) - 1


def clean(text: str) -> str:
    """Return ``text`` without control and direction characters, cut to `LONGEST_NAME`."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def name_stacks(
    stacks: StackTable,
    place: IntArray,
    places: Sequence[Iterable[Frame]],
    notes: Sequence[str] = (),
) -> NamedStacks:
    """Replace every address by the functions active there.

    ``place[i]`` is the position in ``places`` for ``stacks.frames[i]``; a place is the frames there, innermost first,
    and may be empty (the address then vanishes). Stacks without frames get one frame that says why.
    """
    table: dict[Frame, int] = {}
    flat: list[int] = []
    lengths = np.zeros(len(places) + 1, dtype=np.int64)
    for k, frames in enumerate(places):
        before = len(flat)
        for frame in frames:
            flat.append(table.setdefault(_cleaned(frame), len(table)))
        lengths[k + 1] = len(flat) - before
    starts = np.cumsum(lengths)
    counts = lengths[1:][place]
    ids = np.asarray(flat, dtype=np.int64)[_ranges(starts[:-1][place], counts)]
    ends = np.concatenate(([0], np.cumsum(counts)))
    offsets = ends[stacks.offsets]
    return _with_lost(stacks, list(table), offsets, ids, list(notes))


def _cleaned(frame: Frame) -> Frame:
    frame = Frame(*frame)
    return Frame(
        clean(frame.function) or "??",
        clean(frame.file),
        max(int(frame.line), 0),
        clean(frame.module),
        bool(frame.inlined),
    )


def _ranges(starts: IntArray, counts: IntArray) -> IntArray:
    """Return the positions starts[0]..starts[0]+counts[0]-1, starts[1].. and so on, back to back."""
    total = int(counts.sum())
    if total == 0:
        return np.zeros(0, dtype=np.int64)
    jump = np.repeat(starts - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    return jump + np.arange(total)


def _with_lost(
    stacks: StackTable, frames: list[Frame], offsets: IntArray, ids: IntArray, notes: list[str]
) -> NamedStacks:
    """Give each stack without frames one frame naming the cause."""
    lengths = np.diff(offsets)
    empty = np.flatnonzero(lengths == 0)
    if len(empty) == 0:
        return NamedStacks(frames, offsets, ids, notes)
    causes = stacks.flags[empty].astype(np.int64) >> STACK_LOST_SHIFT
    extra: dict[int, int] = {}
    for cause in np.unique(causes).tolist():
        extra[cause] = len(frames)
        text = LOST_CAUSES.get(cause, "no frames" if cause == 0 else f"cause {cause}")
        frames.append(Frame(f"[stack lost: {text}]"))
    inserted = np.asarray([extra[c] for c in causes.tolist()], dtype=np.int64)
    ids = np.insert(ids, offsets[empty], inserted)
    lengths[empty] = 1
    return NamedStacks(frames, np.concatenate(([0], np.cumsum(lengths))), ids, notes)


def without_paths(text: str) -> str:
    """Return ``text`` with every path in it replaced by its last part."""
    return _PATH.sub(lambda found: found.group(1), text)


def confidential(names: NamedStacks) -> NamedStacks:
    """Return the same stacks without source files, lines and folders: functions and module base names stay."""
    frames = [
        Frame(
            without_paths(frame.function),
            "",
            0,
            frame.module.rsplit("/", 1)[-1].rsplit("\\", 1)[-1],
            frame.inlined,
        )
        for frame in names.frames
    ]
    notes = [without_paths(note) for note in names.notes]
    return dataclasses.replace(names, frames=frames, notes=notes)
