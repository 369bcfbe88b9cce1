"""Launches in a log: blocks, texts, files that roll, and blocks that somebody forged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memlog.blocks import HEAD_BYTES, BadBlockError, BlockKind, Head, parse_head, unpack
from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.launches import (
    NO_DEVICE,
    TEXT_MAX_BYTES,
    Launches,
    LaunchKind,
    launches_block,
    read_launches,
    read_texts,
    tensor_of,
    tensor_text,
    texts_block,
)
from mem_parser.memlog.reader import Memlog
from mem_parser.memlog.rolling import RollingLog
from mem_parser.memlog.writer import MemlogWriter
from mem_parser.memscope.logtail import LogTail
from mem_parser.model import Profile, StackTable
from mem_parser.python.labels import Labels
from mem_parser.python.stacks import PythonStacks
from memlog_folder import Folder
from memlogs import facts, facts_profile, stack_table

ROW = st.tuples(
    st.integers(0, 1 << 61), st.sampled_from(LaunchKind), st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 48) - 1), st.integers(0, 16383), st.integers(0, NO_DEVICE),
    st.integers(0, 5), st.integers(0, 5),
)  # fmt: skip


class Program:
    """A source without blocks; text n says so."""

    def facts(self) -> Profile:
        return facts_profile()

    def keyframe(self) -> Keyframe:
        none = np.zeros(0)
        return Keyframe(
            0, none.astype(np.uint32), none.astype(np.uint8), none.astype(np.uint16),
            none.astype(np.int64), none.astype(np.int64),
        )  # fmt: skip

    def stacks(self, numbers: np.ndarray) -> StackTable:
        assert not len(numbers)
        return stack_table([])

    def python(self) -> PythonStacks:
        raise AssertionError("no stack has a frame of Python")

    def labels(self) -> Labels | None:
        raise AssertionError("no stack has a label")

    def texts(self, numbers: Sequence[int]) -> list[bytes]:
        return [b"text %d" % n for n in numbers]


def launches_of(rows: list[tuple[int, ...]]) -> Launches:
    columns = zip(*rows, strict=True)
    return Launches.of(**dict(zip(Launches.DTYPES, map(list, columns), strict=True)))


def rows_of(launches: Launches) -> list[tuple[int, ...]]:
    columns = (getattr(launches, name).tolist() for name in Launches.DTYPES)
    return list(zip(*columns, strict=True))


def taken_apart(block: bytes) -> tuple[Head, bytes]:
    head = parse_head(block[:HEAD_BYTES])
    assert head is not None
    return head, unpack(head, block[HEAD_BYTES:])


@given(st.lists(ROW, min_size=1, max_size=50))
def test_a_block_has_the_launches_that_were_put_in(rows: list[tuple[int, ...]]) -> None:
    launches = launches_of(sorted(rows, key=lambda row: row[0]))
    assert rows_of(read_launches(*taken_apart(launches_block(launches)))) == rows_of(launches)


@given(st.lists(st.binary(max_size=TEXT_MAX_BYTES), max_size=20), st.integers(0, 1 << 20))
def test_a_block_has_the_texts_that_were_put_in(texts: list[bytes], first: int) -> None:
    head, data = taken_apart(texts_block(texts, first))
    assert (head.first, head.last) == (first, first + len(texts))
    assert read_texts(head, data) == texts


@given(st.binary(max_size=300), st.integers(0, 1 << 32), st.integers(-5, 1 << 62))
def test_forged_blocks_are_refused_or_make_sense(data: bytes, rows: int, first: int) -> None:
    head = Head(BlockKind.LAUNCHES, 0, 0, rows, len(data), len(data), first, first, 0)
    for read in (read_launches, read_texts):
        try:
            found = read(head, data)
        except BadBlockError:
            continue
        assert len(found) == rows


def test_launches_out_of_order_or_of_no_kind_are_refused() -> None:
    row = (5, LaunchKind.KERNEL, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="order"):
        launches_block(launches_of([row, (4, *row[1:])]))
    with pytest.raises(ValueError, match="at least one"):
        launches_block(Launches.none())
    for kind in (0, 12):
        head, data = taken_apart(launches_block(launches_of([(5, kind, *row[2:])])))
        with pytest.raises(BadBlockError):
            read_launches(head, data)


@given(st.integers(-2, 50), st.integers(-2, 50), st.lists(st.integers(-9, 1 << 62), max_size=8))
def test_a_tensor_is_read_as_it_was_written(dtype: int, layout: int, dims: list[int]) -> None:
    assert tensor_of(tensor_text(dtype, layout, dims)) == (dtype, layout, dims)


@pytest.mark.parametrize("text", [b"", b"1", b"a b", b"1 2 x", b"\xff \xfe", b"1  2", b"9" * 30])
def test_what_is_no_tensor_is_none(text: bytes) -> None:
    assert tensor_of(text) is None


def test_a_log_that_rolls_has_the_texts_of_each_file_and_readers_of_memory_skip_them(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path)
    log = RollingLog(folder, facts(), Program(), most_bytes=5 << 20)
    rng = np.random.default_rng(1)
    rows = []
    for number in range(60):
        count = 10000
        some = Launches.of(
            time_ns=np.sort(rng.integers(0, 1000, count)) + 1000 * number,
            kind=np.full(count, LaunchKind.KERNEL_BEGIN),
            address=rng.integers(0, 1 << 63, count), size_bytes=rng.integers(0, 1 << 40, count),
            thread=np.zeros(count), device=np.zeros(count),
            name=rng.integers(1, 40, count) * 1000, detail=rng.integers(0, 3, count),
        )  # fmt: skip
        log.append_launches(some)
        rows += rows_of(some)
    log.end("exited")
    paths = [str(tmp_path / name) for name in folder.names]
    assert len(paths) > 1
    found = []
    for file, piece in LogTail(paths=paths).take(final=True):
        if isinstance(piece, Launches):
            texts = file.tables.texts
            found += [
                (*row[:6], *(int(texts[k - 1].split()[1]) if k else 0 for k in row[6:]))
                for row in rows_of(piece)
            ]
    assert found == rows
    for path in paths:
        with Memlog(path) as memlog:
            assert memlog.warnings == []
            assert sum(map(len, memlog.events())) == 0


def test_a_launch_that_names_no_text_is_left_out_with_its_block(tmp_path: Path) -> None:
    path = tmp_path / "log-0.memlog"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    writer = MemlogWriter(fd, facts())
    writer.append_facts(facts_profile())
    writer.append_texts([b"known"])
    for name in (1, 2):
        writer.append_launches(launches_of([(5, LaunchKind.KERNEL, 0, 0, 0, 0, name, 0)]))
        writer.flush()
    writer.end(last=True)
    os.close(fd)
    pieces = [piece for _, piece in LogTail(paths=[str(path)]).take(final=True)]
    assert sum(isinstance(piece, Launches) for piece in pieces) == 1
    [line] = [piece for piece in pieces if isinstance(piece, str)]
    assert "names a text that does not exist" in line
