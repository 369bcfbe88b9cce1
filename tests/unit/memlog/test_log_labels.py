"""Labels in files of events: what is written reads back, what is damaged or forged names none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mem_parser.memlog.blocks import (
    HEAD_BYTES,
    BadBlockError,
    BlockKind,
    Head,
    pack_block,
    parse_head,
    unpack,
)
from mem_parser.memlog.contents import labels_block, read_labels, read_stacks, stack_blocks
from mem_parser.memlog.packing import pack_column
from mem_parser.memlog.profiles import read_part
from mem_parser.memlog.run import read_log
from mem_parser.python.labels import Labels
from memlogs import events_of, facts_profile, stack_table, writing
from timelog import no_keyframe

NAMES = ["io", "fetch", "", "two\nlines"]
LABELS = Labels(np.array([0, 1, 1, 0], np.uint32), np.array([1, 2, 2, 1], np.uint8), NAMES)


def content(block: bytes) -> tuple[Head, bytes]:
    head = parse_head(block)
    assert head is not None
    return head, unpack(head, block[HEAD_BYTES:])


def write(path: Path, labels: Labels | None, of_stack: list[int], number: int = 1) -> Path:
    """A file of one block of 16 bytes for each stack; all stacks have the same frames."""
    stacks = stack_table([(0x1000, 0x2000)] * len(of_stack))
    stacks.label = np.array(of_stack, np.uint32)
    with writing(path, number) as writer:
        writer.append_facts(facts_profile())
        if labels is not None:
            writer.append_labels(labels)
        writer.append_stacks(stacks)
        writer.append_keyframe(no_keyframe())
        writer.append_events(
            events_of(
                [
                    {"time_ns": 10 + k, "address": 16 * (100 * number + k), "stack": k}
                    for k in range(len(of_stack))
                ]
            )
        )
        writer.end(last=True, how="exited")
    return path


def test_labels_read_back_as_they_were_written() -> None:
    head, data = content(labels_block(LABELS, 7))
    assert (head.kind, head.rows, head.first, head.last) == (BlockKind.LABELS, 4, 7, 11)
    found = read_labels(head, data)
    assert found.outer.tolist() == [0, 1, 1, 0]
    assert found.kind.tolist() == [1, 2, 2, 1]
    assert [one.replace("\\n", "\n") for one in found.names] == NAMES


def test_stacks_without_labels_are_stored_as_before_there_were_any() -> None:
    plain, zero = stack_table([(1, 2), (3,)]), stack_table([(1, 2), (3,)])
    zero.label = np.zeros(2, np.uint32)
    assert list(stack_blocks(plain, 0)) == list(stack_blocks(zero, 0))
    [block] = stack_blocks(zero, 0)
    assert read_stacks(*content(block)).label is None


def test_equal_stacks_of_different_labels_are_different_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "x.memlog", LABELS, [0, 1, 2, 3, 4, 1])
    [profile] = read_part([path])
    assert profile.labels is not None
    numbers = profile.stacks.label_numbers[profile.sites.stack].tolist()
    found = dict(
        zip(map(profile.labels.path, numbers), profile.sites.inuse_blocks.tolist(), strict=True)
    )
    assert {name.replace("\\n", "\n"): count for name, count in found.items()} == {
        "": 1, "thread io": 2, "thread io, task fetch": 1, "thread io, other tasks": 1,
        "thread two\nlines": 1,
    }  # fmt: skip


def test_labels_of_several_files_are_one_by_their_names(tmp_path: Path) -> None:
    other = Labels(np.array([0, 0], np.uint32), np.array([1, 1], np.uint8), ["net", "io"])
    paths = [
        write(tmp_path / "1.memlog", LABELS, [1]), write(tmp_path / "2.memlog", other, [2, 1], 2)
    ]  # fmt: skip
    with read_log(paths) as run:
        assert run.labels is not None
        named = [
            [run.labels.path(k) for k in run.stacks.label_numbers[numbers].tolist()]
            for numbers in run.number_of
        ]
        assert named == [["thread io"], ["thread io", "thread net"]]
        assert run.number_of[0][0] == run.number_of[1][0]


def test_a_label_that_is_missing_is_none(tmp_path: Path) -> None:
    [profile] = read_part([write(tmp_path / "x.memlog", None, [0, 1, 4_000_000_000])])
    assert profile.labels is None
    assert not profile.stacks.label_numbers.any()
    assert profile.sites.inuse_blocks.sum() == 3


@pytest.mark.parametrize(("outer", "kind", "text", "why"), [
    ([1], [1], b"io", "comes before"), ([0], [0], b"io", "of no kind"),
    ([0], [3], b"io", "too large"), ([0], [1], b"a\nb", "do not agree"),
    ([0, 0], [1, 1], b"a", "do not agree"), ([], [], b"", "do not agree"),
])  # fmt: skip
def test_forged_labels_are_refused(
    outer: list[int], kind: list[int], text: bytes, why: str
) -> None:
    columns = (np.array(c, np.uint64) for c in (outer, kind))
    payload = b"".join(map(pack_column, columns)) + text
    block = pack_block(BlockKind.LABELS, payload, rows=len(outer), first=0, last=len(outer))
    with pytest.raises(BadBlockError, match=why):
        read_labels(*content(block))
