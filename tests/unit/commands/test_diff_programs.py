"""`mem_parser diff -p`: which of the two profiles a program is of, and a second -p elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from named_program import build_named, heap_of
from parser_run import parse


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Profiles of two builds whose programs are stripped now, and these programs as they were."""
    made = tmp_path_factory.mktemp("programs")
    for name, flag in (("old", "-O1"), ("new", "-O2")):
        place = made / f"{name}-build"
        place.mkdir()
        program = build_named(place)
        if flag != "-O1":  # another build
            subprocess.run(
                ["gcc", "-g", flag, "-pie", "-fPIE", "-Wl,--build-id", "-o", "p", "p.c"],
                cwd=place, check=True, timeout=60,
            )  # fmt: skip
        (made / f"{name}.heap").write_bytes(heap_of(program, place / "gone"))
        shutil.copy(program, made / f"{name}-p")
    return made


def named(folder: Path, *words: str) -> set[str]:
    """The profiles in which the function has a name."""
    done = parse("diff", "old.heap", "new.heap", "--by", "stack", "--json", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return {
        side
        for row in json.loads(done.stdout)["rows"]
        for side in ("base", "new")
        if row[side] and "beta" in [frame["function"] for frame in row["stack"]]
    }


@pytest.mark.parametrize(("words", "expected"), [
    (("-p", "old-p", "-p", "new-p"), {"base", "new"}),
    (("-p", "old-p"), {"base"}),
    (("-p", "new-p"), {"new"}),
    ((), set()),
])  # fmt: skip
def test_a_program_is_of_the_files_whose_build_id_it_has(
    folder: Path, words: tuple[str, ...], expected: set[str]
) -> None:
    assert named(folder, *words) == expected


@pytest.mark.parametrize(("words", "line"), [
    (["diff", "-p", "new-p", "-p", "old-p"], "old-p: not the program of this profile"),
    (["diff", "-p", "/bin/true"], "/bin/true: not the program of this profile"),
    (["diff", *["-p", "old-p"] * 3], "-p is given 3 times: once for BASE, once for NEW"),
    (["diff", "--lines", "--by", "stack"], "--lines and --by stack exclude each other"),
    (["top", *["-p", "old-p"] * 2], "-p is given 2 times: mem_parser top takes one program"),
    ([*["-p", "old-p"] * 2], "-p is given 2 times: mem_parser summary takes one program"),
])  # fmt: skip
def test_a_program_that_fits_none_or_is_too_many_is_an_error_in_a_line(
    folder: Path, words: list[str], line: str
) -> None:
    files = ["old.heap", *(["new.heap"] if "diff" in words else [])]
    done = parse(*words, *files, cwd=folder)
    assert done.returncode in {2, 3}
    assert done.stderr.splitlines()[0] == f"error: {line}"
    if line.endswith("of this profile"):
        assert re.search(r"hint:  its build-id is \w{40}, not \w{40}; the profile is", done.stderr)


def test_lines_are_rows_as_top_takes_the_option(folder: Path) -> None:
    by_line = parse("diff", "--by", "line", "old.heap", "new.heap", cwd=folder)
    assert parse("diff", "--lines", "old.heap", "new.heap", cwd=folder).stdout == by_line.stdout
