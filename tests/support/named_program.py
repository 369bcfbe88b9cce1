"""A small program with debug information, and profiles with stacks of it."""

import subprocess
from pathlib import Path

from heapfiles import HeapFile, Record
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.table import Symbols

BIAS = 0x5500_0000_0000
SOURCE = """
#include <stdlib.h>
__attribute__((noinline))
void *beta(int n) { void *p = malloc(n); __asm__ volatile("" ::: "memory"); return p; }
int main(void) { return beta(3) == 0; }
"""


def build_named(folder: Path) -> Path:
    """Compile `p`, with debug information, and its parts apart: `stripped` and `debug`."""
    (folder / "p.c").write_text(SOURCE)
    commands = (
        ["gcc", "-g", "-O1", "-pie", "-fPIE", "-Wl,--build-id", "-o", "p", "p.c"],
        ["objcopy", "--only-keep-debug", "p", "debug"],
        ["strip", "-o", "stripped", "p"],
    )
    for command in commands:
        subprocess.run(command, check=True, timeout=60, cwd=folder)
    return folder / "p"


def heap_of(program: Path, *paths: Path) -> bytes:
    """A profile with one stack of `beta` and `main`, each of the program as if it lay at one of
    the ``paths``, one after the other; the second is `another_build` of it.
    """
    nm = subprocess.check_output(["nm", program], text=True, timeout=60).splitlines()
    at = {x.split()[2]: int(x.split()[0], 16) for x in nm if len(x.split()) == 3}
    modules, frames = [], [0x1000]
    for k, (path, name) in enumerate(zip(paths, ("beta", "main"), strict=False)):
        bias = BIAS + k * 0x10000
        modules.append({"path": str(path), "build_id": build_id(program, k), "start": bias,
                        "end": bias + 0x9000, "bias": bias, "exec": [[bias, bias + 0x9000, 0]],
                        "first_generation": 0, "last_generation": None})  # fmt: skip
        frames.append(bias + at[name] + 6)
    return HeapFile([Record(tuple(frames), 1, 100)], modules=modules).data


def build_id(program: Path, number: int) -> str:
    """The build-id of the program, plus a number."""
    return f"{int(ElfImage.open(str(program)).build_id, 16) + number:040x}"


def another_build(program: Path) -> bytes:
    own, other = (bytes.fromhex(build_id(program, k)) for k in range(2))
    return program.read_bytes().replace(own, other)


def names(symbols: Symbols) -> list[str]:
    return [f.name for f in symbols.functions]
