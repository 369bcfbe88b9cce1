"""Dumps on a disk that becomes full: what was written stays readable, and a line says to where."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import run_command
from mem_parser.errors import DiskFull
from mem_parser.memlog.events import Kind
from memscope_dumps import HEADER, line
from memscope_logs import Collected, Log, with_settings
from memscope_run import Collecting, Dump, dumps, ledger_story
from parser_run import parse

needs_mount = pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if subprocess.run(mount, timeout=20, capture_output=True, check=False).returncode != 0:
        pytest.skip("mount is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False, timeout=20)


def pairs(number: int, first: int = 0) -> list[tuple[int, Kind, int, int, int]]:
    """Births and deaths of blocks, one after the other."""
    return [
        (1_000_000 * (2 * k + half), (Kind.BIRTH, Kind.DEATH)[half], 4096 * (k + 1), 64, 1)
        for k in range(first, first + number)
        for half in (0, 1)
    ]


@needs_mount
@pytest.mark.parametrize("form", ["csv", "db"])
def test_a_dump_on_a_full_disk_ends_with_a_whole_row(
    small: Path, tmp_path: Path, form: str
) -> None:
    log = Log(tmp_path)
    (tmp_path / "out").symlink_to(small)
    made = Collected(log, with_settings(form=form))

    def write() -> None:
        for first in range(0, 2000, 100):
            log.add(*pairs(100, first))
            made.step()

    with pytest.raises(DiskFull, match=r"no space left|disk is full") as caught:
        write()
    made.collecting.close()
    [path] = small.glob(f"*/*/dump/memscope_dump_*.{form}")
    rows = Dump(path).rows
    assert rows
    first = int(rows[0]["ID"])
    assert [int(row["ID"]) for row in rows] == list(range(first, first + len(rows)))
    assert f"{path.name} has {len(rows)} rows" in str(caught.value)
    assert path.suffix == ".db" or path.read_bytes().endswith(b"\n")


@needs_mount
@pytest.mark.parametrize("form", ["csv", "db"])
def test_no_empty_dump_is_left_where_nothing_could_be_written(
    small: Path, tmp_path: Path, form: str
) -> None:
    log = Log(tmp_path)
    log.add(*pairs(100))
    log.end()
    (tmp_path / "out").symlink_to(small)
    made = Collected(log, with_settings(form=form))
    folder = small / "msmemscope_4711_1_ascend/device_0/dump"
    folder.mkdir(parents=True)
    with (small / "filler").open("wb", buffering=0) as file:
        assert file.write(bytes(1 << 20)) < 1 << 20
    with pytest.raises(DiskFull):
        made.finish()
    made.collecting.close()
    assert list(folder.iterdir()) == []


@needs_mount
def test_a_command_on_a_full_disk_says_so_and_recover_writes_the_rest(
    small: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").symlink_to(small)
    filler = small / "filler"
    filler.write_bytes(bytes(150 << 10))
    with Collecting(tmp_path, "--call-stack", "c:30") as run:
        run.do("set 0")
        for _ in range(110):
            run.do("malloc 0 1000", "free 0")
        assert run.end() == DiskFull.exit_code, run.stderr
    [dump] = dumps(run.output)
    story = ledger_story(run.ledger)
    assert [(e, size) for e, _, size in dump.story()] == story[: len(dump.rows)]
    assert f"{dump.path.name} has {len(dump.rows)} rows, to " in run.stderr
    assert "mem_profiler recover" in run.stderr

    filler.unlink()
    done = run_command("recover", run.output)
    assert done.returncode == 0, done.stderr
    [dump] = dumps(run.output)
    assert [(e, size) for e, _, size in dump.story()] == story


@needs_mount
@pytest.mark.parametrize("name", ["again.csv", "again.db", "tree"])
def test_a_conversion_to_a_full_disk_leaves_nothing_or_whole_rows(
    small: Path, tmp_path: Path, name: str
) -> None:
    log = Log(tmp_path)
    for first in range(0, 2000, 100):
        log.add(*pairs(100, first))
    log.end()
    done = parse("convert", tmp_path / "log1-0.memlog", "--to", "memscope", "-o", small / name)
    assert done.returncode == DiskFull.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in small.rglob("*") if path.is_file() and path.suffix == ".tmp"] == []


def test_a_command_says_in_one_line_that_a_dump_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text(f"{HEADER}\n{line()}\n{line()[:30]}")
    done = parse("memscope", path)
    assert done.returncode == 0
    assert done.stderr == f"warning: {path}: its last line was cut: the rows before it count\n"
