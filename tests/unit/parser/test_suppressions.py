"""The list of suppressions that a program brings: read from its file, never by running it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from heapfiles import HeapFile, Record, module_of
from mem_parser.leaks.suppressions import own_list
from mem_parser.model import Profile
from mem_parser.readers import read_bytes
from mem_parser.symbols.constant import loaded_address
from mem_profiler.process import procfs

LIST = r'"# known\nleak:^cache_fill$\nleak:libold\nrace:x\nleak:\n"'
CONSTANT = f"const char *__lsan_default_suppressions(void) {{ return {LIST}; }}"
CHOSEN = """
#include <stdlib.h>
const char *__lsan_default_suppressions(void) { return getenv("X") ? "leak:a" : "leak:b"; }
"""
pytestmark = pytest.mark.skipif(shutil.which("objdump") is None, reason="binutils is missing")


def program(folder: Path, source: str, *flags: str) -> Path:
    (folder / "p.c").write_text(source + "\nint main(void) { return 0; }\n")
    command = ["gcc", *flags, "-Wl,--build-id", "-o", folder / "p", folder / "p.c"]
    subprocess.run(command, check=True, timeout=60)
    return folder / "p"


def profile_of(path: Path) -> Profile:
    heap = HeapFile(
        [Record((0x11000,), 1, 10)], modules=[module_of(path)], header={"exe": str(path)}
    )
    return read_bytes(heap.data, "x")


@pytest.mark.parametrize(
    "flags", [("-O0",), ("-O2",), ("-O2", "-no-pie", "-fno-pie"), ("-O2", "-fcf-protection=full")]
)
def test_a_constant_list_is_read(flags: tuple[str, ...], tmp_path: Path) -> None:
    found = own_list(profile_of(program(tmp_path, CONSTANT, *flags)))
    assert found.patterns == ["^cache_fill$", "libold"]
    assert found.notes == ["2 suppressions of the program's own (__lsan_default_suppressions)"]


def test_a_list_that_is_computed_is_said_not_to_be_applied(tmp_path: Path) -> None:
    found = own_list(profile_of(program(tmp_path, CHOSEN, "-O1")))
    assert found.patterns == []
    assert found.notes == [
        (
            "mem_parser does not apply the program's __lsan_default_suppressions:"
            " it is more than a constant"
        )
    ]


def test_without_a_list_or_with_another_build_nothing_is_said(tmp_path: Path) -> None:
    path = program(tmp_path, "", "-O1")
    profile = profile_of(path)
    assert own_list(profile).notes == []
    program(tmp_path, CONSTANT, "-O2")
    assert own_list(profile).notes == []


@pytest.mark.parametrize(("code", "address"), [
    (["endbr64", "lea    0xe9b(%rip),%rax        # 2004 <x>", "ret"], 0x2004),
    (["adrp\tx0, 400000 <_init-0x5b8>", "add\tx0, x0, #0x7c0", "ret"], 0x4007C0),
    (["lea    0xe9b(%rip),%rax        # 2004 <x>"], None),
    (["lea    0x1(%rip),%rax # 2004 <x>", "lea    0x2(%rip),%rax # 2008 <y>", "ret"], None),
    (["call   1030 <getenv@plt>", "lea    0x1(%rip),%rax # 2004 <x>", "ret"], None),
    (["ret"], None),
])  # fmt: skip
def test_only_a_load_and_a_return_are_a_constant(code: list[str], address: int | None) -> None:
    assert loaded_address(code) == address


@pytest.mark.parametrize(("options", "file"), [
    ("suppressions=/etc/x.supp", "/etc/x.supp"),
    ("verbosity=1:suppressions=a.txt:print_suppressions=0", "a.txt"),
    ("suppressions='with blank.txt',x=1", "with blank.txt"),
    ("print_suppressions=0", ""),
    ("", ""),
])  # fmt: skip
def test_the_list_that_the_environment_names_is_kept(
    options: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(procfs, "environment", lambda _pid: {"LSAN_OPTIONS": options})
    assert procfs.leak_suppressions(1) == file
