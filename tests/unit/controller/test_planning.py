"""Plans of files, made in a child, and what is kept for the next time."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from c_build import compile_program
from mem_parser.errors import TargetBusy
from mem_parser.symbols.cache import CACHE_VARIABLE, SymbolCache
from mem_profiler.entries import kept, names, plan, planning
from mem_profiler.entries.symbols import Program

TARGETS = Path(__file__).parents[2] / "targets"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SymbolCache:
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return SymbolCache(folder)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program with an allocator of its own, which nobody else uses."""
    made = compile_program(
        [TARGETS / "odd_entries.c", TARGETS / "odd_entries.S"],
        libs=("-lpthread",),
    )
    return Path(shutil.copy(made, tmp_path / "program"))


def entry_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("*-entries.sym"))


def test_the_second_time_nobody_reads_the_symbols(
    program: Path, tmp_path: Path, cache: SymbolCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = planning.of_file(str(program), 0x5000, "it")
    assert first[0] and not first[1]
    [file] = entry_files(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600

    def fail(_: object) -> None:
        raise AssertionError("the symbols were read")

    monkeypatch.setattr(plan, "find", fail)
    assert planning.of_file(str(program), 0x5000, "it") == first
    assert planning.of_file(str(program), 0, "it")[0] not in (b"", first[0])


def test_a_program_without_an_allocator_is_not_even_opened_again(
    tmp_path: Path, cache: SymbolCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy("/bin/true", tmp_path / "true"))
    assert planning.of_file(str(path), 0, "it") == (b"", "")
    monkeypatch.setattr(planning, "_made", None)
    assert planning.of_file(str(path), 0, "it") == (b"", "")


def test_another_file_at_the_same_path_is_read_anew(
    program: Path, tmp_path: Path, cache: SymbolCache
) -> None:
    assert planning.of_file(str(program), 0, "it")[0]
    program.unlink()
    shutil.copy("/bin/true", program)
    assert planning.of_file(str(program), 0, "it") == (b"", "")
    assert len(entry_files(tmp_path)) == 2


def test_a_file_that_is_exchanged_meanwhile_is_not_read_for_the_other(
    program: Path, cache: SymbolCache
) -> None:
    other = kept.identity_of(os.stat("/bin/true"))
    with pytest.raises(TargetBusy, match="changed while"):
        planning._made(str(program), 0, "it", other, None)


def test_damaged_and_forged_entries_count_as_absent(
    program: Path, tmp_path: Path, cache: SymbolCache
) -> None:
    first = planning.of_file(str(program), 0, "it")
    [file] = entry_files(tmp_path)
    whole = file.read_bytes()
    for damaged in (b"", whole[:50], whole[:-1] + b"X"):
        file.write_bytes(damaged)
        assert planning.of_file(str(program), 0, "it") == first
    good = json.loads(kept.written(("m", [next(iter(_functions(program)))])))
    forged = ["", "{}", "[]", "null", '["m"]', '["", [[1]]]', "[" * 100_000]
    for column in range(len(good[1][0])):
        for value in (None, -1, 1.5, "x" * 300, 1 << 64, [], True, 256):
            row = list(good[1][0])
            row[column] = value
            if kept.read(json.dumps(["m", [row]])) is None:
                forged.append(json.dumps(["m", [row]]))
    assert len(forged) > 60
    key = file.name.removesuffix(".sym")
    for text in forged:
        cache.put(key, text.encode())
        assert kept.get(cache, kept.identity_of(os.stat(program))) is None
    assert planning.of_file(str(program), 0, "it") == first


def _functions(program: Path) -> tuple[tuple[object, names.Signature], ...]:
    with Program(program) as image:
        inside = plan.find(image)
    assert inside is not None
    return inside.functions


def test_without_a_folder_nothing_is_kept(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert planning.of_file(str(program), 0, "it")[0]
    assert not (tmp_path / "cache").exists()


def stripped(tmp_path: Path, text: str, *lines: str) -> str:
    """A program without symbols that has a text among its constants."""
    source = tmp_path / "text.c"
    code = [f'const char text[] = "{text}";', *lines, "int main(void) { return text[0] == 0; }"]
    source.write_text("\n".join(code))
    return str(compile_program(source, ("-s", "-rdynamic")))


def test_an_allocator_without_symbols_is_refused_the_second_time_too(
    tmp_path: Path, cache: SymbolCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stripped(tmp_path, "<jemalloc>: Error")
    why = "jemalloc seems to be linked into the program, without symbols"
    first = planning.of_file(path, 0, "it")
    assert first == (b"", f"{why}; use a build with its symbols (not stripped)")
    monkeypatch.setattr(planning, "_made", None)
    assert planning.of_file(path, 0, "it") == first
    assert planning.unseen(path, "it") == first[1]


def test_the_mimalloc_of_an_interpreter_is_not_what_serves_it(tmp_path: Path) -> None:
    interpreter = "void _PyEval_EvalFrameDefault(void) {}"
    assert planning.unseen(stripped(tmp_path, "mimalloc: error"), "it").startswith("mimalloc seems")
    assert planning.unseen(stripped(tmp_path, "mimalloc: error", interpreter), "it") == ""
    assert planning.unseen("/bin/true", "it") == ""


def test_an_allocator_with_symbols_that_no_plan_reached_is_named(program: Path) -> None:
    assert planning.unseen(str(program), "it") == (
        "the program's own mimalloc was not redirected to the sampler"
    )
