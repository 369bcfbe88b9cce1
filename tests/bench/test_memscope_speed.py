"""The benchmark of dumps works. Nothing here looks at a time."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import memscope_speed


def test_the_table_has_a_line_for_each_piece_of_work(tmp_path: Path) -> None:
    lines = list(memscope_speed.table(500, tmp_path))
    assert [line.split(" | ")[0].split(",")[0] for line in lines[2:]] == [
        "write", "size", "read", "check_leaks", "check_inefficient", "check_inefficient",
        "compare with itself", "most memory of all this",
    ]  # fmt: skip
    assert (tmp_path / "memscope_dump_1_copy.csv").is_file()


def test_the_sequences_have_their_lengths() -> None:
    assert [len(left) for _, left, _ in memscope_speed.sequences(50)] == [50, 50, 50]
