"""Reports of logs of events on the command line, against what the program of `timelog` did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mem_parser.heapfile.writer import write_heap
from mem_parser.memlog.filefacts import Hole
from mem_parser.readers import read_profile
from parser_run import Run
from timelog import CHURN, LOAD, ROWS, S, birth, keyframe, write_log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "x.1-0.memlog")


@pytest.fixture
def halves(tmp_path: Path) -> list[Path]:
    """The same log in two files, cut at 4 s."""
    early = [row for row in ROWS if row["time_ns"] < 4 * S]
    late = [row for row in ROWS if row["time_ns"] >= 4 * S]
    live = keyframe(4 * S, [(LOAD, 1, 1000), (LOAD, 1, 2000)])
    return [
        write_log(tmp_path / "y.1-0.memlog", early, last=False),
        write_log(tmp_path / "y.1-1.memlog", late, number=2, keyframes=(live,)),
    ]


def flat(run: Run, *words: object) -> dict[str, float]:
    code, out, err = run(*words, "--python", "--json")
    assert (code, err) == (0, "")
    return {row["function"]: row["flat"] for row in json.loads(out)["rows"] if row["flat"]}


@pytest.mark.parametrize(("words", "held"), [
    ([], {"load (shop.py)": 2000}),
    (["--alloc"], {"load (shop.py)": 3000, "churn (shop.py)": 12000}),
    (["--freed"], {"load (shop.py)": 1000, "churn (shop.py)": 12000}),
    (["--peak"], {"load (shop.py)": 3000, "churn (shop.py)": 8000}),
    (["--to", "2s"], {"load (shop.py)": 1000, "churn (shop.py)": 4000}),
    (["--from", "2s", "--to", "7s", "--alloc"], {"load (shop.py)": 2000, "churn (shop.py)": 8000}),
    (["--from", "2s", "--to", "7s"], {"load (shop.py)": 3000}),
    (["--to", "5s", "--peak"], {"load (shop.py)": 1000, "churn (shop.py)": 4000}),
    (["--from", "warm", "--to", "warm", "--alloc"], {"load (shop.py)": 2000}),
    (["--from", "cold", "--to", "6200ms"], {"load (shop.py)": 3000, "churn (shop.py)": 8000}),
    (["--to", "25%"], {"load (shop.py)": 1000, "churn (shop.py)": 4000}),
])  # fmt: skip
def test_a_report_of_a_log_shows_the_whole_or_a_part(
    words: list[str], held: dict[str, float], run: Run, log: Path
) -> None:
    assert flat(run, "top", log, *words) == held


def test_files_of_one_run_are_one_log_in_any_order(run: Run, halves: list[Path]) -> None:
    whole = {"load (shop.py)": 3000, "churn (shop.py)": 12000}
    for files in (halves, halves[::-1]):
        assert flat(run, "top", *files, "--alloc") == whole
    assert flat(run, "top", halves[1], "--alloc") == {"churn (shop.py)": 8000}
    assert flat(run, "at", "3500ms", *halves) == {"load (shop.py)": 3000}
    code, out, _ = run("-f", halves[0], "-f", halves[1], "-t", "--python", "--alloc")
    assert (code, "churn (shop.py)" in out) == (0, True)
    code, out, _ = run(*halves, "--python")
    assert (code, "load (shop.py)" in out) == (0, True)


def test_files_of_different_runs_are_refused_in_one_line(
    run: Run, log: Path, tmp_path: Path
) -> None:
    other = write_log(tmp_path / "other.memlog", run="another", number=2)
    for words in (("top", log, other), ("-f", log, "-f", other, "-t")):
        code, out, err = run(*words)
        assert (code, out) == (3, "")
        assert "are of different captures" in err.splitlines()[0]


@pytest.mark.parametrize(("words", "code_and_text"), [
    (["top", "LOG", "--from", "noon"], (2, "'noon' is no time")),
    (["top", "LOG", "--from", "warm#2"], (2, "no such mark")),
    (["top", "LOG", "--from", "5s", "--to", "4s"], (2, "ends at 4.000 s, before it begins")),
    (["at", "100s", "LOG"], (2, "does not say what was in use at 100.000 s")),
    (["at", "1s", "LOG", "--peak"], (2, "--peak: at a moment there are blocks in use only")),
    (["at", "1s", "HEAP"], (3, "not a log of events")),
    (["top", "HEAP", "--to", "1s"], (3, "not a log of events")),
    (["timeline", "HEAP"], (3, "not a log of events")),
    (["timeline", "MISSING"], (3, "no such file")),
    (["timeline", "LOG", "--interval", "soon"], (2, "no length of time")),
    (["peaks", "LOG", "--domain", "gpu"], (2, "no domain gpu")),
    (["diff", "LOG"], (2, "two profiles, or of two moments")),
    (["diff", "--at", "1s", "2s", "HEAP"], (3, "not a log of events")),
    (["top", "LOG", "--from", "7s", "--freed"], (2, "no count tells what was freed")),
    (["top", "HEAP", "HEAP"], (2, "2 profiles given")),
])  # fmt: skip
def test_what_does_not_work_is_one_line_with_a_code(
    words: list[str], code_and_text: tuple[int, str], run: Run, log: Path, tmp_path: Path
) -> None:
    heap = tmp_path / "x.heap"
    heap.write_bytes(write_heap(read_profile(log)))
    names = {"LOG": log, "HEAP": heap, "MISSING": tmp_path / "none"}
    found = run(*(names.get(word, word) for word in words))
    code, text = code_and_text
    assert found[:2] == (code, "")
    first, *rest = found[2].splitlines()
    assert first.startswith("error: ")
    assert text in first
    assert all(line.startswith("hint: ") for line in rest)


def test_a_report_of_two_profiles_names_both_commands_that_take_two(run: Run) -> None:
    code, _, err = run("top", "a.heap", "b y.heap")
    assert code == 2
    assert err.splitlines()[1] == (
        "hint:  mem_parser diff a.heap 'b y.heap' compares two; "
        "mem_parser merge a.heap 'b y.heap' -o all.heap adds them up"
    )


def test_two_moments_of_a_log_are_compared(run: Run, log: Path, halves: list[Path]) -> None:
    for words in ([f"{log}@2s", f"{log}@3500ms"], ["--at", "2s", "3500ms", *halves]):
        code, out, _ = run("diff", *words, "--python", "--json")
        found = {row["function"]: row["delta"] for row in json.loads(out)["rows"]}
        assert code == 0
        assert found == {
            "load": 2000, "churn": -4000,
        }  # fmt: skip


def test_peaks_are_distinct_moments_with_those_who_held_most(run: Run, log: Path) -> None:
    code, out, _ = run("peaks", log, "--python", "--json")
    found = json.loads(out)["rows"]
    assert code == 0
    assert [(p["at_s"], p["live_bytes"], p["prominence_bytes"]) for p in found] == [
        (6.0, 11000, 11000), (1.5, 5000, 4000),
    ]  # fmt: skip
    assert [[(f["function"], f["flat"]) for f in p["functions"]] for p in found] == [
        [("churn (shop.py)", 8000), ("load (shop.py)", 3000)],
        [("churn (shop.py)", 4000), ("load (shop.py)", 1000)],
    ]
    assert json.loads(out)["notes"] == []
    out = run("peaks", log, "-n", "1", "--python")[1]
    assert (out.count("peak 1"), out.count("peak 2")) == (1, 0)
    assert "note: 1 more peak hidden, -n 2 shows it" in out


def test_what_is_not_known_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    live = keyframe(7 * S, [(LOAD, 2, 3000)], exact=False)
    first = keyframe(0, [(CHURN, 1, 500)])
    hole = Hole(round(3.5 * S), round(5.5 * S), 12)
    log = write_log(tmp_path / "h.memlog", keyframes=(first, live), holes=(hole,))
    for command in ("top", "timeline", "peaks"):
        code, out, _ = run(command, log)
        [line] = [line for line in out.splitlines() if "are missing" in line]
        assert code == 0
        assert line == (
            "note: 12 events are missing (the rings were full): what was in use is not sure from"
            " 3.500 to 7.000 s"
        )
        assert "note: what was in use at 7.000 s was counted about then, not exactly then" in out
    rows: list[dict[str, Any]] = json.loads(run("timeline", log, "--interval", "1s", "--json")[1])[
        "rows"
    ]
    assert [r["from_s"] for r in rows if not r["sure"]] == [3, 4, 5, 6]
    assert "?" in run("timeline", log)[1]


def test_a_cut_log_is_reported_and_refused(run: Run, log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-20])
    for command in ("top", "timeline", "peaks"):
        code, out, err = run(command, log, *(["--python"] if command == "top" else []))
        assert code == 3
        assert out
        assert "incomplete" in err
        assert run(command, log, "--partial")[0] == 0


def test_a_log_in_a_pipe_is_refused(run: Run, log: Path, tmp_path: Path) -> None:
    import os
    import threading

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(log.read_bytes(),))
    writer.start()
    code, out, err = run("top", fifo)
    writer.join(60)
    assert (code, out) == (3, "")
    assert "give it as a file" in err


def test_a_part_of_a_log_can_be_written_as_a_heap_file(run: Run, log: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.heap"
    assert run("convert", log, "--until", "2s", "-o", out)[0] == 0
    assert flat(run, "top", out) == {"load (shop.py)": 1000, "churn (shop.py)": 4000}


def test_what_was_live_before_the_first_file_is_in_use_but_not_freed(
    run: Run, halves: list[Path], tmp_path: Path
) -> None:
    code, out, _ = run("top", halves[1], "--python")
    assert (code, out.splitlines()[1]) == (
        0, "In use at 8.000 s of the log, whenever it was allocated.",
    )  # fmt: skip
    assert run("top", halves[1], "--freed")[0] == 2
    extra = write_log(tmp_path / "e.memlog", [*ROWS, birth(8.5, 0x50, 7)])
    assert flat(run, "top", extra, "--from", "end") == {"load (shop.py)": 2007}
