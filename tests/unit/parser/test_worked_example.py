"""The numbers of the worked example in docs/architecture.md."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from heapfiles import HeapFile, Record
from mem_parser.estimate import sampling_probability
from mem_parser.merge import Merger
from mem_parser.model import Count, Profile, Unit
from mem_parser.readers import read_bytes

T = 1024
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "architecture.md"


@pytest.fixture(scope="module")
def example() -> str:
    text = DOCUMENT.read_text(encoding="utf-8")
    return text.split("**A worked example.**")[1].split("##")[0]


def web_and_worker() -> tuple[Profile, Profile]:
    web = HeapFile([Record((0x1000, 0x2001), 2, 4000, 1, 2000)], T).data
    worker = HeapFile([Record((0x1000, 0x3001), 1, 100)], T).data
    return read_bytes(web, "web"), read_bytes(worker, "worker")


def test_the_chances_and_estimates_are_those_of_the_formulas(example: str) -> None:
    for size in (2000, 100):
        assert f"exp(-{size}/1024) = {float(sampling_probability(size, T)):.4f}" in example
    for profile in web_and_worker():
        total = profile.total(Count.INUSE, Unit.SPACE)
        assert f"{total.value:.0f} ± {total.std_error:.0f}" in example


def test_the_lines_are_those_of_the_file(example: str) -> None:
    for line in (" 1: 2000 [2: 4000] @", " 1: 100 [1: 100] @"):
        assert line in example
    web, worker = (p.sites for p in web_and_worker())
    assert (web.inuse_blocks[0], web.inuse_bytes[0]) == (1, 2000)
    assert (worker.alloc_blocks[0], worker.alloc_bytes[0]) == (1, 100)


def test_the_sum_is_that_of_merge_and_not_that_of_added_counts(example: str) -> None:
    merger = Merger()
    for profile in web_and_worker():
        merger.add(profile, "x")
    total = merger.result().total(Count.INUSE, Unit.SPACE)
    assert f"{total.value:.0f} ± {total.std_error:.0f} bytes" in example
    wrong = 2100 / (1 - math.exp(-1050 / T))
    assert f"get {wrong:.0f}" in example


@pytest.mark.parametrize(("size", "number"), [(2000, 381), (100, 100)])
def test_the_size_classes_are_those_of_the_sampler(size: int, number: int, example: str) -> None:
    """As core/site_key.h has it: exact below 128, then 64 classes per power of two."""
    shift = max(size.bit_length() - 7, 0)
    assert (64 * shift + (size >> shift) if size >= 128 else size) == number
    assert str(number) in example
