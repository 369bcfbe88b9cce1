"""Debug files that lie directly in the folder of --debug-dir, under any name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mem_parser.readers import read_bytes
from mem_parser.symbols import debugfiles
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.table import Symbols
from named_program import build_named, heap_of, names
from parser_run import parse


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return build_named(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "debug-files"
    made.mkdir()
    return made


def named(program: Path, folder: Path, cache: SymbolCache | None = None) -> Symbols:
    stripped = program.parent / "stripped"
    profile = read_bytes(heap_of(program, stripped), "x")
    return symbolize(profile, debug_dirs=(str(folder),), cache=cache or SymbolCache(None))


@pytest.mark.parametrize("part", ["debug", "p"])
def test_a_file_under_any_name_is_found_by_its_build_id(
    program: Path, folder: Path, part: str
) -> None:
    shutil.copy(program.parent / "stripped", folder / "a")
    shutil.copy(program.parent / part, folder / "x.debug")
    symbols = named(program, folder)
    assert "beta" in names(symbols)
    assert not symbols.problems


def test_a_file_that_is_put_there_later_is_found(program: Path, folder: Path) -> None:
    cache = SymbolCache(program.parent / "cache")
    assert "beta" not in names(named(program, folder, cache))
    shutil.copy(program.parent / "debug", folder / "y")
    assert "beta" in names(named(program, folder, cache))


def test_a_file_that_the_user_names_once_makes_nothing_forgotten(
    program: Path, folder: Path
) -> None:
    cache = SymbolCache(program.parent / "cache")
    profile = read_bytes(heap_of(program, program.parent / "stripped"), "x")
    shutil.copy(program.parent / "debug", folder / "y")
    assert "beta" in names(named(program, folder, cache))
    assert "beta" in names(symbolize(profile, str(program), cache=cache))
    assert "beta" in names(symbolize(profile, cache=cache))


def test_a_folder_that_is_missing_is_refused() -> None:
    done = parse("leaks", "--debug-dir", "/no such folder", "x.heap")
    assert done.returncode == 2
    assert "--debug-dir '/no such folder': there is no such folder" in done.stderr


def test_what_would_have_fitted_is_said_in_a_line(program: Path, folder: Path) -> None:
    shutil.copy(program.parent / "stripped", folder / "stripped.debug")
    profile = read_bytes(heap_of(program, program.parent / "stripped"), "x")
    (build_id,) = {one.build_id for one in profile.modules}
    (problem,) = named(program, folder).problems
    assert problem.text == (
        f"nothing in {folder} fits stripped (build-id {build_id}); -p UNSTRIPPED names its own file"
    )


def test_without_a_folder_nothing_is_said_of_debug_files(program: Path) -> None:
    profile = read_bytes(heap_of(program, program.parent / "stripped"), "x")
    assert not symbolize(profile, cache=SymbolCache(None)).problems


def test_a_hostile_folder_costs_a_bounded_time_and_the_line_says_it(
    program: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder / "pipe")
    os.symlink("/dev/zero", folder / "device")
    (folder / "cut").write_bytes(program.read_bytes()[:200])
    monkeypatch.setattr(debugfiles, "_MOST_IN_FOLDER", 4)
    for k in range(4):
        (folder / f"e{k}").write_bytes(b"\x7fELF" + bytes(100))
    shutil.copy(program.parent / "debug", folder / "z")
    (problem,) = named(program, folder).problems
    assert problem.text.startswith(f"nothing in {folder} (of what was read there) fits stripped (")
