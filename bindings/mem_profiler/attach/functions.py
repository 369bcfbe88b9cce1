"""Code ranges of functions in an image, and the instruction that ends each.

Model: a function that ends in a tail call leaves no frame on the stack: the callee appears as if
the caller had called it. `pthread_join` and `sem_wait` are such functions in glibc 2.31 to 2.41,
`memalign` and `free` in some. The callee is often internal, so no exported name refers to it.
This module decodes a function and follows each jump out of it, if it leads to the very start of a
function that the unwind tables know, or to a part of its own that the compiler placed elsewhere,
which they know as well.

All bytes come from the memory of a process and may be hostile: sizes and the number of functions
are bounded, and what makes no sense leads nowhere.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator

import capstone

from mem_parser.symbols.unwindtable import UnwindTable
from mem_profiler.attach.images import Image

CODE_MAX_BYTES = 1 << 14  # of one function; glibc's largest here has a quarter of it
FOLLOWED_MAX = 256  # of one image
_MACHINES = {
    "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
}

Range = tuple[int, int]


class Functions:
    """The functions of one image, by exported name."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._table: UnwindTable | None = None
        self._decoder = capstone.Cs(*_MACHINES.get(platform.machine(), _MACHINES["x86_64"]))

    def ranges(self, names: Iterable[str], without: Iterable[Range] = ()) -> list[Range]:
        """[start, end) of the named functions, all versions, and of what they end in, but for what
        is in `without`. Raises TargetError, see Budget.
        """
        found: dict[int, Range] = {}
        taken = {start for start, _ in without}
        todo = list(self._exported(names))
        while todo and len(found) < FOLLOWED_MAX:
            start, end = todo.pop()
            if start in found or start in taken:
                continue
            found[start] = (start, end)
            todo += self._tails(start, end)
        return sorted(found.values())

    def _exported(self, names: Iterable[str]) -> Iterator[Range]:
        for name in names:
            for symbol in self._image.find(name):
                yield symbol.address, symbol.address + max(symbol.size, 1)

    def _tails(self, start: int, end: int) -> list[Range]:
        """The targets of jumps out of this function."""
        targets = set(self._jumps(start, end))
        if not targets:
            return []
        if self._table is None:
            self._table = UnwindTable(_Source(self._image))
        functions = (self._table.function(target) for target in targets)
        return [found for found in functions if found is not None and found[0] in targets]

    def _jumps(self, start: int, end: int) -> Iterator[int]:
        code = self._image.read(start, min(end - start, CODE_MAX_BYTES))
        for _, _, name, operands in self._decoder.disasm_lite(code or b"", start):
            # x86: jmp, je, ...; aarch64: b, b.eq, ...
            if not (name.startswith(("j", "b.")) or name == "b"):
                continue
            try:
                target = int(operands.removeprefix("#"), 16)
            except ValueError:
                continue  # through a register or a word
            if not start <= target < end:
                yield target


class _Source:
    """The unwind tables of an image in memory, for UnwindTable."""

    bits = 64
    little_endian = True

    def __init__(self, image: Image) -> None:
        self._image = image

    def unwind_header(self) -> tuple[int, bytes]:
        """The address and content of `.eh_frame_hdr`."""
        start, size = self._image.unwind_header
        return start, self._image.read(start, size) or b""

    def bytes_at(self, address: int, most: int) -> bytes:
        """Up to `most` bytes at an address."""
        end = self._image.run_at(address)[1]
        return self._image.read(address, min(most, end - address)) or b""
