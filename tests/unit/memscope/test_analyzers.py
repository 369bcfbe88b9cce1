"""Labels in place."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from mem_parser.memscope import csvfile
from mem_parser.memscope.analyzers import (
    AnalysisConfig,
    InefficientAnalyzer,
    InefficientConfig,
    LeaksConfig,
    analyze,
    check_inefficient,
    get_analyzer_config,
    list_analyzers,
)
from mem_parser.memscope.attributes import with_labels
from mem_parser.memscope.form import DumpError
from mem_parser.memscope.reading import chunks_of
from mem_parser.memscope.rewriting import add_labels
from memscope_dumps import HEADER, Story, line, printed, text_file

A, B = 0x1000, 0x2000


def late(**extra: object) -> Story:
    """A block that is freed late, with a stack in two lines."""
    story = Story()
    story.malloc(A, 64, "PTA", 1, python_stack="a.py(1): f\nb.py(2): g", **extra)
    story.access(A, 64, 1)
    story.malloc(B, 64, "PTA", 2)
    story.free(A, 64, "PTA", 1)
    return story


def attributes(path: str) -> list[str]:
    return [text for chunk in chunks_of(path) for text in chunk.columns[9]]


def test_a_csv_file_gets_labels_and_all_else_stays(tmp_path: Path) -> None:
    path = Path(late().csv(tmp_path))
    path.chmod(0o640)
    before = path.read_text()
    said = printed(check_inefficient, str(path))
    assert said == [
        "INFO: Connected to CSV file",
        "INFO: CSV file read successfully",
        f"INFO: Connecting to csv {path.name} to write results",
        f"INFO: All results have been successfully written to csv {path.name}",
    ]
    after = path.read_text()
    assert "inefficient_type:late_deallocation}" in after
    assert after.replace(",inefficient_type:late_deallocation", "") == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == [path.name]


def test_a_database_gets_labels_as_json(tmp_path: Path) -> None:
    path = late().db(tmp_path)
    before = attributes(path)
    said = printed(analyze, "inefficient", input_path=path)
    assert said[0] == "INFO: Connected to memscope_dump_1.db (table: memscope_dump)"
    assert said[-1].endswith("written to database memscope_dump_1.db")
    after = attributes(path)
    assert after[0] == before[0][:-1] + ',"inefficient_type":"late_deallocation"}'
    assert after[1:] == before[1:]


@pytest.mark.parametrize("form", ["csv", "db"])
def test_a_second_run_keeps_the_labels_and_does_not_write(tmp_path: Path, form: str) -> None:
    story = late(inefficient_type="early_allocation,temporary_idleness")
    path = getattr(story, form)(tmp_path)
    printed(check_inefficient, path)
    assert "early_allocation,temporary_idleness,late_deallocation" in attributes(path)[0]
    once = Path(path).read_bytes()
    inode = os.stat(path).st_ino
    printed(InefficientAnalyzer().analyze, InefficientConfig(path))
    assert Path(path).read_bytes() == once
    assert os.stat(path).st_ino == inode


def test_line_ends_other_columns_and_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [
        HEADER + ",More", line() + ",1", "", line(id="2", python='"a ""b""\r\nc\xff"') + ',"x,y"',
    ]  # fmt: skip
    before = "\r\n".join([*rows, ""]).encode("latin-1")
    path.write_bytes(before)
    assert add_labels(str(path), {2: ["late_deallocation"]}) == 1
    after = path.read_bytes()
    assert after.replace(b",inefficient_type:late_deallocation", b"") == before
    assert after.count(b"late_deallocation") == 1


def test_a_failure_in_the_middle_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(late().csv(tmp_path))
    before = path.read_bytes()

    def full(field: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csvfile, "quoted", full)
    with pytest.raises(OSError, match="No space left"):
        printed(check_inefficient, str(path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_database_whose_write_fails_stays_as_it_was(tmp_path: Path) -> None:
    path = late().db(tmp_path)
    connection = sqlite3.connect(path)
    (old,) = connection.execute("SELECT Attr FROM memscope_dump WHERE rowid = 3").fetchone()
    taken = with_labels(old, ["late_deallocation"])
    connection.execute("UPDATE memscope_dump SET Attr = ? WHERE rowid = 2", (taken,))
    connection.execute("UPDATE memscope_dump SET Attr = '{a:1}' WHERE rowid = 1")
    connection.execute("DELETE FROM memscope_dump WHERE rowid > 3")
    connection.execute("CREATE UNIQUE INDEX one ON memscope_dump (Attr)")
    connection.commit()
    connection.close()
    before = attributes(path)
    with pytest.raises(DumpError, match="UNIQUE"):
        add_labels(path, {1: ["late_deallocation"], 3: ["late_deallocation"]})
    assert attributes(path) == before


def test_a_database_with_a_trigger_is_not_written(tmp_path: Path) -> None:
    path = late().db(tmp_path)
    before = attributes(path)
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TRIGGER evil AFTER UPDATE ON memscope_dump BEGIN DELETE FROM memscope_dump; END"
    )
    connection.commit()
    connection.close()
    with pytest.raises(DumpError, match=r"trigger \(evil\)"):
        printed(check_inefficient, path)
    assert attributes(path) == before


def test_labels_without_their_rows_are_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    for path in (late().csv(tmp_path), late().db(tmp_path)):
        before = attributes(path)
        with pytest.raises(DumpError, match="changed while it was read"):
            add_labels(path, {1: ["late_deallocation"], 99: ["late_deallocation"]})
        assert attributes(path) == before


def test_the_ranking_has_blocks_stacks_and_the_peak(tmp_path: Path) -> None:
    path = late(owner="PTA@ops").csv(tmp_path)
    before = Path(path).read_bytes()
    said = printed(check_inefficient, path, top=1, stacks=True, chart=True, write=False)
    assert Path(path).read_bytes() == before
    assert said[3].startswith("Inefficient memory: 1 block(s),")
    assert said[4].split("MiB x s")[1] == (
        "  64 B for 0.002 ms  Index 1 device 0 0x1000 PTA@ops  late_deallocation"
    )
    assert said[5:7] == ["    a.py(1): f", "    b.py(2): g"]
    assert said[7] == "Device 0: peak 128 B, 64 B without them (64 B less, 50.0%)"
    assert "#" in said[9]
    assert said[-1].strip().startswith("0 s")


def test_the_kinds_and_their_parameters_are_those_of_the_manual() -> None:
    assert list_analyzers() == ["leaks", "inefficient"]
    leaks, inefficient = map(get_analyzer_config, list_analyzers())
    assert leaks["config_class"] == "LeaksConfig"
    assert leaks["parameters"] == ["input_path", "mstx_info", "start_index"]
    assert inefficient["config_class"] == "InefficientConfig"
    assert inefficient["parameters"] == [
        "input_path", "mem_size", "inefficient_type", "idle_threshold",
    ]  # fmt: skip
    assert inefficient["options"] == {"top": 0, "stacks": False, "chart": False, "write": True}
    for call in (get_analyzer_config, analyze):
        with pytest.raises(ValueError, match="unknown analyzer type: other"):
            call("other")


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"mem_size": -1}, ValueError, "mem_size must be a non-negative integer"),
        ({"mem_size": "1"}, ValueError, "mem_size must be"),
        ({"idle_threshold": 0}, ValueError, "idle_threshold must be a positive integer"),
        ({"idle_threshold": True}, ValueError, "idle_threshold must be"),
        ({"inefficient_type": []}, ValueError, "non-empty list"),
        ({"inefficient_type": ["early"]}, ValueError, "'early' is none of early_allocation"),
        ({"inefficient_type": 3}, ValueError, "non-empty list"),
        ({"input_path": "none.csv"}, FileNotFoundError, "no such file: none.csv"),
        ({"input_path": "/none/x.csv"}, FileNotFoundError, "no such file"),
        ({"input_path": "/dev/null"}, ValueError, "must end with .csv or .db"),
        ({"input_path": 7}, TypeError, "must be a string"),
        ({"input_path": "/" + "x" * 5000 + ".csv"}, ValueError, "more than 4096"),
    ],
)
def test_a_wrong_parameter_is_one_line(
    tmp_path: Path, wrong: dict[str, object], error: type[Exception], said: str
) -> None:
    given = {"input_path": text_file(tmp_path / "x.csv")} | wrong
    with pytest.raises(error) as raised:
        InefficientConfig(**given)  # type: ignore[arg-type]
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"mstx_info": " "}, ValueError),
        ({"mstx_info": 3}, TypeError),
        ({"start_index": -1}, ValueError),
        ({"start_index": 1.0}, ValueError),
    ],
)
def test_a_wrong_parameter_of_leaks_too(
    tmp_path: Path, wrong: dict[str, object], error: type[Exception]
) -> None:
    path = text_file(tmp_path / "x.csv")
    given = {"input_path": path, "mstx_info": "test", "start_index": 0} | wrong
    with pytest.raises(error):
        LeaksConfig(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["csv", "db"])
def test_results_are_kept_by_row_process_and_id(tmp_path: Path, form: str) -> None:
    story = late()
    path = story.csv(tmp_path) if form == "csv" else story.db(tmp_path)
    analyzer = InefficientAnalyzer()
    printed(analyzer.analyze, InefficientConfig(path))
    [(key, labels)] = analyzer.inefficient_results.items()
    assert labels == ["late_deallocation"]
    row, pid, number = map(int, key.split("_"))
    if form == "csv":
        cells = Path(path).read_text().splitlines()[row - 1].split(",")
        assert cells[0] == str(number)
        assert cells[5] == str(pid)


def test_root_is_told_what_root_may_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = text_file(tmp_path / "x.csv")
    for uid in (1000, 0):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        AnalysisConfig(path)
        said = "WARN: Running as root user: Some permission checks may be bypassed."
        assert (said in capsys.readouterr().out.splitlines()) == (uid == 0)


def test_relative_paths_and_links_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(text_file(tmp_path / "x.csv"))
    (tmp_path / "link.csv").symlink_to("x.csv")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    monkeypatch.chdir(tmp_path)
    for given in ("x.csv", "./x.csv", "link.csv", str(tmp_path / "link.csv")):
        assert AnalysisConfig(given).input_path == str(path.resolve())
    with pytest.raises(FileNotFoundError, match="no such file"):
        AnalysisConfig("loop.csv")


def test_a_database_by_name_alone_is_called_none(tmp_path: Path) -> None:
    path = tmp_path / "junk.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(DumpError, match="not an SQLite database"):
        check_inefficient(str(path))


def test_folders_and_files_that_nobody_may_write_are_refused(tmp_path: Path) -> None:
    path = Path(text_file(tmp_path / "x.csv"))
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(FileNotFoundError, match="not a regular file"):
        AnalysisConfig(str(tmp_path / "folder.db"))
    if os.geteuid():
        path.chmod(0o400)
        with pytest.raises(PermissionError):
            InefficientConfig(str(path))


def test_one_label_may_be_given_as_a_string(tmp_path: Path) -> None:
    config = InefficientConfig(text_file(tmp_path / "x.csv"), 0, "early_allocation")
    assert config.inefficient_type == ["early_allocation"]
    assert config.idle_threshold == 3000
