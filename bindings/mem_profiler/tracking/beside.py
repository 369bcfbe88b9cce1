"""`python -m mem_profiler.tracking.beside PID`: the process beside a tracked one.

It forks at once, and the first process ends: so the program waits for no import of ours, and the
process is nobody's child.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def serve_beside(load: Callable[[], Any]) -> None:
    """Go on in a process that is nobody's child, and serve the process of the command line with
    what ``load`` returns, a `mem_profiler.inprocess.server.Server` or one that is made of it.
    """
    if os.fork():
        os._exit(0)
    from mem_parser import inherited_signals

    inherited_signals.keep()
    try:
        server = load()
    except ImportError as error:
        text = f"{sys.executable} cannot run mem_profiler: {error}"
        hint = "MEM_PROFILER_PYTHON names a Python that has it"
        os.write(1, json.dumps({"error": text, "hint": hint}).encode() + b"\n")
        sys.exit(1)
    server(int(sys.argv[1])).serve()


def _server() -> Any:
    from mem_profiler.inprocess.server import Server

    return Server


if __name__ == "__main__":
    serve_beside(_server)
