"""What commands show on a terminal of a given size."""

import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

from mem_cli.parser import group as parser
from mem_cli.profiler import group as profiler
from parser_run import ended, fork

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(str(ROOT / p) for p in ("parser", "cmd", "bindings")),
    "MEM_PROFILER_CACHE": "",
}
_MAINS = {"mem_parser": parser.main, "mem_profiler": profiler.main}
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def screen(
    *arguments: object,
    program: str = "mem_parser",
    columns: int = 80,
    rows: int = 24,
    code: int = 0,
    cwd: str | Path | None = None,
    **environment: str,
) -> str:
    """What a command that ends with ``code`` writes to a terminal of that size."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    own = {"COLUMNS": "", "LINES": "", "NO_COLOR": "", "TERM": "xterm-256color"} | environment
    words = list(map(str, arguments))
    pid = fork(_MAINS[program], words, (side, side, side), cwd=cwd, environment=own)
    os.close(side)
    written = b""
    try:
        while True:
            written += os.read(main, 65536)
    except OSError:  # the last writer has closed it
        pass
    finally:
        os.close(main)
        found = ended(pid)
    assert found == code, written
    return written.decode().replace("\r\n", "\n")


def plain(text: str) -> str:
    return _COLOUR.sub("", text)


def lines_used(text: str, columns: int = 80) -> int:
    """How many lines of a terminal a text takes, with those that the terminal breaks."""
    return sum(max(-(-len(line) // columns), 1) for line in plain(text).splitlines())
