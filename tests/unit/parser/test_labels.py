"""Names of threads and tasks: what they are called, and in which others they are."""

from __future__ import annotations

import numpy as np

from mem_parser.python.labels import MOST_DEPTH, LabelKind, Labels

THREAD, TASK = int(LabelKind.THREAD), int(LabelKind.TASK)


def labels(*rows: tuple[int, int, str]) -> Labels:
    outer, kind, names = zip(*rows, strict=True)
    return Labels(np.array(outer, np.uint32), np.array(kind, np.uint8), list(names))


def test_a_label_says_its_kind_and_its_name() -> None:
    found = labels((0, THREAD, "io"), (0, TASK, "fetch"), (0, THREAD, ""), (1, TASK, ""))
    assert [found.spelled(k) for k in range(4)] == [
        "thread io", "task fetch", "other threads", "other tasks",
    ]  # fmt: skip
    assert found.named(0) == ("thread", "io")
    assert found.named(3) == ("task", "other tasks")


def test_a_path_goes_from_the_outermost_label_inwards() -> None:
    found = labels((0, THREAD, "io"), (1, TASK, "fetch"))
    assert found.path(2) == "thread io, task fetch"
    assert found.path(1) == "thread io"
    assert found.path(0) == ""


def test_a_name_that_commands_the_terminal_is_spelled_out() -> None:
    assert "\x1b" not in labels((0, TASK, "a\x1b[2Jb")).spelled(0)


def test_a_forged_chain_of_labels_is_cut() -> None:
    found = labels(*((k, TASK, str(k)) for k in range(100)))
    assert len(found.outwards(100)) == MOST_DEPTH
