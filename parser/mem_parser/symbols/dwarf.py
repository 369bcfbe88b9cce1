"""Source lines and inlined frames of addresses, from DWARF.

A separate program (`linereader`) reads the debug information, because that may take any time and
memory, which must not fail a report. It gets the open file, so it reads the checked one, and is
confined (`mem_sandbox.confine`). Its answer is untrusted, too.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mem_parser.allowance import bound_bytes
from mem_parser.errors import one_line
from mem_parser.plainfile import PlainFile
from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.isolation import (
    LARGEST_FILE_BYTES,
    LARGEST_MEMORY_BYTES,
    MEMORY_FLOOR_BYTES,
    NO_MEMORY,
)
from mem_sandbox.child import signal_name

READ_TIMEOUT_S = 300.0
"""What reading the debug information of one file may take."""
_NO_ANSWER = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError
)  # fmt: skip
"""What looking into an answer of any form raises."""
_READER = str(Path(__file__).with_name("linereader.py"))


class LinesFailed(Exception):
    """Unusable debug information; the text is the failure, without a subject."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One function at an address: inlined ones come first, the real one last."""

    symbol: str
    file: str
    line: int


@dataclass(slots=True)
class Lines:
    """Frames by address, innermost first; addresses without a known line are not in it."""

    frames: dict[int, list[SourceFrame]] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    """How many addresses lack frames or names that the debug information has, by cause."""

    def problem(self, asked: int) -> str:
        """Return the text about the lost part of ``asked`` addresses, without a subject; empty if
        none is lost.
        """
        if not self.lost:
            return ""
        most = max(self.lost, key=lambda cause: self.lost[cause])
        others = len(self.lost) - 1
        more = f", and {others} more cause{'s' if others > 1 else ''}" if others else ""
        count = min(sum(self.lost.values()), asked)
        return f"{count} of {asked} source lines could not be read in full: {most}{more}"


def read_lines(
    image: ElfImage,
    addresses: Sequence[int],
    programs: Sequence[str] = (),
    debug_dirs: Sequence[str] = DEFAULT_DEBUG_DIRS,
) -> Lines | None:
    """Return the lines of virtual ``addresses`` of ``image``; None if it has no debug information.

    ``programs``: files next to which a package of split debug information may be. Raises
    `LinesFailed` if the debug information is unusable.
    """
    if not image.has_dwarf or not isinstance(image.file, PlainFile):
        return None
    question = {
        "path": image.path,
        "programs": list(dict.fromkeys([*programs, image.path])),
        "debug_dirs": list(debug_dirs),
        "addresses": list(addresses),
    }
    try:
        return _understood(json.loads(_asked(image.file, json.dumps(question).encode())))
    except _NO_ANSWER as error:
        raise LinesFailed("made its reader give an invalid answer") from error


def _file_without_name() -> BinaryIO:
    """Return an empty file: memory, or where a process may not have that, one in the folder for
    temporary files, where a service may not write. Raises `LinesFailed`.
    """
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return open(os.memfd_create("mem_parser"), "w+b")
    import tempfile

    try:
        return tempfile.TemporaryFile(prefix="mem_parser-")
    except OSError as error:
        raise LinesFailed(f"was not read: no room for an answer ({error.strerror})") from error


def _asked(file: PlainFile, question: bytes) -> bytes:
    """Return the answer of a child process. Raises `LinesFailed`."""
    memory = min(bound_bytes(file.stored_bytes, MEMORY_FLOOR_BYTES), LARGEST_MEMORY_BYTES)
    with _file_without_name() as asked, _file_without_name() as out:
        asked.write(question)
        asked.seek(0)
        numbers = (
            file.fileno(), asked.fileno(), out.fileno(), memory, math.ceil(READ_TIMEOUT_S),
            os.getpid(),
        )  # fmt: skip
        try:
            done = subprocess.run(
                [sys.executable, "-P", _READER, *map(str, numbers)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=numbers[:3],
                check=False,
                timeout=READ_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise LinesFailed(f"took longer than {READ_TIMEOUT_S:.0f} s to read") from error
        except OSError as error:
            why = error.strerror
            if isinstance(error, PermissionError):  # as a user without rights, for root
                python = one_line(os.path.realpath(sys.executable))
                why = f"{why}: every user must be able to run {python}, and to enter its folders"
            raise LinesFailed(f"was not read: cannot start a process for it ({why})") from error
        if done.returncode < 0:
            raise LinesFailed(f"crashed its reader ({signal_name(-done.returncode)})")
        if done.returncode == NO_MEMORY:
            raise LinesFailed("needs too much memory to read for a file of its size")
        if done.returncode:
            raise LinesFailed("cannot be read")
        return _answer(out)


def _answer(out: BinaryIO) -> bytes:
    if os.fstat(out.fileno()).st_size > LARGEST_FILE_BYTES:
        raise LinesFailed("made its reader give too large an answer")
    out.seek(0)
    return out.read()


def _understood(answer: Any) -> Lines:
    """Return the lines of an answer. Raises `LinesFailed`, ValueError, TypeError, LookupError."""
    if "failed" in answer:
        raise LinesFailed(one_line(str(answer["failed"])))
    frames = {
        int(address): [SourceFrame(str(name), str(file), int(line)) for name, file, line in found]
        for address, found in answer["frames"]
    }
    lost = {one_line(str(cause)): int(count) for cause, count in answer["lost"].items()}
    return Lines(frames, lost)
