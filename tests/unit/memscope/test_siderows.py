"""Side rows: in the file when the call returns, whole, each process's in its own; read as they
grow, from a process that may write anything.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.siderows import LINE_MAX_BYTES, SideFile, SideRow, row_of
from mem_profiler.memscope import siderows
from mem_profiler.memscope.siderows import MOST_CHARS, SideRows, line_of, row_now

GOOD = [5, 7, "0", "ACCESS", "READ", "op", 4096, {"size": 3}, None]


def test_rows_come_when_their_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    file = SideFile(str(path))
    assert file.take() == []
    line = json.dumps(GOOD) + "\n"
    path.write_text(line + line[:10])
    assert [row.name for row in file.take()] == ["op"]
    assert file.take() == []
    with path.open("a") as more:
        more.write(line[10:])
    assert [row.address for row in file.take()] == [4096]
    assert file.wrong_lines == 0
    file.close()


def test_wrong_and_endless_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    line = json.dumps(GOOD) + "\n"
    endless = "x" * (3 * LINE_MAX_BYTES) + "\n"
    path.write_text("nonsense\n[1]\n\n" + endless + line + "[" * 5000 + "\n" + line)
    file = SideFile(str(path))
    assert len(file.take()) == 2
    assert file.wrong_lines == 4


def test_a_link_or_a_pipe_is_no_file_of_rows(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        assert SideFile(str(tmp_path / name)).take() == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, -1), (0, True), (0, 1 << 63), (1, "7"), (2, "../../x"), (2, "0/1"), (2, ""), (2, 3),
        (3, "EVIL"), (3, ["MSTX"]), (4, 5), (5, None), (6, -1), (6, 1 << 64), (7, []), (8, 3),
    ],
)  # fmt: skip
def test_a_field_of_another_kind_makes_no_row(place: int, value: object) -> None:
    assert row_of(GOOD) is not None
    wrong = list(GOOD)
    wrong[place] = value
    assert row_of(wrong) is None


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("side") / "rows"
    path.write_bytes(data)
    file = SideFile(str(path))
    file.take()
    file.close()


def rows_of(path: Path | str) -> list[str]:
    rows, wrong = read(path)
    assert wrong == 0
    return [row.name for row in rows]


def read(path: Path | str) -> tuple[list[SideRow], int]:
    file = SideFile(str(path))
    rows = file.take()
    file.close()
    return rows, file.wrong_lines


def test_what_was_written_is_there_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from mem_profiler.memscope.siderows import SideRows, row_now\n"
        "rows = SideRows(sys.argv[1])\n"
        "for k in range(100): rows.write([row_now('ACCESS', 'READ', str(k))])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], timeout=60)
    assert done.returncode == -signal.SIGKILL
    [path] = tmp_path.iterdir()
    assert rows_of(path) == [str(k) for k in range(100)]


def test_rows_of_threads_are_whole_and_in_each_threads_order(tmp_path: Path) -> None:
    rows = SideRows(str(tmp_path))

    def write(thread: int) -> None:
        for k in range(200):
            rows.write([row_now("ACCESS", "READ", f"{thread} {k} {'x' * 500}")])

    threads = [threading.Thread(target=write, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    names = rows_of(rows.path)
    for t in range(4):
        mine = [int(name.split()[1]) for name in names if name.startswith(f"{t} ")]
        assert mine == list(range(200))


def test_a_fork_child_has_its_own_file(tmp_path: Path) -> None:
    rows = SideRows(str(tmp_path))
    rows.write([row_now("ACCESS", "READ", "parent")])
    child = os.fork()
    if not child:
        rows.write([row_now("ACCESS", "READ", "child")])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    rows.write([row_now("ACCESS", "READ", "parent")])
    assert rows_of(rows.path) == ["parent", "parent"]
    assert rows_of(tmp_path / f"side_rows_{child}.jsonl") == ["child"]


def test_a_full_file_loses_rows_counts_them_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = SideRows(str(tmp_path))
    rows.write([row_now("ACCESS", "READ", "first")])
    real = os.write
    monkeypatch.setattr(siderows.os, "write", lambda fd, data: real(fd, data[:30]))
    rows.write([row_now("ACCESS", "READ", "torn"), row_now("ACCESS", "READ", "lost")])
    assert rows.lost == 2
    monkeypatch.undo()
    rows.write([row_now("ACCESS", "READ", "last")])
    found, wrong = read(rows.path)
    assert [(row.event, row.name) for row in found] == [
        ("ACCESS", "first"), ("LOST", "2"), ("ACCESS", "last"),
    ]  # fmt: skip
    assert wrong == 1


def test_a_limit_of_the_system_never_raises(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from mem_profiler.memscope.siderows import SideRows, row_now\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "rows = SideRows(sys.argv[1])\n"
        "for k in range(100): rows.write([row_now('ACCESS', 'READ', str(k))])\n"
        "print(rows.lost)\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.iterdir()
    assert len(read(path)[0]) + int(done.stdout) == 100


def test_a_line_has_a_bounded_length() -> None:
    row = row_now("ACCESS", "READ", "n" * 10_000, stack="s" * (2 * MOST_CHARS))
    line = line_of(row)
    assert len(line) <= MOST_CHARS
    assert json.loads(line)[5] == "n" * 4096
