"""Python's frames and labels in our own files: what is written comes back, and forged columns are
refused.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import InputFileError
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Profile
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.readers import read_bytes
from python_profiles import LOOP, Stack, label_tables, profile_of, python_trees

LABELS = Labels(np.array([0, 1], np.uint32), np.array([1, 2], np.uint8), ["io", "fetch"])


def written(
    *, python: PythonStacks | None = None, labels: Labels | None = None, number: int = 0
) -> Profile:
    """What is read of a file with one stack, which names this Python frame or label."""
    profile = profile_of([Stack(f"sampler!malloc python!{LOOP} python!_start", "*f:1")])
    numbers = np.array([number], np.uint32)
    if labels is not None:
        profile.labels, profile.stacks.label = labels, numbers
    if python is not None:
        profile.python, profile.stacks.interpreter = python, numbers
    return read_bytes(write_heap(profile), "x")


def told(table: Any) -> dict[str, Any]:
    return {
        field.name: np.asarray(getattr(table, field.name)).tolist()
        for field in dataclasses.fields(table)
        if field.name != "codes"
    }


@given(python_trees(30), st.data())
def test_a_tree_that_was_written_comes_back(python: PythonStacks, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(python)))
    profile = written(python=python, number=number)
    found = profile.python
    assert found is not None
    assert profile.stacks.interpreters.tolist() == [number]
    assert (told(found), found.codes) == (told(python), python.codes)
    assert found.outwards(number) == python.outwards(number)


@given(label_tables(8), st.data())
def test_labels_that_were_written_come_back(labels: Labels, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(labels)))
    profile = written(labels=labels, number=number)
    assert profile.labels is not None
    assert told(profile.labels) == told(labels)
    assert profile.stacks.label_numbers.tolist() == [number]


def test_a_file_without_labels_has_no_columns_of_them() -> None:
    profile = written()
    assert b"label" not in write_heap(profile)
    assert profile.labels is None
    assert profile.stacks.label_numbers.tolist() == [0]


def chain(*parent: int, code: int = 0) -> PythonStacks:
    count = len(parent)
    return PythonStacks(
        np.array(parent, np.uint32), np.full(count, code, np.uint32), np.zeros(count, np.uint32),
        np.zeros(count, np.bool_), [PythonCode("f", "f", "f.py", 1)],
    )  # fmt: skip


def forged(**changes: Any) -> Labels:
    return dataclasses.replace(LABELS, **changes)


@pytest.mark.parametrize(("columns", "words"), [
    ({"python": chain(0, 3, 0), "number": 2}, "a Python frame comes before its caller"),
    ({"python": chain(1), "number": 1}, "a Python frame comes before its caller"),
    ({"python": chain(0, 1, code=1), "number": 2}, "names a function that does not exist"),
    ({"python": chain(0, 1), "number": 3}, "names a Python frame that does not exist"),
    ({"labels": forged(outer=np.array([2, 1], np.uint32))}, "comes before"),
    ({"labels": forged(kind=np.array([1, 9], np.uint8))}, "no known kind"),
    ({"labels": forged(names=["io"])}, "2 labels and 1 names"),
    ({"labels": forged(kind=np.array([1], np.uint8))}, "label_kind has 1"),
    ({"labels": LABELS, "number": 3}, "names a label that does not exist"),
])  # fmt: skip
def test_columns_that_do_not_fit_are_refused(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(InputFileError, match=words):
        written(**columns)
