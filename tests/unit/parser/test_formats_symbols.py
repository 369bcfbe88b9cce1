"""Where names come from when things go wrong: a reader that dies, a file elsewhere, no file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from mem_parser.errors import InputFileError
from mem_parser.readers import read_bytes
from mem_parser.symbols import dwarf
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.reasons import why_nameless
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.table import Symbols
from named_program import another_build, build_named, heap_of, names
from parser_run import parse

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return build_named(tmp_path)


@pytest.mark.parametrize(("script", "what"), [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed its reader (SIGSEGV)"),
    ("import signal; signal.pause()", "took longer than 1 s to read"),
    ("raise SystemExit(1)", "cannot be read"),
])  # fmt: skip
def test_a_reader_that_dies_costs_lines_but_no_names(
    script: str, what: str, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reader.py").write_text(script)
    monkeypatch.setattr(dwarf, "_READER", str(tmp_path / "reader.py"))
    monkeypatch.setattr(dwarf, "READ_TIMEOUT_S", 1.0)
    cache = SymbolCache(tmp_path / "cache")
    profile = read_bytes(heap_of(program, program), "x")
    symbols = symbolize(profile, cache=cache)
    assert "beta" in names(symbols)
    assert not any(x.line for x in symbols.locations)
    assert [p.text for p in symbols.problems] == [
        f"{program}: its debug information {what}; names are from symbol tables"
    ]
    monkeypatch.undo()
    again = symbolize(profile, cache=cache)
    assert again.problems == []
    assert any(x.line for x in again.locations)


def test_names_that_are_kept_need_no_file_and_no_child(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, gone, other = (tmp_path / name for name in ("moved", "gone.so", "other.so"))
    shutil.copy(program, moved)
    shutil.copy("/bin/true", other)
    cache = SymbolCache(tmp_path / "cache")
    profiles = [read_bytes(heap_of(program, program, missing), "x") for missing in (gone, other)]

    def report() -> list[object]:
        symbols = [symbolize(profile, str(moved), cache=cache) for profile in profiles]
        return [*symbols, why_nameless([str(other), str(moved)], cache)]

    first = report()
    for symbols in first[:2]:
        assert isinstance(symbols, Symbols)
        assert "beta" in names(symbols)
        assert any(x.line for x in symbols.locations)
        assert len(symbols.problems) == 1

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened, or a process started")

    for owner, name in ((ElfImage, "open"), (os, "fork"), (subprocess, "run")):
        monkeypatch.setattr(owner, name, refuse)
    again = report()
    assert str(again) == str(first)
    monkeypatch.undo()
    shutil.copy("/bin/true", moved)
    with pytest.raises(InputFileError, match="not the program of this profile"):
        symbolize(read_bytes(heap_of(program, tmp_path / "a"), "x"), str(moved), cache=cache)


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_file_that_kills_its_reader_costs_the_names_of_one_module(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = tmp_path / "bad.so", tmp_path / "good.so"
    shutil.copy(program, bad)
    good.write_bytes(another_build(program))
    read = ElfImage.symbols
    monkeypatch.setattr(
        ElfImage, "symbols", lambda image: killed() if image.path == str(bad) else read(image)
    )
    symbols = symbolize(read_bytes(heap_of(program, bad, good), "x"), cache=SymbolCache(None))
    assert "main" in names(symbols)
    assert "beta" not in names(symbols)
    assert [p.text for p in symbols.problems] == [
        f"{bad} crashed its reader (SIGKILL); it is shown without names"
    ]


def test_the_commands_convert_symbolize_and_merge(program: Path, tmp_path: Path) -> None:
    heap = tmp_path / "x.heap"
    heap.write_bytes(heap_of(program, program))
    for arguments in (
        ("convert", heap, "-o", tmp_path / "x.pb.gz"),
        ("symbolize", heap, "-o", tmp_path / "named.heap"),
        ("merge", heap, heap, "-o", tmp_path / "sum.heap"),
    ):
        done = parse(*arguments)
        assert (done.returncode, done.stdout) == (0, ""), arguments
        assert done.stderr.startswith("wrote "), arguments
    program.unlink()
    for name in ("x.pb.gz", "named.heap"):
        done = parse("-f", tmp_path / name, "-t")
        assert done.returncode == 0, done.stderr
        assert "beta" in done.stdout
    table = parse("convert", tmp_path / "named.heap", "--to", "collapsed", "-o", "-")
    assert table.stdout.startswith("beta")


def test_a_name_without_a_format_is_a_usage_problem(tmp_path: Path) -> None:
    done = parse("convert", "/dev/null", "-o", tmp_path / "x.what")
    assert done.returncode == 2
    assert "cannot tell the format from the name" in done.stderr
