"""Answers of queries as tables of a terminal, and for programs."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from mem_parser.escape import json_text
from mem_parser.reports import answer as report
from mem_parser.reports.grid import Grid
from mem_parser.tables.sql import Answer

texts = st.text(max_size=60)
numbers = st.integers(-(10**18), 10**18) | st.floats() | st.none()


@given(st.lists(st.tuples(texts, texts, numbers), max_size=5), st.integers(40, 200))
def test_a_table_fits_the_terminal_by_cutting_texts_alone(
    rows: list[tuple[object, ...]], width: int
) -> None:
    answer = Answer(["one", "two", "number"], [False, False, True], rows, more=False)
    [grid, *_] = report.blocks(answer, width)
    [whole, *_] = report.blocks(answer, None)
    assert isinstance(grid, Grid)
    assert isinstance(whole, Grid)
    need = [max([len(c.title), *(len(r[k]) for r in grid.rows)])
            for k, c in enumerate(grid.columns)]  # fmt: skip
    assert sum(need) + 2 <= width
    for cut, full in zip(grid.rows, whole.rows, strict=True):
        assert cut[2] == full[2]
        for short, long in zip(cut[:2], full[:2], strict=True):
            assert short == long or (short.endswith("…") and long.startswith(short[:-1]))


def test_cells_are_one_line_and_columns_that_come_again_are_numbered() -> None:
    answer = Answer(["a", "a", "a_2"], [False] * 3, [("x\ny", None, "\x1b[1m")], more=True)
    assert report.keys(answer) == ["a", "a_2", "a_2_2"]
    [grid, last] = report.blocks(answer, 80)
    assert isinstance(grid, Grid)
    assert all("\n" not in cell and "\x1b" not in cell for cell in grid.rows[0])
    assert last == "only the first 1 row shown. Use -n 0 to show all."


def test_every_value_of_sql_becomes_one_of_json() -> None:
    row = (
        None, True, 1 << 100, float("nan"), Decimal("1.50"), Decimal(7), b"\x00\xff",
        dt.timedelta(seconds=3), [1, {"k": float("inf")}], {"x": (2,)},
    )  # fmt: skip
    answer = Answer([f"c{k}" for k in range(len(row))], [False] * len(row), [row], more=False)
    found = json.loads(json_text(report.record(answer)))
    assert list(found["rows"][0].values()) == [
        None, True, 1 << 100, None, 1.5, 7, "b'\\x00\\xff'", "0:00:03", [1, {"k": None}],
        {"x": [2]},
    ]  # fmt: skip
    assert found["more"] is False


def test_no_row_is_said() -> None:
    assert list(report.blocks(Answer(["a"], [True], [], more=False), None))[-1] == "0 rows"
