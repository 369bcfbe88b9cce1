"""Why addresses have no names, where that is certain."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.reasons import why_nameless
from named_program import build_named


def test_why_names_are_missing_is_found_without_waiting_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lib.so")
    assert why_nameless([str(tmp_path / "lib.so")], SymbolCache(None)) == {}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return build_named(tmp_path)


def test_a_stripped_file_is_said_to_be_stripped(program: Path, tmp_path: Path) -> None:
    stripped = str(tmp_path / "stripped")
    reasons = why_nameless([stripped, str(program), "/nowhere"])
    assert reasons == {stripped: "stripped; pass --debug-dir"}


def test_the_package_of_debug_symbols_is_named() -> None:
    if subprocess.run(["dpkg-query", "-S", "/bin/true"], capture_output=True).returncode:
        pytest.skip("the system has no dpkg that knows /bin/true")
    assert why_nameless(["/bin/true"]) == {
        "/bin/true": "stripped; install coreutils-dbgsym or pass --debug-dir"
    }
