"""The report commands as users meet them: on a terminal of 80 columns, piped, for programs."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from elf_files import nameless
from heapfiles import HeapFile, Record
from mem_cli.terminal import write_csv
from mem_parser.symbols.elf import ElfImage
from parser_run import parse
from screens import screen

PROGRAM = "/bin/true"
COMMANDS = ("top", "summary", "tree", "stats")


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    """A profile of /bin/true in which one stack is 40 frames deep."""
    module = {"path": PROGRAM, "build_id": ElfImage.open(PROGRAM).build_id, "start": 0x10000,
              "end": 0x90000, "bias": 0x10000, "exec": [[0x10000, 0x90000, 0]],
              "first_generation": 0, "last_generation": None}  # fmt: skip
    deep = (0x15000, *range(0x15011, 0x15011 + 39 * 16, 16))
    records = [Record((0x15000,), 1, 4 << 20), Record(deep, 2, 2 << 20)]
    path = tmp_path / "x.heap"
    path.write_bytes(HeapFile(records, modules=[module], header={"exe": PROGRAM}).data)
    return path


def on_terminal(*arguments: str | Path, columns: int = 80) -> str:
    """What python, run with ``arguments``, writes to a terminal of that width, without colours."""
    return screen(*arguments, columns=columns, rows=50, NO_COLOR="1")


@pytest.mark.parametrize("command", COMMANDS)
def test_piped_output_is_plain(heap: Path, command: str) -> None:
    done = parse(command, heap)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Total: ")
    assert nameless(PROGRAM, 0x5000) in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_terminal_of_80_columns_is_enough(heap: Path, command: str) -> None:
    text = on_terminal("-m", "mem_cli.parser.group", command, heap)

    lines = text.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
    assert max(map(len, lines)) <= 80
    assert any(nameless(PROGRAM, 0x5000) in line for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wide_terminal_shows_the_same_text_as_a_pipe(heap: Path, command: str) -> None:
    text = on_terminal("-m", "mem_cli.parser.group", command, heap, columns=200)
    text = re.sub("\x1b\\[[0-9;]*m", "", text)

    assert [x.rstrip() for x in text.splitlines()] == parse(command, heap).stdout.splitlines()


def test_long_and_hostile_names_neither_widen_a_table_nor_reach_the_terminal() -> None:
    program = (
        "from mem_cli.terminal import show\n"
        "from mem_parser.reports.grid import NAME, Column, Grid\n"
        "names = ['n' * 200, 'a\\x1b]0;owned\\x07b', '[red]x[/red]']\n"
        "show([Grid((Column('flat'), NAME), [('123456.7 KiB', n) for n in names])])\n"
    )
    lines = on_terminal("-c", program).splitlines()

    assert "…" in lines[1]
    assert all("123456.7 KiB" in line for line in lines[1:])
    assert "\x1b]" not in "".join(lines)
    assert "[red]x[/red]" in lines[3]


@pytest.mark.parametrize("command", [*COMMANDS, "peek", "list"])
def test_json_is_one_object_and_nothing_else(heap: Path, command: str) -> None:
    function = [nameless(PROGRAM, 0x5000)] if command in ("peek", "list") else []
    done = parse(command, heap, *function, "--json", "--focus", "true")

    found = json.loads(done.stdout)
    assert next(iter(found)) == ("totals" if command == "stats" else "rows")
    assert found["total"] == pytest.approx(6 << 20, rel=0.01)
    assert found["filters"] == ["--focus true"]


def test_csv_has_a_head_and_a_row_per_function(heap: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(parse("top", heap, "--csv", "-n", "3").stdout)))

    assert len(rows) == 3
    assert rows[0]["function"] == nameless(PROGRAM, 0x5000)
    assert float(rows[0]["flat"]) == pytest.approx(6 << 20, rel=0.01)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "::"])
def test_no_name_in_csv_is_a_formula(start: str, tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    write_csv([{"function": f"{start}1+1", "flat": -1.5}], ("function", "flat"), str(out))

    assert list(csv.reader(out.read_text().splitlines()))[1] == [f"'{start}1+1", "-1.5"]


def test_a_report_goes_to_its_file(heap: Path, tmp_path: Path) -> None:
    done = parse("tree", heap, "-o", tmp_path / "x.txt")

    assert (done.returncode, done.stdout) == (0, "")
    assert nameless(PROGRAM, 0x5000) in (tmp_path / "x.txt").read_text()
    assert parse("graph", heap, "-o", tmp_path / "x.svg", "--focus", "true").returncode == 0
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["top", "HEAP", "--focus", "("], "not a regular expression"),
        (["top", "HEAP", "--json", "--csv"], "exclude each other"),
        (["top", "HEAP", "--alloc", "--peak"], "exclude each other"),
        (["peek", "HEAP", "nowhere"], "no such function"),
        (["stats", "HEAP", "--objects"], "both bytes and blocks"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_code_2(
    heap: Path, arguments: list[str], text: str
) -> None:
    done = parse(*(str(heap) if a == "HEAP" else a for a in arguments))

    assert done.returncode == 2
    assert text in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) <= 2
    assert done.stdout == ""


def test_a_cut_file_is_reported_as_far_as_it_goes(heap: Path) -> None:
    heap.write_bytes(heap.read_bytes()[:-20])

    done = parse("summary", heap)
    assert done.returncode == 3
    assert "INCOMPLETE" in done.stdout
    assert parse("summary", heap, "--partial").returncode == 0
