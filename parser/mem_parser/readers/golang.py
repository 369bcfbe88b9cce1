"""Go's text heap profile (`/debug/pprof/heap?debug=1`): extensions of gperftools' text.

    heap profile: 3: 14680064 [5: 20971520] @ heap/1048576
    1: 8388608 [1: 8388608] @ 0x47d9b2 0x47d9e5 0x4332a7
    #	0x47d9b1	main.(*Store).load+0x51	/src/main.go:12
    #	0x47d9e4	main.main+0x24		/src/main.go:20

    # runtime.MemStats
    ...

The number in the header is twice Go's rate, and the counts are those of samples: Go's own tools
weigh them as those of `heap_v2` at half that number. There are no mappings; instead each record
names its frames, in the lines after it, by the address before the return address. Go leaves out its
runtime's functions at the allocation's end of a stack, and the one that starts every goroutine, so
these lines are the stack. The file ends with the runtime's statistics.
"""

from __future__ import annotations

import re

from mem_parser.allowance import MemoryAllowance
from mem_parser.symbols.demangle import printable
from mem_parser.symbols.embedded import (
    FIRST_INVENTED,
    NO_MODULE,
    EmbeddedFrame,
    EmbeddedNames,
    Frames,
)

NAME = "Go's sampler"
_ADDRESS = re.compile(rb"0x([0-9a-f]{1,16})")
_LINE = re.compile(rb"\d{1,9}")
_STATISTICS = b"# runtime.MemStats"
_FRAME_BYTES = 900


class GoLines:
    """The lines of one file that begin with `#`; `stack` is what those of one record say."""

    def __init__(self, allowance: MemoryAllowance) -> None:
        self.is_go = False
        self.is_whole = False
        self._allowance = allowance
        self._record: list[tuple[int, EmbeddedFrame | None]] = []
        self._taken: dict[int, Frames] = {}
        self._invented: dict[tuple[int, Frames], int] = {}

    def read(self, line: bytes) -> bool:
        """Read one line; False if it is none of Go's."""
        if line.startswith(_STATISTICS):
            self.is_go = self.is_whole = True
            return True
        mark, *parts = line.rstrip().split(b"\t")
        match = _ADDRESS.fullmatch(parts[0]) if mark == b"#" and parts else None
        if match is None:
            return self.is_whole and line.startswith(b"#")
        self.is_go = True
        self._allowance.take(_FRAME_BYTES + len(line))
        self._record.append((int(match[1], 16), _frame(list(filter(None, parts[1:])))))
        return True

    def stack(self) -> bytes | None:
        """Return the return addresses of the record whose lines were read, innermost first, and
        begin the next; None where it has no lines.
        """
        frames: list[tuple[int, list[EmbeddedFrame]]] = []
        for address, frame in self._record:
            if not frames or frames[-1][0] != address:
                frames.append((address, []))
            if frame is not None:
                frames[-1][1].append(frame)
        self._record = []
        if not frames:
            return None
        return b" ".join(b"%x" % (self._address(a, tuple(f)) + 1) for a, f in frames)

    def _address(self, address: int, names: Frames) -> int:
        """Return the look-up address for ``names``: a made-up one if another record names the same
        address otherwise, or no process can have it.
        """
        if 0 < address < FIRST_INVENTED and self._taken.setdefault(address, names) == names:
            return address
        made = self._invented.setdefault((address, names), FIRST_INVENTED + 2 * len(self._invented))
        self._taken[made] = names or (EmbeddedFrame(f"0x{address:x}", f"0x{address:x}"),)
        return made

    def embedded(self) -> EmbeddedNames:
        """Return the names by their addresses."""
        return EmbeddedNames({(NO_MODULE, a): names for a, names in self._taken.items() if names})


def _frame(parts: list[bytes]) -> EmbeddedFrame | None:
    """Return the frame of `name+0xoffset` and `file:line`; None where there is no name."""
    if not parts:
        return None
    name = _text(parts[0].rpartition(b"+0x")[0] or parts[0])
    file, _, line = b"\t".join(parts[1:]).rpartition(b":")
    return EmbeddedFrame(name, name, _text(file), int(line) if _LINE.fullmatch(line) else 0)


def _text(raw: bytes) -> str:
    return printable(raw.decode("utf-8", "replace"))
