"""`list` and pages show the text of files that a profile names only where the profile is our own,
or the user says so: it comes from anywhere, and may name any file. With real debug information.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heapfiles import HeapFile, Record, module_of
from mem_parser.symbols.cache import CACHE_VARIABLE
from parser_run import report, told
from web_profiles import blocks_of

SECRET = "the text of the secret"
HERE = {"host": os.uname().nodename, "uid": os.geteuid()}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made by root")


def build(program: Path, file: Path | str, *flags: str, cwd: Path | None = None) -> Path:
    """Compile a program whose debug information says that `grab` is in line 2 of a file."""
    code = (
        f'#line 2 "{file}"\nint grab(int x) {{ return x * 3; }}\n'
        "int main(void) { return grab(1); }\n"
    )
    program.parent.mkdir(exist_ok=True)
    subprocess.run(
        ["gcc", "-g", "-O0", "-no-pie", "-Wl,--build-id", *flags, "-xc", "-o", program, "-"],
        input=code.encode(), cwd=cwd or program.parent, check=True, timeout=60,
    )  # fmt: skip
    return program


def secret(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"first\n{SECRET}\nthird\n")
    return file


def profile(program: Path, heap: Path, header: dict[str, Any], mode: int = 0o600) -> Path:
    """A file of a profile of the program with such a header."""
    names = subprocess.check_output(["nm", program], text=True, timeout=60).split()
    address = int(names[names.index("grab") - 2], 16)
    code = [[0x401000, 0x402000, 0x1000]]
    module = module_of(program, 0x400000, 0x500000, bias=0, exec=code)
    records = [Record((address,), 9, 9999)]
    heap.unlink(missing_ok=True)
    heap.write_bytes(
        HeapFile(records, modules=[module], header={"exe": str(program), **header}).data
    )
    heap.chmod(mode)
    return heap


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    return build(folder / "x", secret(folder / "secret.h"))


@pytest.fixture(autouse=True)
def _elsewhere(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is in a folder of no project; names are read once."""
    monkeypatch.setenv(CACHE_VARIABLE, str(program.parent / "cache"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def page(command: str, heap: Path, *options: str) -> dict[str, Any]:
    """The blocks of a page."""
    told(command, heap, "-o", heap.with_suffix(".html"), *options)
    return blocks_of(heap.with_suffix(".html").read_text(encoding="utf-8"))


def outputs(heap: Path, *options: str) -> list[str]:
    """All that shows text."""
    return [
        told("list", heap, "grab", *options),
        told("list", heap, "grab", "--json", *options),
        *(json.dumps(page(kind, heap, *options)["source"]) for kind in ("report", "flamegraph")),
    ]


def test_our_own_profile_brings_its_sources(program: Path, tmp_path: Path) -> None:
    heap = profile(program, tmp_path / "x.heap", HERE)
    assert all(SECRET in output for output in outputs(heap))
    assert "source" not in page("report", heap, "--no-source")
    assert "source" not in page("flamegraph", heap, "--confidential", "--trust-sources")


@pytest.mark.parametrize(("header", "mode", "why"), [
    ({}, 0o600, "the profile does not name its host and user"),
    ({**HERE, "host": "another"}, 0o600, "the profile came from another host"),
    ({**HERE, "uid": os.geteuid() + 1}, 0o600, "the profile is of another user's process"),
    ({"host": HERE["host"]}, 0o600, "the profile does not name its host and user"),
    ({**HERE, "uid": True}, 0o600, "the profile does not name its host and user"),
    (HERE, 0o666, "its file belongs to another user, or others can write it"),
    pytest.param(HERE, None, "its file belongs to another user, or others", marks=as_root),
])  # fmt: skip
def test_a_profile_that_is_not_our_own_shows_none(
    program: Path, tmp_path: Path, header: dict[str, Any], mode: int | None, why: str
) -> None:
    heap = profile(program, tmp_path / "x.heap", header, mode or 0o600)
    if mode is None:
        os.chown(heap, 65534, 65534)
    said = told("list", heap, "grab")
    assert SECRET not in said
    assert f"source not shown: {why}" in said
    assert "--trust-sources shows it" in said


def test_every_output_asks_for_the_users_word(program: Path, tmp_path: Path) -> None:
    heap = profile(program, tmp_path / "x.heap", {})
    [row] = report("list", heap, "grab")["rows"]
    assert [line["text"] for line in row["lines"]] == [None]
    assert row["problem"].startswith("source not shown")
    for command in ("report", "flamegraph"):
        block = page(command, heap)["source"]
        assert block["files"] == {}
        [refused] = [why for file, why in block["refused"].items() if file.endswith("secret.h")]
        assert refused.endswith("--trust-sources shows it")
    assert all(SECRET in output for output in outputs(heap, "--source-dir", str(program.parent)))
    assert SECRET in told("list", heap, "grab", "--trust-sources")
    assert SECRET in told("list", heap, "grab", "--source-root", program.parent)
    assert SECRET not in told("list", heap, "grab", "--source-dir", "/usr/share")


def test_a_profile_that_names_its_sources_itself_is_not_our_own(
    program: Path, tmp_path: Path
) -> None:
    heap = profile(program, tmp_path / "x.heap", HERE)
    told("symbolize", heap, "-o", tmp_path / "y.heap")
    said = told("list", tmp_path / "y.heap", "grab")
    assert SECRET not in said
    assert "source not shown: names stored in the profile say where it is" in said


def test_only_text_of_a_plain_file_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "proj/x.h"
    heap = profile(build(tmp_path / "proj/x", file), tmp_path / "x.heap", HERE)
    file.write_bytes(b"a\n" + SECRET.encode() + b"\0\n")
    assert SECRET not in told("list", heap, "grab")
    file.unlink()
    os.mkfifo(file)
    assert "source not found" in told("list", heap, "grab")


def comp_dir_above(at: Path) -> Path:
    secret(at / "private/keys.c")
    return build(at / "proj/prog", "private/keys.c", cwd=at)


def comp_dir_is_root(at: Path) -> Path:
    file = secret(at / "private/keys.c")
    return build(at / "proj/prog", str(file)[1:], cwd=Path("/"))


def prefix_map(at: Path) -> Path:
    file = secret(at / "proj/src/x.c")
    (at / "proj/Makefile").touch()
    return build(at / "proj/build/prog", file, f"-ffile-prefix-map={at}/proj=.", cwd=at / "proj")


@pytest.mark.parametrize(
    ("row", "seen"), [(comp_dir_above, False), (comp_dir_is_root, False), (prefix_map, True)]
)
def test_the_folder_of_the_build_is_a_word_of_the_programs_author(
    tmp_path: Path, row: Callable[[Path], Path], seen: bool
) -> None:
    heap = profile(row(tmp_path), tmp_path / "elsewhere/x.heap", HERE)
    assert (SECRET in told("list", heap, "grab")) is seen
    assert SECRET in told("list", heap, "grab", "--trust-sources")
