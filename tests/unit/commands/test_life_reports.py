"""`temporary`, `lifetimes` and memray's options on logs of events, against what a program did."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from parser_run import Run
from timelog import CHURN, birth, death, write_log

LIVES = [
    birth(1.0, 0x10, 100),
    birth(1.1, 0x20, 50, CHURN),
    death(1.2, 0x20, 50, CHURN, born_s=1.1),  # nothing in between, lived 100 ms
    birth(2.0, 0x30, 60, CHURN),
    birth(2.1, 0x40, 60, CHURN),
    death(2.2, 0x30, 60, CHURN, born_s=2.0),  # one in between, lived 200 ms, as the last one
    birth(2.3, 0x50, 70),
    birth(2.4, 0x60, 80),
    death(4.1, 0x40, 60, CHURN, born_s=2.1),  # two in between, lived 2 s
]
"""Live at the end: 100, 70 and 80 bytes of `load`."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "x.1-0.memlog", LIVES)


def record(run: Run, *words: object) -> dict[str, Any]:
    code, out, err = run(*words, "--python", "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize(("words", "blocks_and_bytes"), [
    (["--threshold", "0"], (1, 50)),
    ([], (2, 110)),
    (["--threshold", "2"], (3, 170)),
    (["--threshold", "3"], (3, 170)),
    (["--following"], (2, 110)),
    (["--within", "150ms"], (1, 50)),
    (["--within", "300ms"], (2, 110)),
    (["--within", "5s"], (3, 170)),
    (["--from", "1500ms", "--threshold", "3"], (2, 120)),
    (["--to", "3s", "--threshold", "3"], (2, 110)),
])  # fmt: skip
def test_temporary_blocks_are_those_of_the_rule(
    words: list[str], blocks_and_bytes: tuple[int, int], run: Run, log: Path
) -> None:
    found = record(run, "temporary", log, *words)
    [row] = found["rows"]
    assert row["function"] == "churn (shop.py)"
    assert (row["blocks"], row["bytes"]) == blocks_and_bytes
    assert (found["at_most"], found["total"]) == (False, row["bytes"])


def test_temporary_blocks_have_a_share_of_all_and_a_rate(run: Run, log: Path) -> None:
    [row] = record(run, "temporary", log)["rows"]
    assert row["share"] == round(2 / 3, 6)
    assert row["bytes_per_s"] == round(110 / 4.1, 3)
    code, out, _ = run("temporary", log, "--python")
    assert (code, out.splitlines()[0]) == (
        0, "Temporary: 110 B in 2 blocks   33.3 % of all blocks   2 samples",
    )  # fmt: skip
    assert "at most" not in out
    assert run("temporary", log, "--within", "1s", "--following")[0] == 2
    code, out, _ = run("temporary", log, "--focus", "load", "--python")
    assert "0 samples: nothing to show" in out


def test_where_not_every_block_is_sampled_there_are_at_most_so_many(
    run: Run, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "s.memlog", LIVES, rates_bytes=(1024.0,))
    assert record(run, "temporary", log)["at_most"]
    assert "at most so many: only some blocks are sampled" in run("temporary", log)[1]
    assert not record(run, "temporary", log, "--within", "1s")["at_most"]


def test_lifetimes_have_a_median_by_function_and_say_what_is_still_live(
    run: Run, log: Path
) -> None:
    found = record(run, "lifetimes", log)
    rows = {row["function"]: row for row in found["rows"]}
    churn, load = rows["churn (shop.py)"], rows["load (shop.py)"]
    assert (churn["blocks"], churn["freed"], churn["live_share"]) == (3, 3, 0)
    assert 0.2 <= churn["median_s"] <= 0.24
    assert 2.0 <= churn["p90_s"] <= 2.4
    assert (load["blocks"], load["freed"], load["live_share"]) == (3, 0, 1)
    assert (load["median_s"], load["bytes_per_s"]) == (None, round(250 / 4.1, 3))
    assert (found["alive"], found["unended"], found["about"]) == (3, 0, 0)


def test_the_histogram_has_every_freed_block_and_the_curve_ends_with_the_live(
    run: Run, log: Path
) -> None:
    found = record(run, "lifetimes", log)["histogram"]
    assert sum(bucket["blocks"] for bucket in found) == 3
    assert [b["live_after"] for b in found] == sorted(b["live_after"] for b in found)[::-1]
    assert found[-1]["live_after"] == 0.5
    assert all(a["to_s"] == b["from_s"] for a, b in itertools.pairwise(found))
    code, out, _ = run("lifetimes", log, "--ascii", "--python")
    assert (code, out.isascii()) == (0, True)
    assert "3 blocks in use at the end: how long they live is not known" in out
    code, out, _ = run("lifetimes", log, "--csv", "--python")
    assert [r["function"] for r in csv.DictReader(io.StringIO(out))] == [
        "load (shop.py)", "churn (shop.py)",
    ]  # fmt: skip


def test_blocks_whose_birth_is_before_the_part_are_counted_apart(run: Run, log: Path) -> None:
    found = record(run, "lifetimes", log, "--from", "2050ms", "--focus", "churn")
    assert (found["about"], found["total"]["blocks"]) == (1, 2)
    assert "lifetimes are right to 20 ms" in run("lifetimes", log, "--from", "2050ms")[1]


@pytest.mark.parametrize("command", ["summary", "table", "tree", "stats"])
def test_memrays_temporary_options_work_on_a_log(command: str, run: Run, log: Path) -> None:
    for words, size in (
        (["--temporary-allocations"], 110),
        (["--temporary-allocation-threshold", "0"], 50),
        (["--temporary-allocation-threshold", "3"], 170),
    ):
        found = record(run, command, log, *words)
        assert (found["total"], found["count"]) == (size, "alloc")
    assert run(command, log, "--temporary-allocations", "--peak")[0] == 2
    assert run(command, log, "--temporary-allocations", "--temporal")[0] == 2


def test_memrays_temporal_is_the_highest_moment_of_the_part(run: Run, log: Path) -> None:
    found = record(run, "summary", log, "--temporal", "--to", "2s")
    assert (found["count"], found["total"]) == ("peak", 160)
    assert record(run, "summary", log, "--temporal", "--leaks")["total"] == 250
