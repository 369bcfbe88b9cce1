"""What every report does with every kind of file: on a terminal, in a pipe, for programs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from golden_inputs import INPUTS, SHOP
from mem_cli.parser.group import cli
from mem_cli.terminal import show
from mem_parser.heapfile.writer import write_heap
from mem_parser.reports.grid import NAME, Column, Grid
from parser_run import parse, report, told
from python_profiles import Stack, profile_of
from screens import plain, screen


def heap(folder: Path) -> None:
    """A profile with Python frames, a cut stack, and one of 40 frames with long names."""
    frames = " ".join(f"ext!a_function_of_a_long_name_{k}" for k in range(40))
    stacks = [s for s in SHOP if "?" not in s.native] + [Stack(f"sampler!malloc {frames}")]
    (folder / "shop.heap").write_bytes(write_heap(profile_of(stacks)))


FILES: dict[str, Callable[[Path], None]] = {
    "shop.heap": heap, "x.1-0.memlog": INPUTS["log"][0], "x.heap": INPUTS["waste"][0],
}  # fmt: skip


def taking(*parameters: str) -> list[str]:
    """The commands of `mem_parser` that have these parameters."""
    commands = {name: cli.get_command(click.Context(cli), name) for name in cli.summaries}
    return [
        name
        for name, command in commands.items()
        if command is not None and set(parameters) <= {one.name or "" for one in command.params}
    ]


REPORTS = [name for name in taking("file", "as_json") if name not in {"at", "waste"}]
LOG_REPORTS = [n for n in taking("files", "as_json") if "needs --events" in cli.summaries[n]]


def words(command: str, file: str) -> list[str]:
    return [command, file, *([".*a|m.*"] if command in ("peek", "list") else [])]


TABLE = [
    (command, file)
    for file in FILES
    for command in (*REPORTS, *(LOG_REPORTS if file.endswith("memlog") else ()))
    if file != "x.heap"
] + [("waste", "x.heap")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    for write in FILES.values():
        write(made)
    return made


@pytest.mark.parametrize(("command", "file"), TABLE)
def test_a_report_fits_a_terminal_and_a_wide_one_shows_what_a_pipe_gets(
    folder: Path, command: str, file: str
) -> None:
    given = words(command, file)
    narrow = plain(screen(*given, cwd=folder, columns=80, rows=50)).rpartition("\x1b[K")[2]
    assert max(map(len, narrow.splitlines())) <= 80
    piped = parse(*given, cwd=folder)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert "\x1b" not in piped.stdout
    wide = plain(screen(*given, cwd=folder, columns=1000, rows=500)).rpartition("\x1b[K")[2]
    if command != "timeline":  # a picture is as wide as the terminal
        assert [x.rstrip() for x in wide.splitlines()] == piped.stdout.splitlines()


@pytest.mark.parametrize("command", ["top", "summary", "tree", "stats", "peek", "list"])
def test_json_is_one_object_that_says_its_filters(folder: Path, command: str) -> None:
    found = report(*words(command, "shop.heap"), "--focus", "blender", cwd=folder)
    assert next(iter(found)) == ("totals" if command == "stats" else "rows")
    assert found["filters"] == ["--focus blender"]
    top = report("top", "shop.heap", "--focus", "blender", cwd=folder)
    assert found["total"] == pytest.approx(top["total"])


def test_long_and_hostile_names_neither_widen_a_table_nor_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["n" * 200, "a\x1b]0;owned\x07b", "[red]x[/red]", f"{'m' * 200} /src/m.c:7"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    show([Grid((Column("flat"), NAME), [("123456.7 KiB", n) for n in names])])
    lines = capsys.readouterr().out.splitlines()
    assert "…" in lines[1]
    assert max(map(len, lines)) <= 80
    assert all("123456.7 KiB" in line for line in lines[1:])
    assert "\x1b]" not in "".join(lines)
    assert "[red]x[/red]" in lines[3]
    assert lines[4].endswith("m… m.c:7")


@pytest.mark.parametrize(("arguments", "text"), [
    (["top", "shop.heap", "--json", "--csv"], "exclude each other"),
    (["top", "shop.heap", "--alloc", "--peak"], "exclude each other"),
    (["peek", "shop.heap", "nowhere"], "no such function"),
    (["stats", "shop.heap", "--objects"], "both bytes and blocks"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_code_2(
    folder: Path, arguments: list[str], text: str
) -> None:
    done = parse(*arguments, cwd=folder)
    assert done.returncode == 2
    assert text in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) <= 2
    assert done.stdout == ""


def test_a_report_goes_to_its_file(folder: Path, tmp_path: Path) -> None:
    assert told("tree", "shop.heap", "-o", tmp_path / "x.txt", cwd=folder) == ""
    assert (tmp_path / "x.txt").read_text() == told("tree", "shop.heap", cwd=folder)


@pytest.mark.parametrize("command", ["tree", "peek"])
def test_lines_are_rows_where_that_is_asked(folder: Path, command: str) -> None:
    def names(*options: str) -> set[str]:
        rows = report(*words(command, "shop.heap"), *options, cwd=folder)["rows"]
        return {row["function"] for row in rows}

    assert not any(re.search(r"\S:\d+$", name) for name in names())
    assert any(re.search(r"\S:\d+$", name) for name in names("--lines"))
