"""The tables of logs, against the reader's columns, the ledger of a program, and the reports."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import DOMAINS, Ledger, Row, programs, write_files
from mem_parser.estimate import unsample
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.filefacts import Hole
from mem_parser.memlog.lifetimes import lifetimes
from mem_parser.memlog.part import Part
from mem_parser.memlog.reader import open_memlog
from mem_parser.memlog.run import read_log
from mem_parser.memlog.series import series
from memlogs import any_events, facts_profile, rows_of, stacks_of, writing
from tabled import log_tables, rows
from timelog import CHURN, ROWS, S, no_keyframe, write_log

rates = st.sampled_from([(1.0, 1.0), (64.0, 1.0), (1000.0, 300.0)])


def as_event(row: dict[str, Any]) -> tuple[int, ...]:
    """A row as `memlogs.rows_of` gives it."""
    kind = Kind[row["kind"].upper()]
    is_mark = kind is Kind.MARK
    address = row["mark"] if is_mark else row["address"]
    domain = 0 if is_mark else DOMAINS.index(row["domain"])
    return (
        row["time_ns"], kind, address, row["size_bytes"] or 0, row["thread_row"],
        row["stack"] or 0, domain, row["born_ns"],
    )  # fmt: skip


@given(any_events(stacks=8))
def test_the_table_of_events_has_what_the_reader_has(events: Events) -> None:
    is_mark = events.kind == Kind.MARK
    events.address[is_mark] %= 1 << 32
    events.size_bytes[is_mark] = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.memlog"
        with writing(path) as writer:
            writer.append_facts(facts_profile())
            writer.append_stacks(stacks_of(8))
            writer.append_keyframe(no_keyframe())
            writer.append_events(events)
            writer.end(last=True)
        with open_memlog(path) as log, read_log([path]) as run:
            kept = [row for part in log.events() for row in rows_of(part)]
            number = run.number_of[0]
            kept = [(*r[:5], 0 if r[1] == Kind.MARK else int(number[r[5]]), *r[6:]) for r in kept]
        with log_tables([path]) as tables:
            found = rows(tables, "events")
    blocks = [r for r in kept if r[1] != Kind.MARK]
    assert sorted(as_event(r) for r in found if r["kind"] != "mark") == sorted(blocks)
    marks = [as_event(r)[:5] for r in found if r["kind"] == "mark"]
    assert sorted(marks) == sorted(r[:5] for r in kept if r[1] == Kind.MARK)
    assert [r["time_ns"] for r in found] == sorted(r["time_ns"] for r in found)
    assert all(r["born_ns"] is None and r["stack"] is None for r in found if r["kind"] == "mark")


@given(programs(), rates, st.booleans())
def test_sums_of_events_are_those_of_the_timeline(
    program: list[Row], rate: tuple[float, float], shuffled: bool
) -> None:
    ledger = Ledger(program)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(Path(folder), ledger, [], [], rates=rate, shuffled=shuffled)
        with read_log(paths) as run:
            every = series(run, run.end_ns + 1)
        with log_tables(paths) as tables:
            found = rows(tables, "events")
    for one in every:
        own = [r for r in found if r["domain"] == one.domain]
        begun = [r for r in own if r["change"] == 1]
        ended = [r for r in own if r["change"] == -1]
        assert (len(begun), len(ended)) == (one.births.sum(), one.deaths.sum())
        assert math.fsum(r["bytes"] for r in begun) == one.born_bytes.sum()
        assert math.fsum(r["bytes"] for r in ended) == one.freed_bytes.sum()
        live, variance, highest = 0.0, 0.0, (0.0, 0.0)
        for k, row in enumerate(own):
            live += row["change"] * (row["bytes"] or 0.0)
            variance += row["change"] * (row["bytes_variance"] or 0.0)
            last = k + 1 == len(own) or own[k + 1]["time_ns"] > row["time_ns"]
            if last and live > highest[0]:
                highest = live, math.sqrt(variance)
        k = int(np.argmax(one.max_bytes))
        assert highest == (one.max_bytes[k], one.max_std_error[k])


@given(programs(), rates)
def test_each_block_stands_for_what_the_estimator_says(
    program: list[Row], rate: tuple[float, float]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(Path(folder), Ledger(program), [], [], rates=rate)
        with log_tables(paths) as tables:
            found = [*rows(tables, "events"), *rows(tables, "blocks")]
    for row in found:
        if row.get("kind") == "refused":
            continue
        one = unsample([1], [row["size_bytes"]], rate[DOMAINS.index(row["domain"])])
        assert row["objects"] == pytest.approx(one.objects[0])
        assert row["objects_variance"] == pytest.approx(one.objects_variance[0])
        assert row["bytes"] == pytest.approx(one.bytes[0], abs=1 / 256)
        assert row["bytes_variance"] == pytest.approx(one.bytes_variance[0], abs=1)


@given(programs(), rates)
def test_blocks_are_the_lives_that_lifetimes_counts(
    program: list[Row], rate: tuple[float, float]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(Path(folder), Ledger(program), [], [], rates=rate)
        with read_log(paths) as run:
            every = [lifetimes(run, domain=k, jobs=1) for k in range(len(DOMAINS))]
        with log_tables(paths) as tables:
            found = rows(tables, "blocks")
    for lives in every:
        own = [r for r in found if r["domain"] == DOMAINS[lives.domain]]
        freed = [r for r in own if r["fate"] == "freed"]
        sums = lives.sums
        assert sums.exact.blocks.sum() + sums.about.blocks.sum() == len(freed)
        assert sums.alive.blocks.sum() == sum(r["fate"] == "live" for r in own)
        assert sums.unended.blocks.sum() == sum(r["fate"] == "lost" for r in own)
        exact = [r for r in freed if r["born_exactly"]]
        assert sums.exact.blocks.sum() == len(exact)
        assert all(r["died_ns"] - r["born_ns"] == r["lifetime_ns"] for r in exact)


def test_a_block_has_its_address_its_threads_and_what_came_in_between(tmp_path: Path) -> None:
    with log_tables([write_log(tmp_path / "a.memlog")]) as tables:
        found = {row["address"]: row for row in rows(tables, "blocks")}
    assert {a: (r["fate"], r["lifetime_ns"], r["between"]) for a, r in found.items()} == {
        0x10: ("freed", 7 * S, 3), 0x20: ("freed", S, 0), 0x30: ("live", None, None),
        0x40: ("freed", S // 2, 0),
    }  # fmt: skip
    assert {(r["born_thread"], r["born_tid"]) for r in found.values()} == {("t0", 100)}
    assert found[0x30]["died_thread_row"] is None
    assert {found[a]["stack"] for a in (0x20, 0x40)} == {CHURN}


def test_a_part_of_a_log_has_the_events_behind_its_first_moment(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.memlog")
    with log_tables([path], Part("2.5s", "6s")) as tables:
        assert [r["time_ns"] for r in rows(tables, "events")] == [3 * S, 6 * S]
        assert [r["text"] for r in rows(tables, "marks")] == ["warm", "cold"]
        assert [r["time_ns"] for r in rows(tables, "readings")] == []
        [capture] = rows(tables, "captures")
    assert (capture["from_ns"], capture["to_ns"]) == (5 * S // 2, 6 * S)
    assert capture["peak_at_ns"] == 6 * S


def test_holes_marks_and_readings_are_those_of_the_log(tmp_path: Path) -> None:
    holes = (Hole(2 * S, 3 * S, 7, 1, "why"), Hole(4 * S, 4 * S, None))
    with log_tables([write_log(tmp_path / "a.memlog", holes=holes)]) as tables:
        found = [{k: v for k, v in r.items() if k != "file"} for r in rows(tables, "holes")]
        assert found == [
            {"from_ns": 2 * S, "to_ns": 3 * S, "lost": 7, "ring": 1, "why": "why"},
            {"from_ns": 4 * S, "to_ns": 4 * S, "lost": None, "ring": None, "why": holes[1].why},
        ]
        marks = [(r["mark"], r["time_ns"], r["kind"], r["text"]) for r in rows(tables, "marks")]
        assert marks == [
            (0, 2 * S, "begin", "warm"), (1, 4 * S, "end", "warm"), (2, 5 * S, "point", "cold"),
        ]  # fmt: skip
        read = [(r["time_ns"], r["rss_bytes"], r["live_bytes"]) for r in rows(tables, "readings")]
        assert read == [(2 * S, 1 << 20, None), (7 * S, 3 << 20, None)]


def test_a_log_without_events_has_tables_without_rows(tmp_path: Path) -> None:
    path = write_log(tmp_path / "a.memlog", [])
    with log_tables([path]) as tables:
        assert [len(rows(tables, t)) for t in ("events", "blocks", "sites")] == [0, 0, 0]
        assert len(rows(tables, "stacks")) == 2


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.MARK])
def test_what_is_no_sampled_block_has_no_estimate(kind: Kind, tmp_path: Path) -> None:
    row = {"time_ns": 7 * S, "kind": kind, "address": 0, "size_bytes": 9, "birth_ns": 0}
    with log_tables([write_log(tmp_path / "a.memlog", [*ROWS[:4], row])]) as tables:
        last = rows(tables, "events")[-1]
    assert last["kind"] == kind.name.lower()
    assert [last[n] for n in ("objects", "objects_variance", "bytes", "bytes_variance")] == [
        None
    ] * 4
    assert last["change"] == 0
