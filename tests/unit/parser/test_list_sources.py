"""`list` shows the text of files that a profile names only where the profile is our own, or the
user says so: it comes from anywhere, and may name any file.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from heapfiles import HeapFile, Record
from mem_cli.parser.group import cli
from mem_parser.symbols.elf import ElfImage

SECRET = "the text of the secret"
Show = Callable[..., str]
HERE = {"host": os.uname().nodename, "uid": os.geteuid()}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's files are made by root")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose debug information says that `grab` is in line 2 of the file `secret.h`."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "secret.h").write_text(f"first\n{SECRET}\nthird\n")
    (folder / "x.c").write_text(
        f'#line 2 "{folder}/secret.h"\nint grab(int x) {{ return x * 3; }}\n'
        "int main(void) { return grab(1); }\n"
    )
    subprocess.run(
        ["gcc", "-g", "-O0", "-no-pie", "-Wl,--build-id", "-o", folder / "x", folder / "x.c"],
        check=True, timeout=60,
    )  # fmt: skip
    return folder / "x"


@pytest.fixture
def show(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Show:
    """What `list` prints of a profile of the program with such a header."""
    monkeypatch.setenv("MEM_PROFILER_CACHE", "")
    names = subprocess.run(
        ["nm", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    address = int(names[names.index("grab") - 2], 16)
    module = {"path": str(program), "build_id": ElfImage.open(program).build_id,
              "start": 0x400000, "end": 0x500000, "bias": 0,
              "exec": [[0x401000, 0x402000, 0x1000]],
              "first_generation": 0, "last_generation": None}  # fmt: skip
    heap = tmp_path / "x.heap"

    def run(header: dict[str, Any], *options: str, owner: int | None = None, mode: int = 0o600,
            into: str = "") -> str:  # fmt: skip
        heap.write_bytes(
            HeapFile([Record((address,), 9, 9999)], modules=[module],
                     header={"exe": str(program), **header}).data
        )  # fmt: skip
        heap.chmod(mode)
        file = str(heap)
        if into:
            file = str(tmp_path / "y.heap")
            done = CliRunner().invoke(cli, [into, str(heap), "-o", file], catch_exceptions=False)
            assert done.exit_code == 0, done.output
        if owner is not None:
            os.chown(heap, owner, owner)
        done = CliRunner().invoke(cli, ["list", file, "grab", *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "grab" in done.output
        return done.output

    return run


def test_the_source_of_our_own_profile_is_shown(show: Show) -> None:
    assert SECRET in show(HERE)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({}, "the profile does not name its host and user"),
        ({**HERE, "host": "another"}, "the profile came from another host"),
        ({**HERE, "uid": os.geteuid() + 1}, "the profile is of another user's process"),
        ({"host": HERE["host"]}, "the profile does not name its host and user"),
        ({**HERE, "uid": True}, "the profile does not name its host and user"),
    ],
)
def test_a_file_that_a_profile_from_elsewhere_names_is_shown_only_on_the_users_word(
    show: Show, program: Path, header: dict[str, Any], why: str
) -> None:
    said = show(header)
    assert SECRET not in said
    assert f"source not shown: {why}" in said
    assert "--trust-sources shows it" in said
    asked = json.loads(show(header, "--json"))
    assert [line["text"] for line in asked["rows"][0]["lines"]] == [None]
    assert asked["rows"][0]["problem"].startswith("source not shown")

    assert SECRET in show(header, "--trust-sources")
    assert SECRET in show(header, "--source-dir", str(program.parent))
    assert SECRET not in show(header, "--source-dir", "/usr/share")


@as_root
def test_a_profile_that_another_user_wrote_is_not_our_own_whatever_it_says(show: Show) -> None:
    said = show(HERE, owner=65534)
    assert SECRET not in said
    assert "source not shown: its file belongs to another user, or others can write it" in said


def test_a_profile_that_others_can_write_is_not_our_own(show: Show) -> None:
    assert SECRET not in show(HERE, mode=0o666)


def test_a_profile_that_names_its_sources_itself_is_not_our_own(show: Show) -> None:
    said = show(HERE, into="symbolize")
    assert SECRET not in said
    assert "source not shown: names stored in the profile say where it is" in said


def test_only_text_of_a_plain_file_is_shown(show: Show, program: Path) -> None:
    secret = program.parent / "secret.h"
    old = secret.read_bytes()
    try:
        secret.write_bytes(b"a\n" + SECRET.encode() + b"\0\n")
        assert SECRET not in show(HERE)
        secret.unlink()
        os.mkfifo(secret)
        assert "source not found" in show(HERE)
    finally:
        secret.unlink()
        secret.write_bytes(old)
