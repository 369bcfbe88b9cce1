"""Side rows as they grow, from a process that may write anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.siderows import LINE_MAX_BYTES, SideFile, row_of

GOOD = [5, 7, "0", "ACCESS", "READ", "op", 4096, {"size": 3}, None]


def test_rows_come_when_their_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    file = SideFile(str(path))
    assert file.take() == []
    line = json.dumps(GOOD) + "\n"
    path.write_text(line + line[:10])
    assert [row.name for row in file.take()] == ["op"]
    assert file.take() == []
    with path.open("a") as more:
        more.write(line[10:])
    assert [row.address for row in file.take()] == [4096]
    assert file.wrong_lines == 0
    file.close()


def test_wrong_and_endless_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    line = json.dumps(GOOD) + "\n"
    endless = "x" * (3 * LINE_MAX_BYTES) + "\n"
    path.write_text("nonsense\n[1]\n\n" + endless + line + "[" * 5000 + "\n" + line)
    file = SideFile(str(path))
    assert len(file.take()) == 2
    assert file.wrong_lines == 4


def test_a_link_or_a_pipe_is_no_file_of_rows(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        assert SideFile(str(tmp_path / name)).take() == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, -1), (0, True), (0, 1 << 63), (1, "7"), (2, "../../x"), (2, "0/1"), (2, ""), (2, 3),
        (3, "EVIL"), (3, ["MSTX"]), (4, 5), (5, None), (6, -1), (6, 1 << 64), (7, []), (8, 3),
    ],
)  # fmt: skip
def test_a_field_of_another_kind_makes_no_row(place: int, value: object) -> None:
    assert row_of(GOOD) is not None
    wrong = list(GOOD)
    wrong[place] = value
    assert row_of(wrong) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("side") / "rows"
    path.write_bytes(data)
    file = SideFile(str(path))
    file.take()
    file.close()
