"""`mem_parser query`, and `convert` to tables and traces, on the command line."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mem_parser.heapfile.writer import write_heap
from mem_parser.memlog.profiles import read_part
from mem_parser.tables import extras
from mem_parser.tables.extras import pip_line
from mem_parser.tables.schema import TABLES
from parser_run import Run
from screens import lines_used, plain, screen
from timelog import ROWS, S, keyframe, write_log

BY_KIND = "SELECT kind, count(*) AS events FROM events GROUP BY kind ORDER BY kind"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "x.1-0.memlog")


@pytest.fixture
def heap(log: Path) -> Path:
    [profile] = read_part([log])
    path = log.with_name("x.heap")
    path.write_bytes(write_heap(profile))
    return path


def test_an_answer_is_a_table_json_or_csv(run: Run, log: Path) -> None:
    code, out, err = run("query", BY_KIND, log)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["kind", "events"], ["birth", "4"], ["death", "3"],
    ]  # fmt: skip
    rows = [{"kind": "birth", "events": 4}, {"kind": "death", "events": 3}]
    found = json.loads(run("query", BY_KIND, log, "--json")[1])
    assert found == {"columns": ["kind", "events"], "rows": rows, "more": False}
    text = run("query", BY_KIND, log, "--csv")[1]
    assert list(csv.DictReader(io.StringIO(text))) == [
        {k: str(v) for k, v in row.items()} for row in rows
    ]


def test_a_terminal_has_80_columns_and_long_texts_are_cut(log: Path) -> None:
    query = (
        "SELECT repeat('long ', 40) AS a, repeat('text ', 30) AS b, 12345678 AS n FROM range(50)"
    )
    shown = screen("query", query, log, rows=60).rpartition("\x1b[K")[2]
    assert lines_used(shown) == 42
    assert all(len(line) <= 80 for line in plain(shown).splitlines())
    assert "…" in shown
    assert "12345678" in shown
    assert "only the first 40 rows shown. Use -n 0 to show all." in shown


def test_rows_are_counted_as_asked(run: Run, log: Path) -> None:
    assert len(run("query", "FROM range(100)", log)[1].splitlines()) == 42
    assert len(run("query", "FROM range(100)", log, "-n", "7")[1].splitlines()) == 9
    assert len(run("query", "FROM range(100)", log, "-n", "0")[1].splitlines()) == 101
    assert len(json.loads(run("query", "FROM range(100)", log, "--json")[1])["rows"]) == 100


def test_logs_of_a_run_are_one_and_all_other_files_have_their_own_rows(
    run: Run, log: Path, heap: Path, tmp_path: Path
) -> None:
    early = [row for row in ROWS if row["time_ns"] < 4 * S]
    late = [row for row in ROWS if row["time_ns"] >= 4 * S]
    live = keyframe(4 * S, [(0, 1, 1000), (0, 1, 2000)])
    parts = [
        write_log(tmp_path / "y.1-1.memlog", late, number=2, keyframes=(live,), run="b" * 32),
        write_log(tmp_path / "y.1-0.memlog", early, last=False, run="b" * 32),
    ]
    query = "SELECT file, sum(alloc_bytes) AS bytes FROM sites GROUP BY file ORDER BY file"
    found = json.loads(run("query", query, log, heap, *parts, "--json")[1])
    assert found["rows"] == [
        {"file": str(log), "bytes": 15000}, {"file": str(heap), "bytes": 15000},
        {"file": str(parts[0]), "bytes": 15000},
    ]  # fmt: skip


def test_a_part_of_a_log_is_asked(run: Run, log: Path, heap: Path) -> None:
    words = ("query", "SELECT count(*) AS n FROM events", log, "--from", "2.5s", "--to", "6s")
    assert json.loads(run(*words, "--json")[1])["rows"] == [{"n": 2}]
    code, out, err = run("query", "FROM sites", heap, "--from", "1s")
    assert (code, out) == (3, "")
    assert "not a log of events" in err


def test_the_tables_are_listed_without_a_file(run: Run) -> None:
    code, out, err = run("query", "--tables")
    assert (code, err) == (0, "")
    rows = json.loads(run("query", "--tables", "--json")[1])["rows"]
    assert [(r["table"], r["column"]) for r in rows] == [
        (table.name, field.name) for table in TABLES for field in table.fields
    ]
    for table in TABLES:
        assert f"{table.name}: {table.about}" in out


@pytest.mark.parametrize(("words", "says"), [
    ([], "Usage: mem_parser query"),
    (["SELECT 1"], "a query needs its text and a file"),
    (["SELECT 1", "x", "--json", "--csv"], "exclude each other"),
    (["SELECT 1", "x", "--memory", "5"], "no size from 64M on"),
])  # fmt: skip
def test_words_that_are_wrong_are_refused(words: list[str], says: str, run: Run) -> None:
    code, out, err = run("query", *words)
    assert code == 2
    assert out == ""
    assert says in err


def test_a_refused_query_is_one_line_and_the_cure(run: Run, log: Path, tmp_path: Path) -> None:
    out_file = tmp_path / "stolen.csv"
    for query in (f"COPY events TO '{out_file}'", "SELECT * FROM read_csv('/etc/passwd')",
                  "INSTALL httpfs", "SELEC", "SELECT nothing FROM events"):  # fmt: skip
        code, out, err = run("query", query, log)
        assert (code, out) == (2, "")
        first, second = err.splitlines()
        assert first.startswith("error: ")
        assert second == "hint:  mem_parser query --tables lists tables and columns"
    assert not out_file.exists()


def test_a_file_that_was_cut_is_asked_and_then_refused(run: Run, log: Path) -> None:
    log.write_bytes(log.read_bytes()[:-20])
    code, out, err = run("query", BY_KIND, log)
    assert code == 3
    assert "birth" in out
    assert "ends within a block" in err
    assert run("query", BY_KIND, log, "--partial")[0] == 0


@pytest.mark.parametrize("library", ["pyarrow", "duckdb"])
def test_without_a_library_one_line_says_how_to_install_it(
    library: str, run: Run, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def imported(name: str) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(f"No module named {library!r}")
        return real(name)

    monkeypatch.setattr(extras.importlib, "import_module", imported)
    words = [("query", BY_KIND, log)]
    if library == "pyarrow":
        words.append(("convert", log, "-o", tmp_path / "x.parquet"))
    for one in words:
        code, out, err = run(*one)
        assert (code, out) == (1, "")
        first, second = err.splitlines()
        assert first == f"error: {library} is missing: No module named '{library}'"
        assert second == f"hint:  {pip_line('query', 'duckdb', 'pyarrow')}"
    assert not (tmp_path / "x.parquet").exists()


def test_convert_writes_a_folder_of_tables(run: Run, log: Path, heap: Path, tmp_path: Path) -> None:
    for source, events in ((log, 7), (heap, 0)):
        out = tmp_path / f"{source.suffix[1:]}.parquet"
        code, printed, err = run("convert", source, "-o", out)
        assert (code, printed) == (0, "")
        assert err.startswith(f"wrote {out}, ")
        assert pq.read_table(out / "events.parquet").num_rows == events
        assert sum(pq.read_table(out / "sites.parquet")["alloc_bytes"].to_pylist()) == 15000
        assert pq.read_table(out / "sites.parquet")["file"].to_pylist()[0] == str(source)
    part = tmp_path / "part"
    run("convert", log, "-o", part, "--to", "parquet", "--from", "2.5s", "--until", "6s")
    assert pq.read_table(part / "events.parquet").num_rows == 2


def test_convert_to_tables_refuses_before_it_reads(run: Run, log: Path, tmp_path: Path) -> None:
    code, _, err = run("convert", log, "-o", tmp_path / "x.parquet", "--focus", "load")
    assert (code, "leave --focus out" in err) == (2, True)
    code, _, err = run("convert", log, "-o", tmp_path / "no" / "x.parquet")
    assert (code, "no such folder" in err) == (2, True)
    (tmp_path / "mine.parquet").write_text("mine")
    code, _, err = run("convert", log, "-o", tmp_path / "mine.parquet")
    assert (code, "tables are a folder" in err) == (2, True)
    code, _, err = run("convert", log, "-o", "-", "--to", "parquet")
    assert code == 2
    assert sorted(os.listdir(tmp_path)) == ["mine.parquet", "x.1-0.memlog"]


def test_convert_writes_a_trace_with_its_peaks(
    run: Run, log: Path, heap: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.perfetto.json"
    code, _, err = run("convert", log, "-o", out, "--python")
    assert (code, err.startswith(f"wrote {out}, ")) == (0, True)
    events = json.loads(out.read_text())["traceEvents"]
    peaks = [e for e in events if e.get("cat") == "peak"]
    rows = json.loads(run("peaks", log, "--python", "--json")[1])["rows"]
    assert [(e["ts"], e["args"]["live_bytes"]) for e in sorted(peaks, key=lambda e: e["name"])] == [
        (row["at_s"] * 1e6, row["live_bytes"]) for row in rows
    ]
    first = next(e for e in peaks if e["name"].startswith("peak 1"))
    assert first["name"] == "peak 1: churn (shop.py)"
    assert first["args"]["function"] == "churn (shop.py)"
    code, _, err = run("convert", heap, "-o", out)
    assert (code, "not a log of events" in err) == (3, True)
