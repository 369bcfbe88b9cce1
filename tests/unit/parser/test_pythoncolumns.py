"""Python's frames in our own files: what is written comes back, and forged columns are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import InputFileError
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Profile, SiteTable, StackTable
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.readers import read_profile

NAMES = st.text(
    st.characters(categories=("L", "N"), max_codepoint=0x5FF) | st.sampled_from("<>._ -"),
    max_size=20,
)


@st.composite
def trees(draw: st.DrawFn) -> PythonStacks:
    count, codes = draw(st.integers(0, 30)), draw(st.integers(1, 5))
    parent = [draw(st.integers(0, k)) for k in range(count)]
    return PythonStacks(
        np.array(parent, np.uint32),
        np.array([draw(st.integers(0, codes - 1)) for _ in range(count)], np.uint32),
        np.array([draw(st.integers(0, 2**32 - 1)) for _ in range(count)], np.uint32),
        np.array([draw(st.booleans()) for _ in range(count)], np.bool_),
        [
            PythonCode(draw(NAMES), draw(NAMES), draw(NAMES), draw(st.integers(0, 2**31)))
            for _ in range(codes)
        ],
    )


def profile_of(python: PythonStacks, number: int) -> Profile:
    one = np.ones(1, np.int64)
    return Profile(
        format="mem_profiler",
        rate_bytes=1.0,
        stacks=StackTable(
            np.array([0, 1]), np.array([0x1000], np.uint64), np.zeros(1, np.uint32),
            np.zeros(1, np.uint32), leaf_exact=True, interpreter=np.array([number], np.uint32),
        ),
        sites=SiteTable(
            stack=np.zeros(1, np.int64), domain=np.zeros(1, np.int32), inuse_blocks=one,
            inuse_bytes=one, alloc_blocks=one, alloc_bytes=one,
        ),
        python=python,
    )  # fmt: skip


def write(path: Path, python: PythonStacks, number: int) -> str:
    path.write_bytes(write_heap(profile_of(python, number)))
    return str(path)


@given(trees(), st.data())
def test_a_tree_that_was_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, python: PythonStacks, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(python)))
    path = tmp_path_factory.mktemp("tree") / "x.heap"
    profile = read_profile(write(path, python, number))
    found = profile.python
    assert found is not None
    assert profile.stacks.interpreters.tolist() == [number]
    for name in ("parent", "code", "line", "entry"):
        assert getattr(found, name).tolist() == getattr(python, name).tolist()
    assert found.codes == python.codes
    assert found.outwards(number) == python.outwards(number)


def chain(*parent: int, code: int = 0) -> PythonStacks:
    count = len(parent)
    return PythonStacks(
        np.array(parent, np.uint32), np.full(count, code, np.uint32), np.zeros(count, np.uint32),
        np.zeros(count, np.bool_), [PythonCode("f", "f", "f.py", 1)],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("python", "number", "words"),
    [
        (chain(0, 3, 0), 2, "a Python frame comes before its caller"),
        (chain(1), 1, "a Python frame comes before its caller"),
        (chain(0, 1, code=1), 2, "names a function that does not exist"),
        (chain(0, 1), 3, "names a Python frame that does not exist"),
    ],
)
def test_columns_that_do_not_fit_together_are_refused(
    tmp_path: Path, python: PythonStacks, number: int, words: str
) -> None:
    path = write(tmp_path / "x.heap", python, number)
    with pytest.raises(InputFileError, match=words):
        read_profile(path)
