"""Symbol tables as arrays: an address belongs to a symbol by its size, or to nobody."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.symtab import RawSymbols, SymbolTable


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_address_beyond_a_symbols_size_belongs_to_nobody() -> None:
    table = SymbolTable(
        RawSymbols(
            np.array([100, 100, 200, 110], np.uint64), np.array([50, 50, 0, 4], np.uint64),
            np.array([1, 6, 12, 16], np.int64), np.array([0, 0, 1, 2], np.uint8),
            b"\0_one\0_five\0asm\0nest\0",
        )
    )  # fmt: skip
    found = table.find(np.array([99, 100, 112, 120, 149, 150, 200, 215, 216], np.uint64))
    assert found == [None, "_one", "nest", "_one", "_one", None, "asm", "asm", None]
    assert table.starts(np.array([100, 101, 200], np.uint64)).tolist() == [True, False, True]


def test_libc_names_agree_with_nm() -> None:
    libc = "/lib/x86_64-linux-gnu/libc.so.6"
    lines = [x.split() for x in run("nm", "-D", "-S", "--defined-only", libc).splitlines()]
    wanted = {int(x[0], 16): set() for x in lines if len(x) == 4 and x[2] in "TWti"}
    for x in lines:
        if len(x) == 4 and x[2] in "TWti":
            wanted[int(x[0], 16)].add(x[3].split("@")[0])
    found = ElfImage.open(libc).symbols().find(np.array(sorted(wanted), np.uint64))
    assert sum(n in wanted[a] for a, n in zip(sorted(wanted), found, strict=True)) == len(wanted)
