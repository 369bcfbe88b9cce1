"""Rows with verdicts, cut for a page: no verdict vanishes, and what is cut is counted."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.estimate import Estimate, Unseen
from mem_parser.web.verdicts import kept_rows, merged_rows, verdict_block

NOTHING = Unseen(0.0, True)


@given(st.lists(st.sampled_from("abcd"), max_size=300), st.integers(8, 120))
def test_every_verdict_keeps_its_first_rows(verdicts: list[str], most: int) -> None:
    kept = kept_rows(verdicts, most)
    assert kept == sorted(set(kept))
    assert len(kept) == min(len(verdicts), most)
    left = {verdicts[k] for k in kept}
    assert left == set(verdicts)
    for verdict in left:
        own = [k for k, v in enumerate(verdicts) if v == verdict]
        mine = [k for k in kept if verdicts[k] == verdict]
        assert mine == own[: len(mine)]
        assert len(mine) >= min(len(own), most // (2 * len(left)))


def rows(verdict: str, number: int, **more: Any) -> list[dict[str, Any]]:
    return [{"verdict": verdict, **more} for _ in range(number)]


def test_what_is_cut_is_told_with_its_error() -> None:
    young = rows("young", 2, bytes=5.0, std_error=1.0, samples=1)
    leaks = rows("leak", 30, bytes=100.0, std_error=10.0, samples=50)
    block = verdict_block({"rows": leaks + young, "notes": ["n"]}, NOTHING, most=12)
    assert [r["verdict"] for r in block["rows"]] == ["leak"] * 10 + ["young"] * 2
    assert block["counts"] == {"leak": 30, "young": 2}
    assert block["notes"] == ["n"]
    (cut,) = block["left_out"]
    assert (cut["verdict"], cut["rows"]) == ("leak", 20)
    value, lower, upper = cut["bytes"]
    assert value == 2000.0
    assert upper - value == pytest.approx(1.96 * 10 * math.sqrt(20), rel=0.1)
    assert lower < value


def test_changes_add_up_with_their_signs() -> None:
    gone = rows("gone", 30, delta=-7.0, delta_error=None)
    (cut,) = verdict_block({"rows": gone}, NOTHING, most=10)["left_out"]
    assert cut == {"verdict": "gone", "rows": 20, "delta": [-140.0, None, None]}


def test_few_rows_stay_as_they_are() -> None:
    given_rows = rows("leak", 3, bytes=1.0, std_error=0.0)
    block = verdict_block({"rows": given_rows}, NOTHING, most=3)
    assert block["rows"] == given_rows
    assert block["left_out"] == []


def test_leaks_that_a_reader_cannot_tell_apart_are_one_row() -> None:
    def row(caller: str, size: float, verdict: str = "inconclusive", **more: Any) -> dict[str, Any]:
        stack = [{"function": f, "file": "a.c", "line": 3} for f in ("get", "get", caller)]
        known = {"std_error": 3.0, "samples": 2, "stacks": 1, "evidence": "Only 2 samples"}
        return {"verdict": verdict, "bytes": size, "stack": stack, **known, **more}

    given_rows = [
        row("main", 50.0, "leak", growth="1 MiB/h"), row("main", 40.0, "leak", growth="2 MiB/h"),
        row("main", 30.0), row("other", 20.0), row("main", 10.0, std_error=4.0, evidence="Only 1"),
        {"verdict": "young", "bytes": 2.0, "std_error": None}, row("main", 5.0, "young"),
    ]  # fmt: skip
    merged = merged_rows(given_rows, NOTHING)
    assert [(r["verdict"], r["bytes"]) for r in merged] == [
        ("leak", 50.0), ("leak", 40.0), ("inconclusive", 40.0), ("inconclusive", 20.0),
        ("young", 2.0), ("young", 5.0),
    ]  # fmt: skip
    assert merged[0] is given_rows[0]
    one = merged[2]
    assert (one["stacks"], one["samples"], one["evidence"]) == (2, 4, "largest: Only 2 samples")
    assert (one["lower95"], one["upper95"]) == Estimate(40.0, 5.0, 4, NOTHING).known_ends
