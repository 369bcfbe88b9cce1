"""Why addresses have no names, where that is certain: one line for each reason."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mem_parser.symbols import reasons
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.debugpackages import OsRelease
from mem_parser.symbols.reasons import why_nameless, why_without_lines
from named_program import build_named

DEBIAN = OsRelease(("debian",), "bookworm")
FEDORA = OsRelease(("fedora",))
RPM = """#!/bin/sh
for path; do :; done
case $path in
*/stripped) echo package glibc ;;
*) echo "file $path is not owned by any package" ;;
esac
"""


def test_why_names_are_missing_is_found_without_waiting_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lib.so")
    assert why_nameless([str(tmp_path / "lib.so")], SymbolCache(None)) == []


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return build_named(tmp_path)


def test_stripped_files_of_no_package_are_one_line(program: Path, tmp_path: Path) -> None:
    stripped, other = tmp_path / "stripped", tmp_path / "other"
    shutil.copy(stripped, other)
    [line] = why_nameless([str(stripped), str(program), str(other), "/nowhere"], release=DEBIAN)
    assert line.startswith("stripped, of no package known here: stripped, other; --debug-dir DIR:")
    assert "--debuginfod" in line
    few = [str(stripped), str(program), str(other)]
    [line] = why_nameless(few, release=DEBIAN, at_length=False)
    assert line == (
        "No symbols, and no known debug package: stripped, other;"
        " --debug-dir DIR: a folder with the same builds unstripped"
    )
    [line] = why_nameless([str(stripped), str(other)], release=DEBIAN, at_length=False)
    assert line == (
        "No symbols in any of these, and no known debug package;"
        " --debug-dir DIR: a folder with the same builds unstripped"
    )


def test_the_packages_of_debug_symbols_are_named_in_one_line() -> None:
    files = ["/usr/bin/true", "/bin/bash"]  # the package system may know either by both
    if subprocess.run(["dpkg-query", "-S", "/bin/bash"], capture_output=True).returncode:
        pytest.skip("the system has no dpkg that knows these files")
    [line] = why_nameless(files, release=DEBIAN)
    assert line.startswith("stripped: true, bash; to download symbols, set ")
    assert "; apt install bash-dbgsym coreutils-dbgsym  # archive debian-debug; /etc/apt/" in line
    [line] = why_nameless(files, release=DEBIAN, at_length=False)
    assert line == (
        "symbols: apt install bash-dbgsym coreutils-dbgsym"
        "  # archive debian-debug: -v says how to add it"
    )


def test_fedoras_packages_are_asked_of_rpm(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "rpm").write_text(RPM)
    (folder / "rpm").chmod(0o755)
    other = tmp_path / "other"
    shutil.copy(tmp_path / "stripped", other)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    lines = why_nameless([str(tmp_path / "stripped"), str(other)], SymbolCache(None), FEDORA)
    assert lines[0].startswith("stripped: stripped; to download symbols, set ")
    assert lines[0].endswith("; dnf debuginfo-install glibc")
    assert lines[1].startswith("stripped, of no package known here: other; ")
    assert len(lines) == 2


def test_a_package_is_like_none_where_the_system_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        reasons, "_facts_of", lambda _lack, paths: dict.fromkeys(paths, "lacks musl")
    )
    [line] = why_nameless(["/lib/libc.so"], SymbolCache(None), OsRelease(("alpine",)))
    assert line.startswith("stripped, of no package known here: libc.so")


def test_files_without_debug_information_are_said_to_have_no_lines(
    program: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    subprocess.run(["strip", "--strip-debug", "-o", plain, program], check=True, timeout=60)
    [line] = why_without_lines([str(plain), str(program)], SymbolCache(None), DEBIAN)
    assert line.startswith("without debug information, of no package known here: plain; build with")
    assert why_nameless([str(plain)], SymbolCache(None), DEBIAN) == []


def test_what_is_known_of_a_file_is_kept_apart_for_names_and_lines(tmp_path: Path) -> None:
    build_named(tmp_path)
    stripped, cache = str(tmp_path / "stripped"), SymbolCache(tmp_path / "cache")
    for _ in range(2):
        assert why_nameless([stripped], cache, DEBIAN)[0].startswith("stripped, ")
        assert why_without_lines([stripped], cache, DEBIAN)[0].startswith("without debug ")
