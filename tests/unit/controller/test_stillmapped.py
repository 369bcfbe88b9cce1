"""What of recorded mappings is left, against a page-by-page account."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import MemError
from mem_profiler.process import stillmapped
from mem_profiler.process.stillmapped import StillMapped, newest

PAGE = 4096
KINDS = (*stillmapped.ANONYMOUS_KINDS, "mapped-shared", "mapped-file")
ROWS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(0, 5)), max_size=12)
LISTED = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12), st.sampled_from("af")))


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, pages, birth = np.array(rows, np.uint64).reshape(-1, 3).T
    return low * np.uint64(PAGE), pages * np.uint64(PAGE), birth


def owners(rows: list[tuple[int, int, int]]) -> dict[int, set[int]]:
    """The newest rows of each page: equally new ones are equally right."""
    found: dict[int, set[int]] = {}
    for page in range(64):
        claims = [(birth, k) for k, (at, n, birth) in enumerate(rows) if at <= page < at + n]
        top = max(claims, default=(-1, -1))[0]
        if claims:
            found[page] = {k for birth, k in claims if birth == top}
    return found


@given(rows=ROWS)
def test_of_claims_to_a_page_the_newest_has_it_and_no_other(
    rows: list[tuple[int, int, int]],
) -> None:
    low, size, birth = columns(rows)
    pieces = newest(low.astype(np.int64), (low + size).astype(np.int64), birth)
    truth, seen = owners(rows), set()
    for row, start, end in zip(pieces.row, pieces.low, pieces.high, strict=True):
        for page in range(start // PAGE, end // PAGE):
            assert page not in seen
            seen.add(page)
            assert row in truth[page]
    assert seen == set(truth)


def maps_file(folder: Path, listed: list[tuple[int, int, str]]) -> tuple[int, dict[int, str]]:
    """A list of mappings that do not overlap, of files ("f") or not ("a"), and the kind by page."""
    kinds: dict[int, str] = {}
    for at, pages, kind in listed:
        for page in range(at, at + pages):
            kinds.setdefault(page, kind)
    lines = [
        f"{page * PAGE:x}-{(page + 1) * PAGE:x} rw-p 00000000 00:00 "
        + ("0\n" if kind == "a" else "77 /tmp/file\n")
        for page, kind in sorted(kinds.items())
    ]
    path = folder / "maps"
    path.write_text("".join(lines) + "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]\n")
    return os.open(path, os.O_RDONLY), kinds


@given(rows=ROWS, listed=LISTED, kind=st.sampled_from(KINDS))
def test_what_is_left_is_what_the_kernel_lists_as_memory_of_that_kind(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int, int]],
    listed: list[tuple[int, int, str]],
    kind: str,
) -> None:
    fd, kinds = maps_file(tmp_path_factory.mktemp("maps"), listed)
    try:
        pieces = StillMapped(fd, None).pieces(kind, *columns(rows))
    finally:
        os.close(fd)
    wanted = "a" if kind in stillmapped.ANONYMOUS_KINDS else "f"
    left = {
        page
        for start, end in zip(pieces.low, pieces.high, strict=True)
        for page in range(start // PAGE, end // PAGE)
    }
    assert left == {page for page in owners(rows) if kinds.get(page) == wanted}
    assert int((pieces.high - pieces.low).sum()) == len(left) * PAGE


def test_a_process_that_has_ended_has_no_list(tmp_path: Path) -> None:
    empty = tmp_path / "maps"
    empty.touch()
    fd = os.open(empty, os.O_RDONLY)
    try:
        with pytest.raises(MemError, match="had ended"):
            StillMapped(fd, None).pieces("mapped", *columns([(1, 1, 1)]))
    finally:
        os.close(fd)
    with pytest.raises(MemError, match="may be gone"):
        stillmapped.open_maps(2**22 + 1)


def test_forged_addresses_and_sizes_stay_within_the_users_memory(tmp_path: Path) -> None:
    fd, _ = maps_file(tmp_path, [(1, 4, "a")])
    most = np.uint64(2**64 - 1)
    try:
        pieces = StillMapped(fd, None).pieces(
            "mapped",
            np.array([most, 0], np.uint64),
            np.array([most, most], np.uint64),
            np.array([1, most], np.uint64),
        )
    finally:
        os.close(fd)
    assert set(pieces.row.tolist()) == {1}
    assert int((pieces.high - pieces.low).sum()) == 4 * PAGE + 0x21000
