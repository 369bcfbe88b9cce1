"""Labels in the arena of a segment: honest ones, and forged ones."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_profiler.segment import arena, layout
from mem_profiler.segment.pylabels import read_labels
from python_arena import Arena

THREAD, TASK = layout.LABEL_KINDS


class Labelled(Arena):
    def label(self, kind: int, name: str, outer: int = 0, size: int | None = None) -> int:
        text = name.encode()
        head = struct.pack("<IHH", outer, kind, len(text) if size is None else size)
        return self.add(layout.STACK_PYTHON_LABEL, head + text)

    def labelled(self, native: int, python: int, label: int) -> int:
        return self.add(layout.STACK_PAIR, struct.pack("<QQ", native, label), python)


def honest() -> tuple[Labelled, list[int]]:
    made = Labelled()
    native = made.native(0x1000, 0x2000)
    frame = made.frame(0, made.code("f", "app.py", 1, b""), 0, 1)
    io = made.label(THREAD, "io")
    fetch = made.label(TASK, "fetch \u00fc", io)
    other = made.label(TASK, "")
    again = made.label(TASK, "fetch \u00fc", io)
    ids = [made.labelled(native, frame, label) for label in (io, fetch, other, again)]
    return made, [*ids, made.pair(native, frame), native]


def paths(made: Labelled, ids: list[int]) -> list[str]:
    words = made.array()
    stacks = arena.read_stacks(words, np.array(ids, np.int64))
    labels, numbers = read_labels(words, stacks.label_numbers.astype(np.int64))
    assert labels is not None
    return [labels.path(number) for number in numbers.tolist()]


def test_pairs_name_the_labels_of_their_stacks() -> None:
    made, ids = honest()
    fetch = "thread io, task fetch \u00fc"
    assert paths(made, ids) == ["thread io", fetch, "other tasks", fetch, "", ""]


def test_a_label_that_makes_no_sense_is_left_out() -> None:
    made, ids = honest()
    native, frame = ids[-1], made.frame(0, 0, 0)
    wrong = [made.label(9, "no kind"), made.label(TASK, "after itself", 10**6), native, 10**7, 3]
    within = made.label(TASK, "in none", wrong[0])
    longer = made.label(TASK, "x", 0, 9999)
    found = paths(made, [made.labelled(native, frame, k) for k in (*wrong, within, longer)])
    assert found[:5] == [""] * 5
    assert found[5:] == ["task in none", "task x" + "\\x00" * 7]


@given(st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 2**64 - 1)), max_size=30))
def test_forged_words_never_lead_out_of_the_arena(changes: list[tuple[int, int]]) -> None:
    made, ids = honest()
    words = made.array()
    for at, word in changes:
        words[at % len(words)] = word % 200 if at % 2 else word
    stacks = arena.read_stacks(words, np.array(ids, np.int64))
    labels, numbers = read_labels(words, stacks.label_numbers.astype(np.int64))
    assert labels is not None or not numbers.any()
    if labels is not None:
        assert int(numbers.max(initial=0)) <= len(labels)
        assert (labels.outer <= np.arange(len(labels))).all()
        assert set(labels.kind.tolist()) <= {THREAD, TASK}
