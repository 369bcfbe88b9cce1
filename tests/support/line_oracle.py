"""What other readers say of addresses: llvm-symbolizer and addr2line, as oracles for our own."""

import json
import os.path
import random
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mem_parser.symbols.dwarf import Lines, read_lines
from mem_parser.symbols.elf import ElfImage

Frames = list[tuple[str, str, int]]
"""Function, file and line, innermost first."""
_INSTRUCTION = re.compile(r"^\s+([0-9a-f]+):\t(\S+)")
_CLONE = re.compile(r"(\.(cold|part|isra|constprop|lto_priv|llvm)(\.\d+)*)+$")


def call_sites(program: Path, most: int = 1 << 30) -> list[int]:
    """The addresses inside the calls of a program: what a profile asks for; ``most`` of them."""
    command = ["objdump", "-d", "--no-show-raw-insn", "-j", ".text", program]
    found = []
    is_call = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as objdump:
        for line in objdump.stdout:
            match = _INSTRUCTION.match(line)
            if match is None:
                continue
            if is_call:
                found.append(int(match[1], 16) - 1)
            is_call = match[2].startswith("call")
    return found if len(found) <= most else sorted(random.Random(1).sample(found, most))


def llvm_frames(debug: Path, addresses: Sequence[int]) -> dict[int, Frames]:
    """What llvm-symbolizer says, with names as linkers know them."""
    command = ["llvm-symbolizer", f"--obj={debug}", "--functions=linkage", "--inlines",
               "--no-demangle", "--output-style=JSON"]  # fmt: skip
    done = subprocess.run(
        command, input="".join(f"{a:#x}\n" for a in addresses), capture_output=True, text=True,
        check=True, timeout=280,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        found[int(row["Address"], 16)] = [
            (f["FunctionName"], f["FileName"], f["Line"]) for f in row["Symbol"]
        ]
    return found


def addr2line_frames(debug: Path, addresses: Sequence[int]) -> dict[int, Frames]:
    done = subprocess.run(
        ["addr2line", "-e", debug, "-a", "-f", "-i"],
        input="".join(f"{a:#x}\n" for a in addresses), capture_output=True, text=True, check=True,
        timeout=280,
    )  # fmt: skip
    found: dict[int, Frames] = {}
    lines = done.stdout.splitlines()
    at = 0
    frames: Frames = []
    while at < len(lines):
        if lines[at].startswith("0x"):
            frames = found[int(lines[at], 16)] = []
            at += 1
            continue
        file, _, line = lines[at + 1].partition(" (discriminator")[0].rpartition(":")
        known = line.isdigit()
        frames.append((lines[at], "" if file == "??" else file, int(line) if known else 0))
        at += 2
    return found


def our_lines(debug: Path, addresses: Sequence[int], *programs: Path) -> Lines:
    lines = read_lines(ElfImage.open(str(debug)), addresses, [str(p) for p in programs])
    assert lines is not None
    return lines


def our_frames(debug: Path, addresses: Sequence[int], *programs: Path) -> dict[int, Frames]:
    """What our reader says; of nothing may be said that it is lost."""
    lines = our_lines(debug, addresses, *programs)
    assert lines.lost == {}
    return {a: [(f.symbol, f.file, f.line) for f in found] for a, found in lines.frames.items()}


def differing(
    ours: dict[int, Frames], theirs: dict[int, Frames]
) -> dict[int, tuple[Frames, Frames]]:
    """The addresses at which two readers differ in a line, a file, or an inlined function, with
    what each says. Names of the real functions are symbols' and not compared here.
    """
    return {
        address: (ours.get(address, []), frames)
        for address, frames in theirs.items()
        if any(line for _, _, line in frames)
        and _comparable(ours.get(address, [])) != _comparable(frames)
    }


def _comparable(frames: Frames) -> Frames:
    last = len(frames) - 1
    return [
        ("" if k == last else _CLONE.sub("", name), os.path.normpath(file) if line else "", line)
        for k, (name, file, line) in enumerate(frames)
    ]
