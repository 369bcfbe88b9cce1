"""What programs show on a terminal of a given size."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARSER = ("-m", "mem_cli.parser.group")
PROFILER = ("-m", "mem_cli.profiler.group")
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / p) for p in ("parser", "cmd", "bindings")),
    "MEM_PROFILER_CACHE": "",
}
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def screen(
    *arguments: str | Path, columns: int = 80, rows: int = 24, code: int = 0, **environment: str
) -> str:
    """What python, run with ``arguments``, writes to a terminal of that size."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    given = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
    child = subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdin=side, stdout=side, stderr=side,
        env=given | ENVIRONMENT | {"TERM": "xterm-256color"} | environment,
    )  # fmt: skip
    os.close(side)
    written = b""
    try:
        while True:
            written += os.read(main, 65536)
    except OSError:  # the last writer has closed it
        pass
    finally:
        os.close(main)
        ended = child.wait(timeout=60)
    assert ended == code, written
    return written.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    """The text without colours."""
    return _COLOUR.sub("", text)


def lines_used(text: str, columns: int = 80) -> int:
    """How many lines of a terminal a text takes, with those that the terminal breaks."""
    return sum(max(-(-len(line) // columns), 1) for line in plain(text).splitlines())
