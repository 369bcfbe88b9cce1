"""The benchmark of dumps works. Nothing here looks at a time."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import memscope_speed


def test_the_table_has_a_line_for_each_piece_of_work(tmp_path: Path) -> None:
    bars: list[memscope_speed.Bar] = []
    lines = list(memscope_speed.table(500, tmp_path, bars))
    assert [line.split(" | ")[0].split(",")[0] for line in lines[2:]] == [
        "size", "read", "check_leaks", "check_inefficient", "check_inefficient",
        "compare with itself", "most memory of all this",
    ]  # fmt: skip
    assert (tmp_path / "memscope_dump_1_copy.csv").is_file()
    assert [bar.what.partition(":")[0] for bar in bars] == [
        "check_leaks, .csv", "check_leaks, .db",
        "check_inefficient, no labels, .csv", "check_inefficient, no labels, .db",
        "check_inefficient, labels, .csv", "check_inefficient, labels, .db",
        "most memory up to here, MiB",
    ]  # fmt: skip
    assert all(bar.found > 0 for bar in bars)


def test_what_a_collection_writes_is_measured_with_and_without_stacks(tmp_path: Path) -> None:
    lines = list(memscope_speed.followed(2000, tmp_path))
    assert [line.split(",")[0] for line in lines[2:]] == ["without stacks", "C stacks of 20"]
    assert all(line.count(" | ") == 2 for line in lines if line[0] != "-")


def test_a_bar_is_met_up_to_its_limit() -> None:
    assert memscope_speed.Bar("x", 5, 5.0).line.endswith("| yes")
    assert memscope_speed.Bar("x", 5, 5.1).line.endswith("| no")


def test_the_sequences_have_their_lengths() -> None:
    assert [len(left) for _, left, _ in memscope_speed.sequences(50)] == [50, 50, 50]
