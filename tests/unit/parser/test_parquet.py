"""Folders of Parquet files: whole or not there, in row groups, read back as they were."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.memlog.part import WHOLE
from mem_parser.memlog.run import read_log
from mem_parser.tables import extras, parquet
from mem_parser.tables.columns import Columns
from mem_parser.tables.schema import TABLES
from mem_parser.tables.source import LogSource
from tabled import log_tables, names, rows
from timelog import write_log

FILES = {f"{table.name}.parquet" for table in TABLES}


class Broken(LogSource):
    """A log that cannot be read to its end."""

    def _blocks(self) -> Iterator[Columns]:
        yield from super()._blocks()
        raise InputFileError("x: damaged")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "a.memlog")


def test_what_is_read_back_is_what_the_tables_have(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    with log_tables([log]) as tables:
        size = parquet.write_folder([tables], str(out))
        assert {file.name for file in out.iterdir()} == FILES
        assert size == sum(file.stat().st_size for file in out.iterdir())
        for table in TABLES:
            found = pq.read_table(out / f"{table.name}.parquet")
            assert found.to_pylist() == rows(tables, table.name)
            assert found.column_names == [field.name for field in table.fields]
    mask = os.umask(0)
    os.umask(mask)
    assert out.stat().st_mode & 0o777 == 0o777 & ~mask


def test_pandas_reads_a_table(log: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    with log_tables([log]) as tables:
        parquet.write_folder([tables], str(tmp_path / "x.parquet"))
    events = pandas.read_parquet(tmp_path / "x.parquet" / "events.parquet")
    assert events.groupby("kind", observed=True).size().to_dict() == {"birth": 4, "death": 3}


def test_row_groups_bound_what_is_in_memory(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    more = write_log(tmp_path / "b.memlog", run="b" * 32)
    with log_tables([log], file="a") as one, log_tables([more], file="b") as other:
        parquet.write_folder([one, other], str(tmp_path / "x.parquet"))
        both = rows(one, "events") + rows(other, "events")
    file = pq.ParquetFile(tmp_path / "x.parquet" / "events.parquet")
    assert file.metadata.num_row_groups == 2
    assert file.read().to_pylist() == both


def test_a_log_that_cannot_be_read_leaves_nothing(log: Path, tmp_path: Path) -> None:
    with read_log([log]) as run:
        source = Broken("x", run, WHOLE, names)
        with pytest.raises(InputFileError, match="damaged"):
            parquet.write_folder([source], str(tmp_path / "x.parquet"))
    assert os.listdir(tmp_path) == ["a.memlog"]


def test_a_folder_of_tables_is_replaced_as_a_whole(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    with log_tables([log]) as tables:
        parquet.write_folder([tables], str(out))
        (out / "events.parquet").write_bytes(b"old")
        parquet.write_folder([tables], f"{out}/")
        assert pq.read_table(out / "events.parquet").num_rows == 7
    assert sorted(os.listdir(tmp_path)) == ["a.memlog", "x.parquet"]


def test_the_old_folder_stays_where_the_new_one_fails(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    with read_log([log]) as run:
        parquet.write_folder([LogSource("x", run, WHOLE, names)], str(out))
        before = {file.name: file.read_bytes() for file in out.iterdir()}
        with pytest.raises(InputFileError):
            parquet.write_folder([Broken("x", run, WHOLE, names)], str(out))
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert sorted(os.listdir(tmp_path)) == ["a.memlog", "x.parquet"]


def made(path: Path, what: str) -> Any:
    if what == "file":
        return path.write_text("mine")
    if what == "link":
        (path.parent / "elsewhere").mkdir()
        return path.symlink_to("elsewhere")
    path.mkdir()
    return (path / "mine.txt").write_text("mine")


@pytest.mark.parametrize(("what", "why"), [
    ("file", "that is none"), ("link", "that is none"), ("folder", "has other files too"),
])  # fmt: skip
def test_nothing_of_somebody_else_is_replaced(
    what: str, why: str, log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.parquet"
    made(out, what)
    with log_tables([log]) as tables, pytest.raises(UsageProblem, match=why):
        parquet.write_folder([tables], str(out))
    assert (
        out.is_symlink() or out.read_text() == "mine"
        if what != "folder"
        else ((out / "mine.txt").read_text() == "mine")
    )
    with pytest.raises(UsageProblem, match=why):
        parquet.check_folder(str(out))


@pytest.mark.parametrize("name", ["/", ".", "..", ""])
def test_a_name_that_no_new_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(OSError, match="is no name of a new folder"):
        parquet.check_folder(name)


@pytest.mark.parametrize(("made_by", "installed", "line"), [
    ("pip, active", True, "pip install 'mem-profiler[query]'"),
    ("pip", True, "{bin}/python -m pip install 'mem-profiler[query]'"),
    ("pip", False, "{bin}/python -m pip install duckdb pyarrow"),
    ("uv", True, "uv pip install --python {bin}/python 'mem-profiler[query]'"),
    ("neither", True, "{bin}/python -m pip install 'mem-profiler[query]'"),
])  # fmt: skip
def test_a_missing_library_is_installed_where_this_python_finds_it(
    made_by: str, installed: bool, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("pip", "uv"):
        if made_by.startswith(name):
            (folder / name).write_text("#!/bin/sh\n", encoding="utf-8")
            (folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/usr/bin" if made_by == "pip" else str(folder))
    has_pip = made_by.startswith("pip")
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda _: has_pip or None)
    if not installed:
        monkeypatch.setattr(extras, "DISTRIBUTION", "mem-profiler-that-nobody-installed")
    assert extras.pip_line("query", "duckdb", "pyarrow") == line.format(bin=folder)
