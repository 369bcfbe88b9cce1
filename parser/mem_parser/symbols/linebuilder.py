"""Turn a file's debug information into a compact table; run as a program of its own.

    python linebuilder.py FILE OUT

Debug information comes from anywhere, and the library that reads it is native code: whatever it
does, it ends only this process. Exit code 0: OUT is the table, empty if the file holds none; 1: the
information cannot be read.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

MEMORY_LIMIT_BYTES = 16 << 30


def build(path: str) -> bytes:
    """Return the table of ``path``; empty if there is nothing to make one from."""
    from symbolic.debuginfo import Archive

    first: Any = next(Archive.open(path).iter_objects(), None)
    return b"" if first is None else bytes(first.make_symcache().open_stream().read())


def main() -> int:
    """Run the program."""
    _, path, out = sys.argv
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    try:
        data = build(path)
        Path(out).write_bytes(data)
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
