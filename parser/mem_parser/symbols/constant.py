"""The constant text that a function of an ELF file returns, found without running it.

binutils' `objdump` decodes the function; we understand it only if all it does is to load one
address and to return. We do not guess at anything else.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from mem_parser.symbols.elf import BadElf, ElfImage

MOST_TEXT_BYTES = 1 << 20
_LARGEST_FUNCTION_BYTES = 256
_TIMEOUT_S = 20.0
_LINE = re.compile(r"^\s*[0-9a-f]+:\t(.+)$")
_NOTHING = re.compile(
    r"endbr64|push +%rbp|mov +%rsp,%rbp|pop +%rbp|leave|cs nop.*|nop\w*.*|xchg +%ax,%ax|data16.*"
    r"|bti\s+c|paciasp|autiasp|hint.*"
)
_LOAD = re.compile(r"lea +0x[0-9a-f]+\(%rip\),%rax +# ([0-9a-f]+)|mov +\$0x([0-9a-f]+),%[er]ax")
_PAGE = re.compile(r"adrp\s+x0, ([0-9a-f]+)")
_OFFSET = re.compile(r"add\s+x0, x0, #0x([0-9a-f]+)")
_RETURN = re.compile(r"retq?(?:\s.*)?|repz retq?")


@dataclass(frozen=True, slots=True)
class ConstantText:
    """The text of an existing function, or why it is unknown."""

    text: str | None
    problem: str = ""

    @classmethod
    def read(cls, answer: Any) -> ConstantText | None:
        """Return what another process says of a text. Raises as what is no pair does."""
        if answer is None:
            return None
        text, problem = answer
        return cls(None if text is None else str(text), str(problem))


def returned_text(image: ElfImage, function: str) -> ConstantText | None:
    """Return the text of ``function``; None if the file defines no such function."""
    try:
        found = _find(image, function)
    except (BadElf, OSError) as error:
        return ConstantText(None, str(error))
    if found is None:
        return None
    address, size = found
    if not 0 < size <= _LARGEST_FUNCTION_BYTES:
        return ConstantText(None, "it is more than a constant")
    try:
        code = _disassemble(image.path, address, size)
    except (OSError, subprocess.SubprocessError):
        return ConstantText(None, "objdump (binutils) is needed to read it")
    place = loaded_address(code)
    text = None if place is None else _text_at(image, place)
    return ConstantText(text, "" if text is not None else "it is more than a constant")


def _find(image: ElfImage, function: str) -> tuple[int, int] | None:
    """Return address and size of a function that the file defines. Raises `BadElf`."""
    for section in (".symtab", ".dynsym"):
        raw = image.read_symbols(section)
        row = raw.row_named(function)
        if row is not None:
            return int(raw.values[row]), int(raw.sizes[row])
    return None


def _disassemble(path: str, address: int, size: int) -> list[str]:
    done = subprocess.run(
        [
            "objdump", "-d", "--no-show-raw-insn", f"--start-address={address:#x}",
            f"--stop-address={address + size:#x}", os.path.abspath(path),
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=True,
        timeout=_TIMEOUT_S, env=os.environ | {"LC_ALL": "C"},
    )  # fmt: skip
    return [m[1].strip() for line in done.stdout.splitlines() if (m := _LINE.match(line))]


def loaded_address(code: list[str]) -> int | None:
    """Return the one address that the instructions load before they return; None if they do
    anything else.
    """
    place: int | None = None
    page: int | None = None
    for line in code:
        if _RETURN.fullmatch(line):
            return place
        if found := _LOAD.match(line):
            if place is not None:
                return None
            place = int(found[1] or found[2], 16)
        elif (found := _PAGE.match(line)) and page is None:
            page = int(found[1], 16)
        elif (found := _OFFSET.match(line)) and page is not None and place is None:
            place = page + int(found[1], 16)
        elif not _NOTHING.fullmatch(line):
            return None
    return None


def _text_at(image: ElfImage, address: int) -> str | None:
    data = image.bytes_at(address, MOST_TEXT_BYTES)
    text, end, _ = data.partition(b"\0")
    return text.decode("utf-8", "replace") if end else None
