"""What stays on a screen of 80 columns and 24 lines, and where pictures go."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heapfiles import HeapFile, Record, module_of
from mem_cli.profiler.capture_view import result_lines, run_lines
from mem_parser.escape import shell_join, shell_lines
from mem_parser.heapfile.writer import write_heap
from mem_parser.symbols.elf import ElfImage
from mem_profiler.capture.saving import Result
from parser_run import parse
from python_profiles import Stack, profile_of
from screens import lines_used, plain, screen

PROGRAM = "/bin/bash"


def wide_file(path: Path, scale: int = 1) -> Path:
    """A profile in which 100 functions hold memory."""
    stacks = [
        Stack(f"sampler!malloc ext!function_{k}", blocks=1, size=scale * (200 - k) << 12)
        for k in range(100)
    ]
    path.write_bytes(write_heap(profile_of(stacks)))
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide_file(tmp_path_factory.mktemp("wide") / "x.heap")


def rows_of(text: str) -> int:
    return sum(
        re.match(r" *-?\d", line) is not None and "iB" in line and "hidden" not in line
        for line in text.splitlines()
    )


@pytest.mark.parametrize(
    "words", [["HEAP", "-t"], ["HEAP"], ["top", "HEAP"], ["diff", "OLD", "HEAP"]]
)
def test_a_table_stays_on_the_screen_and_says_what_shows_more(
    wide: Path, tmp_path: Path, words: list[str]
) -> None:
    places = {"HEAP": wide, "OLD": tmp_path / "old.heap"}
    if "OLD" in words:
        wide_file(tmp_path / "old.heap", 3)
    given = [places.get(word, word) for word in words]
    text = plain(screen(*given))
    assert lines_used(text) == 23
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[-1].endswith("Use -n 0 to show all.")
    assert rows_of(text) >= 12
    low = plain(screen(*given, rows=10))
    assert 5 <= rows_of(low) <= 6
    high = plain(screen(*given, rows=60))
    assert rows_of(high) >= max(rows_of(text), 20)


def test_who_asks_for_rows_gets_them_and_a_pipe_is_not_a_screen(wide: Path) -> None:
    whole = parse(wide, "-t")
    assert rows_of(whole.stdout) > 50
    asked = plain(screen(wide, "-t", "-n", "40"))
    assert rows_of(asked) == 40
    every = plain(screen(wide, "-t", "-n", "0"))
    assert rows_of(every) == rows_of(parse(wide, "-t", "-n", "0").stdout)


def test_rows_of_a_file_are_not_those_of_the_screen(wide: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.txt"
    text = screen(wide, "-t", "-o", out)
    assert text.startswith(f"wrote {out}, ")
    assert out.read_text() == parse(wide, "-t").stdout


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of bash with two functions."""
    records = [Record((0x50000 + 0x800 * k,), 1, 4096) for k in range(2)]
    path = tmp_path_factory.mktemp("narrow") / "x.heap"
    modules = [module_of(PROGRAM, 0x10000, 0x200000)]
    path.write_bytes(HeapFile(records, modules=modules, header={"exe": PROGRAM}).data)
    return path


@pytest.mark.parametrize(
    "words", [["HEAP", "-s"], ["graph", "HEAP"], ["-p", PROGRAM, "-f", "HEAP", "-s"]]
)
def test_a_picture_is_not_drawn_on_a_terminal(narrow: Path, words: list[str]) -> None:
    given = [narrow if word == "HEAP" else word for word in words]
    lines = screen(*given, code=2).splitlines()
    name = "bash.svg" if "-p" in words else "x.svg"
    assert lines[0].startswith("error: the call graph is a picture")
    assert lines[1].startswith("hint:  ")
    assert lines[1].endswith(f"-o {name}")
    assert max(map(len, lines)) <= 80
    assert parse(*given).stdout.startswith("<?xml")


@pytest.mark.parametrize("words", [["HEAP", "-s"], ["graph", "HEAP"]])
def test_the_name_of_the_file_says_the_format(
    narrow: Path, tmp_path: Path, words: list[str]
) -> None:
    given = [narrow if word == "HEAP" else word for word in words]
    done = parse(*given, "-o", tmp_path / "x.png")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"wrote {tmp_path / 'x.png'}, ")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    refused = parse(*given, "-o", tmp_path / "x.pdf")
    assert refused.returncode == 2
    assert "call graphs are SVG or PNG" in refused.stderr
    assert not (tmp_path / "x.pdf").exists()


def test_a_layout_program_without_png_is_refused_with_what_works(
    narrow: Path, tmp_path: Path
) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\necho 'Format: \"png\" not recognized' >&2\nexit 1\n")
    program.chmod(0o755)
    done = parse(narrow, "-s", "-o", tmp_path / "x.png", MEM_PROFILER_DOT=str(program))
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: cannot draw PNG: ")
    assert hint.startswith("hint:  -o x.svg")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("words", [
    "top HEAP -o OUT", "HEAP -s -o OUT", "convert HEAP --to csv -o OUT", "symbolize HEAP -o OUT",
    "merge HEAP HEAP -o OUT", "report HEAP -o OUT", "leaks HEAP -o OUT", "top HEAP --json -o OUT",
])  # fmt: skip
def test_every_file_that_is_written_is_named_once(narrow: Path, tmp_path: Path, words: str) -> None:
    out = tmp_path / "out"
    places = {"HEAP": narrow, "OUT": out}
    done = parse(*(places.get(word, word) for word in words.split()))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count(f"wrote {out}, ") == 1
    assert out.stat().st_size


@pytest.mark.parametrize("words", ["HEAP -o", "top HEAP -o", "stats HEAP -o"])
def test_a_text_is_not_written_under_the_name_of_a_picture(
    narrow: Path, tmp_path: Path, words: str
) -> None:
    out = tmp_path / "x.SVG"
    done = parse(*(narrow if word == "HEAP" else word for word in words.split()), out)
    assert (done.returncode, done.stdout, out.exists()) == (2, "", False)
    assert done.stderr.startswith(f"error: -o {out}: this is text, no picture\nhint:  ")


def result(path: str = "./custom_prof.7.1.heap", **more: object) -> Result:
    facts = {
        "path": path, "pid": 7, "exe": PROGRAM, "command": "bash", "kind": "capture",
        "end": "deadline", "duration_s": 60.0, "samples": 3, "lost": 0, "cut": 0,
        "size_bytes": 2048, "notes": [], "depth_limit": 128, "domain": "host",
        "exe_build_id": ElfImage.open(PROGRAM).build_id,
    }  # fmt: skip
    return Result(**(facts | more))  # type: ignore[arg-type]


def steps(one: Result) -> list[str]:
    lines = list(result_lines(one))
    return lines[lines.index("next:") + 1 :]


def test_next_steps_name_the_program_only_where_it_would_not_be_found() -> None:
    path = "./custom_prof.7.1.heap"
    assert steps(result()) == [
        f"  mem_parser {path}", f"  mem_parser -f {path} -s -o bash.svg",
        f"  mem_parser leaks {path}",
    ]  # fmt: skip
    assert steps(result(command="g++"))[1].endswith(" -s -o g.svg")
    assert steps(result(samples=0)) == [f"  mem_parser {path}", f"  mem_parser rss {path}"]
    for unknown in ({"exe_build_id": "00"}, {"exe_build_id": None}, {"exe": "/missing"}):
        assert " -p /" in steps(result(**unknown))[0]
    for known in ({"named": True}, {"exe_build_id": None, "is_uncrossed": True}):
        assert " -p " not in steps(result(**({"exe": "/missing"} | known)))[0]


def test_a_killed_target_may_have_run_out_of_memory() -> None:
    first, second, *_ = result_lines(result(end="signal 9 SIGKILL"), awaited=True)
    assert first.startswith("target ended by signal 9 (SIGKILL) after 60.0 s")
    assert second == "  out of memory? dmesg | grep 'Killed process 7 '"
    for other in (result(end="signal 11 SIGSEGV"), result()):
        assert not any("dmesg" in line for line in result_lines(other))


def test_the_processes_of_a_run_are_a_table_of_which_the_smallest_are_one_line() -> None:
    """By the memory of the process, which may be far more than that of its blocks."""
    every = [
        result(
            f"p.{pid}.1.heap", pid=pid, comm="cc1", command=f"/usr/bin/cc1 -quiet a{pid}.c",
            peak_bytes=1 << 20, peak_rss_bytes=(pid % 50) << 20, lost=1, notes=[f"of {pid}"],
        )
        for pid in range(101, 148)
    ]  # fmt: skip
    every[46].end, every[4].peak_rss_bytes, every[4].peak_bytes = "signal 9 SIGKILL", 0, 90 << 20
    heads, *rows = run_lines(every, 104, notes=True)
    assert heads.split("  ")[0] == "PID" and "≥PEAK RSS" in heads
    assert [row.split()[0] for row in rows[:3]] == ["105", "147", "146"]
    assert " ".join(rows[1].split()[1:]) == (
        "47 MiB 1 MiB 3 1 cc1 a147.c, ended by SIGKILL p.147.1.heap"
    )
    assert rows[40] == "7 more: none above 8 MiB, 7 lost"
    assert rows[41] == "  out of memory? dmesg | grep 'Killed process 147 '"
    assert rows[42:48] == [f"note: of {pid}" for pid in (105, 147, 146, 145, 144)] + [
        "  42 more notes are in the files"
    ]
    assert rows[48:] == ["next:", "  mem_parser p.105.1.heap"]


def test_next_steps_fit_80_columns_and_are_one_command_each_when_pasted() -> None:
    path = f"/tmp/{'folder/' * 6}custom_prof.7.1.heap"
    lines = steps(result(path, exe="/missing/program", devices=[result(path, domain="cuda-0")]))
    assert max(map(len, lines)) <= 80
    assert any(line.endswith(" \\") for line in lines)
    script = 'mem_parser() { echo $# "$@"; }\n' + "\n".join(lines)
    told = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()
    words = f"-p /missing/program -f {path}"
    assert told == [
        f"3 {path} -p /missing/program", f"7 {words} -s -o bash.svg", f"2 leaks {path}",
        f"8 {words} -f {path} --by domain",
    ]  # fmt: skip


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=50), min_size=1))
def test_a_broken_command_has_all_its_words(words: list[str]) -> None:
    parts = [shell_join([word]) for word in words]
    lines = list(shell_lines(parts))
    assert [line.strip().removesuffix(" \\") for line in lines if line.strip()]
    joined = "\n".join(lines).replace(" \\\n    ", " ")
    assert joined == "  " + " ".join(parts)
    longest = max(map(len, parts))
    assert all(len(line) <= max(80, longest + 6) for line in lines)
