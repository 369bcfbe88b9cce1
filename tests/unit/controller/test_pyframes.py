"""Python's frames in the arena of a segment: honest ones, and forged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mem_profiler
from mem_parser.python.stacks import OWN_FOLDER
from mem_profiler.profile.pythonstacks import python_stacks
from mem_profiler.segment import arena, layout
from mem_profiler.segment.pyframes import read_frames
from python_arena import Arena


def honest() -> tuple[Arena, list[int]]:
    made = Arena()
    native = [made.native(0x1000, 0x2000 + k) for k in range(3)]
    # 3.10: four bytes on line 4, four on line 6
    main = made.code("<module>", "app.py", 1, bytes([4, 3, 4, 2]))
    table = bytes([4, 1]) * 3000
    first = made.piece(0, table[:4096])
    f = made.code("f", "app.py", 10, table, made.piece(first, table[4096:]))
    outer = made.frame(0, main, 2, 1)
    inner = made.frame(outer, f, 5000)
    again = made.frame(outer, f, 5000)
    unbegun = made.frame(inner, main, 0xFFFFFFFF)
    stacks = [made.pair(native[0], inner), made.pair(native[1], again), made.pair(native[2], outer)]
    return made, [*stacks, made.pair(native[0], unbegun), native[0]]


def test_pairs_are_native_stacks_with_the_lines_of_python_on_top() -> None:
    made, ids = honest()
    words = made.array()
    stacks = arena.read_stacks(words, np.array(ids, np.int64))
    frames = read_frames(words, stacks.interpreters.astype(np.int64))
    tree, numbers = python_stacks(frames)
    assert tree is not None
    assert stacks.depths.tolist() == [2, 2, 2, 2, 2]
    assert stacks.frames.tolist()[-2:] == stacks.frames.tolist()[:2] == [0x1000, 0x2000]
    found = []
    for at in frames.index_of(stacks.interpreters.astype(np.int64)).tolist():
        nodes = tree.outwards(int(numbers[at])) if at >= 0 else []
        found.append([(tree.codes[tree.code[k]].name, int(tree.line[k])) for k in nodes])
    # instruction 5000 is in the 2501st range of f, which begins one line after its first
    f, main = ("f", 10 + 2501), ("<module>", 6)
    assert found == [[f, main], [f, main], [main], [("<module>", 1), f, main], []]
    assert len(tree) == 3  # the frame that was stored twice is one


def test_our_own_code_is_known_by_its_folder_and_not_by_a_name() -> None:
    package = Path(mem_profiler.__file__).parent
    theirs = ["/app/mem_profiler/memscope/hooks.py", f"{package}2/app.py", "app.py"]
    made = Arena()
    frame = 0
    for file in [*theirs, str(package / "memscope" / "operators.py")]:
        frame = made.frame(frame, made.code("f", file, 1, bytes([4, 3])), 0)
    frames = read_frames(made.array(), np.array([frame], np.int64))
    tree, _ = python_stacks(frames)
    assert tree is not None
    assert [code.file for code in tree.codes] == [*theirs, f"{OWN_FOLDER}memscope/operators.py"]
    assert tree.own().tolist() == [False, False, False, True]


def test_a_stack_that_names_no_frame_has_no_python_part() -> None:
    made, _ = honest()
    native = made.native(0x1000)
    ids = [made.pair(native, k) for k in (native, 3, 10**6)] + [made.pair(10**6, 3)]
    words = made.array()
    stacks = arena.read_stacks(words, np.array(ids, np.int64))
    assert len(read_frames(words, stacks.interpreters.astype(np.int64)).ids) == 0
    assert stacks.flags.tolist()[:3] == [0, 0, 0]
    assert stacks.flags[3] >> 8 == layout.STACK_UNREADABLE


@given(st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 2**64 - 1)), max_size=30))
def test_forged_words_never_lead_out_of_the_arena(changes: list[tuple[int, int]]) -> None:
    made, ids = honest()
    words = made.array()
    for at, word in changes:
        words[at % len(words)] = word % 5000 if at % 2 else word
    stacks = arena.read_stacks(words, np.array(ids, np.int64))
    frames = read_frames(words, stacks.interpreters.astype(np.int64))
    tree, numbers = python_stacks(frames)
    assert (frames.caller < np.arange(len(frames.ids))).all()
    if tree is not None:
        assert int(numbers.max()) <= len(tree)
        assert (tree.parent <= np.arange(len(tree))).all()


@pytest.mark.parametrize("kind", [layout.STACK_NATIVE, layout.STACK_PAIR])
def test_a_record_of_another_kind_is_no_function(kind: int) -> None:
    made = Arena()
    other = made.add(kind, b"x" * 64)
    frame = made.frame(0, other, 1)
    frames = read_frames(made.array(), np.array([frame], np.int64))
    assert [f.name for f in frames.functions] == ["?"]
