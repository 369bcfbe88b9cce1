"""`mem_parser` as users meet it: what it prints, where, and how it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from heapfiles import HeapFile, Record, module_of
from parser_run import parse

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "/bin/true"


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    path = tmp_path / "x.heap"
    path.write_bytes(good_file())
    return path


def good_file(**changes: object) -> bytes:
    header = {"exe": PROGRAM, "samples": 1, "duration_s": 1.0}
    records = [Record((0x1000, 0x15001), 1, 4 << 20)]
    return HeapFile(records, modules=[module_of(PROGRAM, **changes)], header=header).data


def assert_refused(done: subprocess.CompletedProcess[str], code: int, text: str) -> None:
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert re.match("error: .*" + text, lines[0]), done.stderr
    assert all(line.startswith("hint:  ") for line in lines[1:])
    assert len(lines) <= 2
    assert done.stdout == ""


def test_the_binary_may_be_left_out_while_it_is_unchanged(heap: Path) -> None:
    assert parse("-f", heap, "-t").returncode == 0
    heap.write_bytes(good_file(build_id="00" * 20))
    assert_refused(parse("-f", heap, "-t"), 2, "-p BINARY is missing")


def test_what_cannot_be_read_or_is_for_another_form_is_refused_with_the_cure(
    heap: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "x.zst"
    packed.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(40))
    assert "hint:  if heaptrack wrote it: heaptrack_print -f" in parse(packed).stderr
    assert_refused(parse(heap, "--bytes"), 2, "neither -t nor -s given")
    strict = parse(heap, "--strict")
    assert_refused(strict, 2, "neither -t nor -s given, one of which --strict is for")
    assert "hint:  mem_parser top --lines FILE, or: -t" in parse(heap, "--lines").stderr
    assert_refused(parse(heap, "leaks"), 2, "the command leaks comes first")
    assert parse(heap, "leaks").stderr.endswith(f"hint:  mem_parser leaks {heap}\n")
    assert parse(heap, "--bytes", "-t").returncode == 0
    refused = parse("convert", heap, "-o", tmp_path / "x.pb", "--peak")
    assert_refused(refused, 2, "--peak needs the format collapsed")


def test_a_profile_that_names_no_program_needs_none(heap: Path) -> None:
    heap.write_bytes(
        b"heap_v2/524288\n  t*: 1: 4096 [0: 0]\n@ 0x1000 0x2000\n  t*: 1: 4096 [0: 0]\n"
        b"\nMAPPED_LIBRARIES:\n"
    )
    for words in (["-f", heap, "-t"], [heap, "-t"]):
        assert parse(*words).returncode == 0


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (["-p", PROGRAM, "-f", "HEAP"], 2, "neither -t nor -s"),
    (["-p", PROGRAM, "-f", "HEAP", "-t", "-s"], 2, "-t and -s"),
    (["-p", PROGRAM, "-t"], 2, "no profile given"),
    (["-p", PROGRAM, "-f", "HEAP", "-t", "--wrong"], 2, "No such option"),
    (["-p", PROGRAM, "-f", "HEAP", "-t", "-n", "x"], 2, "Invalid value"),
    (["-p", PROGRAM, "-f", "HEAP", "-t", "--inuse", "--alloc"], 2, "exclude each other"),
    (["-p", PROGRAM, "-f", "HEAP", "-t", "-o", "/missing/x"], 2, "cannot write"),
    (["-p", PROGRAM, "-f", "/missing.heap", "-t"], 3, "/missing.heap: no such file"),
    (["-p", PROGRAM, "-f", PROGRAM, "-t"], 3, "not a heap profile"),
    (["-p", "/missing", "-f", "HEAP", "-t"], 3, "/missing: no such file"),
    (["-p", "HEAP", "-f", "HEAP", "-t"], 3, "not an ELF file"),
    (["-p", "/bin/ls", "-f", "HEAP", "-t"], 3, "not the program of this profile"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_a_code(
    heap: Path, arguments: list[str], code: int, text: str
) -> None:
    given = [str(heap) if a == "HEAP" else a for a in arguments]
    done = parse(*given)
    assert_refused(done, code, text)
    if code == 3 and given[1] not in {PROGRAM, "-f"} and given[0] == "-p":
        assert done.stderr.endswith(f" the profile is of {PROGRAM}\n")


def test_a_cut_file_is_read_as_far_as_it_goes(heap: Path) -> None:
    heap.write_bytes(good_file()[:-20])
    done = parse("-p", PROGRAM, "-f", heap, "-t")
    assert done.returncode == 3
    assert "INCOMPLETE" in done.stdout
    assert "4.000 MiB" in done.stdout
    assert done.stderr.startswith("error: ")
    assert parse("-p", PROGRAM, "-f", heap, "-t", "--partial").returncode == 0


@pytest.mark.parametrize(("words", "done"), [
    ("top CUT", "reported"), ("leaks CUT", "reported"), ("rss CUT", "reported"),
    ("graph HEAP --base CUT -o OUT", "reported"), ("diff CUT HEAP", "reported"),
    ("report CUT -o OUT", "reported"), ("convert CUT -o OUT --to csv", "written"),
    ("symbolize CUT -o OUT", "written"),
])  # fmt: skip
def test_every_command_refuses_a_cut_file_by_its_name(
    heap: Path, tmp_path: Path, words: str, done: str
) -> None:
    cut = tmp_path / "cut.heap"
    cut.write_bytes(good_file()[:-20])
    places = {"CUT": cut, "HEAP": heap, "OUT": tmp_path / "out"}
    arguments = [places.get(word, word) for word in words.split()]
    refused = parse(*arguments)
    assert refused.returncode == 3
    last, hint = refused.stderr.splitlines()[-2:]
    assert last.startswith(f"error: {cut}: incomplete: ")
    assert hint == f"hint:  what could be read was {done}; --partial accepts it"
    assert parse(*arguments, "--partial").returncode == 0


def test_a_program_that_no_stack_crosses_needs_no_name(tmp_path: Path) -> None:
    """Of a JVM that was attached to, the file knows the libraries on its stacks alone."""
    heap = tmp_path / "x.heap"
    heap.write_bytes(good_file(build_id="", exec=[[0x80000, 0x90000, 0]]))
    assert parse("-f", heap, "-t").returncode == 0
    heap.write_bytes(good_file(build_id=""))
    assert_refused(parse("-f", heap, "-t"), 2, "-p BINARY is missing")


def test_a_changed_binary_is_a_warning_and_with_strict_an_error(heap: Path) -> None:
    heap.write_bytes(good_file(build_id="00" * 20))
    mild = parse("-p", PROGRAM, "-f", heap, "-t")
    assert mild.returncode == 0
    assert mild.stderr.count("warning: ") == 1
    assert_refused(parse("-p", PROGRAM, "-f", heap, "-t", "--strict"), 5, "build-id")


def test_no_samples_are_no_error(heap: Path) -> None:
    heap.write_bytes(HeapFile([], header={"exe": PROGRAM}).data)
    done = parse("-p", PROGRAM, "-f", heap, "-t")
    assert done.returncode == 0
    assert "0 samples" in done.stdout


def test_without_a_layout_program_nothing_is_written(heap: Path, tmp_path: Path) -> None:
    done = parse(
        "-p", PROGRAM, "-f", heap, "-s", "-o", tmp_path / "x.svg", MEM_PROFILER_DOT="/no/dot"
    )
    assert_refused(done, 1, "cannot run /no/dot")
    assert not (tmp_path / "x.svg").exists()


def test_a_full_disk_leaves_no_half_file(heap: Path) -> None:
    assert_refused(parse("-p", PROGRAM, "-f", heap, "-t", "-o", "/dev/full"), 8, "no space left")


def test_a_reader_that_goes_away_is_no_traceback(heap: Path) -> None:
    paths = os.pathsep.join(str(ROOT / p) for p in ("parser", "cmd"))
    done = subprocess.run(
        f"{sys.executable} -m mem_cli.parser.group -f {heap} -t | true",
        shell=True, capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": paths, "MEM_PROFILER_CACHE": ""},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
