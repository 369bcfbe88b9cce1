"""Convert a file's debug information to a compact table; a program of its own.

    python linebuilder.py FILE OUT MEMORY_BYTES SECONDS PARENT

FILE and OUT are descriptors, PARENT is the process that waits. Debug information is untrusted, and
the library that reads it is native code: a crash ends only this process. Exit code 0: OUT is the
table, empty if the file has no debug information; 1: the information is unreadable; 3: it needs
more than MEMORY_BYTES.
"""

from __future__ import annotations

import os
import sys
from typing import Any

NO_MEMORY = 3


def build(path: str) -> bytes:
    """Return the table of ``path``; empty if the file has no debug information."""
    from symbolic.debuginfo import Archive

    first: Any = next(Archive.open(path).iter_objects(), None)
    return b"" if first is None else bytes(first.make_symcache().open_stream().read())


def main() -> int:
    """Run the program."""
    from mem_parser.symbols.confinement import confine, limit_memory, limit_time

    file, out, memory_bytes, seconds, parent = (int(x) for x in sys.argv[1:])
    confine(parent)
    limit_time(seconds)
    limit_memory(memory_bytes)
    try:
        data = memoryview(build(f"/proc/self/fd/{file}"))
        while data:
            data = data[os.write(out, data) :]
    except MemoryError:
        return NO_MEMORY
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
