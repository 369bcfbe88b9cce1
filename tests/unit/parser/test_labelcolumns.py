"""Labels in our own files: what is written comes back, and forged columns are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import InputFileError
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Profile
from mem_parser.python.labels import Labels
from mem_parser.readers import read_profile
from python_profiles import LOOP, Stack, label_tables, profile_of

NATIVE = f"sampler!malloc python!{LOOP} python!_start"


def labelled(labels: Labels, number: int) -> Profile:
    profile = profile_of([Stack(NATIVE, "*f:1")])
    profile.labels = labels
    profile.stacks.label = np.array([number], np.uint32)
    return profile


@given(label_tables(8), st.data())
def test_labels_that_were_written_come_back(
    tmp_path_factory: pytest.TempPathFactory, labels: Labels, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(labels)))
    path = tmp_path_factory.mktemp("labels") / "x.heap"
    path.write_bytes(write_heap(labelled(labels, number)))
    profile = read_profile(str(path))
    assert profile.labels is not None
    assert profile.labels.names == labels.names
    assert profile.labels.outer.tolist() == labels.outer.tolist()
    assert profile.labels.kind.tolist() == labels.kind.tolist()
    assert profile.stacks.label_numbers.tolist() == [number]


def test_a_file_without_labels_has_no_columns_of_them(tmp_path: Path) -> None:
    path = tmp_path / "x.heap"
    path.write_bytes(write_heap(profile_of([Stack(NATIVE, "*f:1")])))
    assert b"label" not in path.read_bytes()
    profile = read_profile(str(path))
    assert profile.labels is None
    assert profile.stacks.label_numbers.tolist() == [0]


GOOD = Labels(np.array([0, 1], np.uint32), np.array([1, 2], np.uint8), ["io", "fetch"])


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (lambda x: dataclasses.replace(x, outer=np.array([2, 1], np.uint32)), "comes before"),
        (lambda x: dataclasses.replace(x, kind=np.array([1, 9], np.uint8)), "no known kind"),
        (lambda x: dataclasses.replace(x, names=["io"]), "2 labels and 1 names"),
        (lambda x: dataclasses.replace(x, kind=np.array([1], np.uint8)), "label_kind has 1"),
    ],
)
def test_forged_columns_are_refused(
    tmp_path: Path, forge: Callable[[Labels], Labels], words: str
) -> None:
    path = tmp_path / "x.heap"
    path.write_bytes(write_heap(labelled(forge(GOOD), 0)))
    with pytest.raises(InputFileError, match=words):
        read_profile(str(path))


def test_a_stack_cannot_name_a_label_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "x.heap"
    path.write_bytes(write_heap(labelled(GOOD, 3)))
    with pytest.raises(InputFileError, match="names a label that does not exist"):
        read_profile(str(path))
