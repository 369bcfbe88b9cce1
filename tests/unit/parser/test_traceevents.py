"""Traces of logs: the Trace Event Format, and numbers as the timeline has them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from mem_parser.devices import Mark
from mem_parser.memlog.filefacts import Hole
from mem_parser.memlog.profiles import bare_profile
from mem_parser.memlog.run import read_log
from mem_parser.memlog.series import series
from mem_parser.model import Profile
from mem_parser.reports.timeline import Timeline, timeline
from mem_parser.writers.traceevents import write_trace
from timelog import MARKS, S, write_log

PHASES = {"M", "C", "i", "b", "e"}


def traced(
    path: Path, *, step_ns: int = S, marks: list[Mark] | None = None
) -> tuple[list[dict[str, Any]], Timeline]:
    with read_log([path]) as run:
        every = series(run, step_ns)
        found = timeline(run, every, 0, run.end_ns)
        if marks is not None:
            found = dataclasses.replace(found, marks=marks)
        profile: Profile = bare_profile(run, 0)
        text = b"".join(write_trace(found, [("host", [])], profile))
    document = json.loads(text)
    check_format(document)
    return document["traceEvents"], found


def check_format(document: dict[str, Any]) -> None:
    """What the format says of each event that we write."""
    assert set(document) == {"displayTimeUnit", "otherData", "traceEvents"}
    opened: list[tuple[str, str]] = []
    last = 0.0
    for event in document["traceEvents"]:
        assert event["ph"] in PHASES
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert event["name"] in {"process_name", "thread_name"}
            continue
        assert isinstance(event["ts"], int | float)
        assert event["ts"] >= last
        last = event["ts"]
        if event["ph"] == "C":
            assert all(isinstance(v, int | float) for v in event["args"].values())
        elif event["ph"] == "i":
            assert event["s"] in {"g", "p", "t"}
        elif event["ph"] == "b":
            opened.append((event["cat"], event["id"]))
        else:
            opened.remove((event["cat"], event["id"]))
    assert opened == []


def counter(events: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    return [
        (e["ts"] / 1e6, e["args"]["value"]) for e in events if e["ph"] == "C" and e["name"] == name
    ]


@pytest.mark.parametrize("step_ns", [S, S // 10, 100 * S])
def test_live_bytes_have_every_maximum_at_its_moment(step_ns: int, tmp_path: Path) -> None:
    events, found = traced(write_log(tmp_path / "a.memlog"), step_ns=step_ns)
    live = counter(events, "live bytes")
    [one] = found.every
    changes = [k for k in range(len(one)) if k == 0 or one.max_bytes[k] != one.max_bytes[k - 1]]
    assert {(int(one.max_at_ns[k]) / 1e9, float(one.max_bytes[k])) for k in changes} <= set(live)
    assert max(value for _, value in live) == 11000
    assert next(at for at, value in live if value == 11000) == 6.0
    assert all(value == 0 for _, value in counter(events, "live bytes, standard error"))


def test_rates_add_up_to_what_was_allocated_and_freed(tmp_path: Path) -> None:
    events, found = traced(write_log(tmp_path / "a.memlog"))
    end = max(found.to_ns, found.every[0].from_ns + len(found.every[0]) * S) / 1e9
    for name, total in (("allocated bytes/s", 15000), ("freed bytes/s", 13000)):
        points = [*counter(events, name), (end, 0.0)]
        assert total == sum(
            value * (behind - at) for (at, value), (behind, _) in itertools.pairwise(points)
        )


def test_rss_marks_and_holes_are_where_the_log_has_them(tmp_path: Path) -> None:
    holes = (Hole(3 * S, 4 * S, 7, 1, "why"),)
    events, _ = traced(write_log(tmp_path / "a.memlog", holes=holes))
    assert counter(events, "RSS") == [(2.0, 1 << 20), (7.0, 3 << 20)]
    spans = [(e["name"], e["ph"], e["ts"] / 1e6) for e in events if e["ph"] in "be"]
    assert ("warm", "b", 2.0) in spans
    assert ("warm", "e", 4.0) in spans
    assert ("7 events missing", "b", 3.0) in spans
    assert ("7 events missing", "e", 4.0) in spans
    assert any(name == "what was in use is not sure" for name, _, _ in spans)
    [hole] = [e for e in events if e.get("cat") == "missing events" and e["ph"] == "b"]
    assert hole["args"] == {"lost": 7, "ring": 1, "why": "why"}
    assert [(e["name"], e["ts"]) for e in events if e["ph"] == "i"] == [("cold", 5e6)]


def test_ranges_without_a_begin_or_an_end_reach_to_the_edge(tmp_path: Path) -> None:
    marks = [Mark(3.0, 9, "end", 0, "", ""), Mark(4.0, 1, "begin", 0, "lib", "open")]
    events, found = traced(write_log(tmp_path / "a.memlog"), marks=marks)
    spans = {(e["name"], e["ph"]): e["ts"] for e in events if e.get("cat") == "mark"}
    assert spans == {
        ("mark", "b"): 0.0, ("mark", "e"): 3e6, ("open", "b"): 4e6,
        ("open", "e"): found.to_ns / 1e3,
    }  # fmt: skip


def test_texts_of_a_program_stay_within_their_strings(tmp_path: Path) -> None:
    nasty = '"}],\n\x00<script>\u2028'
    events, _ = traced(
        write_log(tmp_path / "a.memlog"), marks=[dataclasses.replace(MARKS[2], text=nasty)]
    )
    [mark] = [e for e in events if e.get("cat") == "mark"]
    assert "\n" not in mark["name"]
    assert "<script>" in mark["name"]
