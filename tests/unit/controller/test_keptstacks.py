"""Stacks that are read as they come: the same as if all were read at once, at places that stay."""

from __future__ import annotations

import struct
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.profile import keptstacks, tables
from mem_profiler.profile.keptstacks import KeptStacks
from mem_profiler.profile.tables import ReadOnce, Stacks
from mem_profiler.segment import layout
from python_arena import Arena


class Words:
    """An arena in place of a segment's; `hidden` records are still being written."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.hidden: set[int] = set()
        self.words = np.zeros(0, np.uint64)
        self.read_anew = 0

    def update(self) -> None:
        before = self.words
        self.words = self._arena.array()
        self.words[: len(before)] = before
        for record in self.hidden:
            self.words[record] = 0

    def again(self) -> None:
        self.read_anew += 1
        self.words = np.zeros(0, np.uint64)
        self.update()


class Capture:
    """Stands for a control page."""

    def __init__(self, number: int = 1) -> None:
        self._number = number

    def number(self, _: str) -> int:
        return self._number


def kept_of(arena: Arena) -> tuple[KeptStacks, Words]:
    words = Words(arena)
    with mock.patch.object(keptstacks, "ArenaWords", return_value=words):
        return KeptStacks(None), words  # type: ignore[arg-type]


def at_once(arena: Arena, ids: list[int]) -> Stacks:
    with mock.patch.object(tables.arena, "read_arena", return_value=arena.array()):
        return ReadOnce(None).read(Capture(), np.array(ids, np.int64))  # type: ignore[arg-type]


def read(kept: KeptStacks, ids: list[int], capture: int = 1) -> Stacks:
    return kept.read(Capture(capture), np.array(ids, np.int64))  # type: ignore[arg-type]


def contents(found: Stacks, place: int) -> tuple[Any, ...]:
    """All that a stack is."""
    table, python, labels = found.table, found.python, found.labels
    number, label = int(table.interpreters[place]), int(table.label_numbers[place])
    frames = []
    for node in python.outwards(number) if python is not None else []:
        assert python is not None
        code = python.codes[python.code[node]]
        frames.append((code.name, int(python.line[node]), bool(python.entry[node])))
    return (
        table.frames_between(place, place + 1).tolist(),
        int(table.flags[place]),
        int(table.generation[place]),
        frames,
        labels.path(label) if labels is not None else "",
    )


def label(arena: Arena, name: str, outer: int) -> int:
    data = name.encode()
    return arena.add(
        layout.STACK_PYTHON_LABEL, struct.pack("<IHH", outer, 1 + len(data) % 2, len(data)) + data
    )


def pair(arena: Arena, native: int, python: int, label: int) -> int:
    content = struct.pack("<QQ", native, label) if label else struct.pack("<Q", native)
    return arena.add(layout.STACK_PAIR, content, python)


@given(st.data())
def test_stacks_read_as_they_come_are_those_that_are_read_at_once(data: st.DataObject) -> None:
    arena = Arena()
    kept, words = kept_of(arena)
    natives, frames, codes, labels, ids = (
        [arena.native(5)],
        [0],
        [arena.code("f", "x.py", 3, b"")],
        [0],
        [3],
    )
    first: dict[int, int] = {}
    series = None
    for _ in range(data.draw(st.integers(1, 6))):
        for what in data.draw(st.lists(st.sampled_from("nfclpp"), max_size=8)):
            if what == "n":
                natives.append(
                    arena.native(*data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
                )
                ids.append(natives[-1])
            elif what == "c":
                codes.append(arena.code(data.draw(st.sampled_from("fgh")), "x.py", 3, b""))
            elif what == "f":
                frames.append(
                    arena.frame(
                        data.draw(st.sampled_from(frames)),
                        data.draw(st.sampled_from(codes)),
                        0xFFFFFFFF,
                        data.draw(st.integers(0, 1)),
                    )
                )
            elif what == "l":
                labels.append(
                    label(
                        arena,
                        data.draw(st.sampled_from(["a", "bb"])),
                        data.draw(st.sampled_from(labels)),
                    )
                )
            else:
                ids.append(
                    pair(
                        arena,
                        *(data.draw(st.sampled_from(some)) for some in (natives, frames, labels)),
                    )
                )
        asked = sorted(data.draw(st.sets(st.sampled_from(ids))))
        mine, other = read(kept, asked), at_once(arena, asked)
        for id_, here, there in zip(asked, mine.place.tolist(), other.place.tolist(), strict=True):
            assert contents(mine, here) == contents(other, there)
            assert first.setdefault(id_, here) == here
        assert series in (None, mine.table.series)
        series = mine.table.series
        shown = [repr(contents(mine, k)) for k in range(len(mine.table))]
        assert len(set(shown)) == len(shown)
        assert set(shown) == {repr(contents(mine, place)) for place in first.values()}
    assert words.read_anew == 0


def test_a_table_begins_with_the_stacks_of_the_one_before() -> None:
    arena = Arena()
    kept, _ = kept_of(arena)
    f = arena.frame(0, arena.code("f", "x.py", 3, b""), 0xFFFFFFFF, 1)
    one = pair(arena, arena.native(5), f, label(arena, "a", 0))
    before = read(kept, [one])
    was = contents(before, 0)
    two = arena.native(4, 4)
    after = read(kept, [one, two])
    assert (len(before.table), len(after.table)) == (1, 2)
    assert contents(after, 0) == contents(before, 0) == was
    assert after.table.frames.tolist() == [5, 4, 4]


def test_another_capture_begins_anew() -> None:
    arena = Arena()
    kept, _ = kept_of(arena)
    one, two = arena.native(5), arena.native(6)
    before = read(kept, [one])
    after = read(kept, [two], capture=2)
    assert after.table.series is not before.table.series
    assert after.table.frames.tolist() == [6]
    assert before.table.frames.tolist() == [5]


def test_a_record_that_was_half_written_is_read_again_and_gets_its_own_place() -> None:
    arena = Arena()
    kept, words = kept_of(arena)
    one, two = arena.native(5), arena.native(6)
    words.hidden = {two}
    before = read(kept, [one, two])
    assert contents(before, int(before.place[1]))[1] == layout.STACK_UNREADABLE << 8
    words.hidden = set()
    after = read(kept, [one, two])
    assert words.read_anew == 2
    assert [contents(after, k)[0] for k in after.place.tolist()] == [[5], [6]]
    assert after.place[0] == before.place[0]
    read(kept, [one, two])
    assert words.read_anew == 2


def test_stacks_of_more_frames_than_fit_are_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keptstacks, "_FRAMES_MAX", 5)
    arena = Arena()
    kept, _ = kept_of(arena)
    ids = [arena.native(1, 2), arena.native(3, 4, 5), arena.native(6), arena.native(7)]
    found = read(kept, ids[:2])
    assert found.table.frames.tolist() == [1, 2, 3, 4, 5]
    found = read(kept, ids)
    assert [contents(found, k)[1] for k in found.place.tolist()] == [
        0, 0, *[layout.STACK_UNREADABLE << 8] * 2
    ]  # fmt: skip
