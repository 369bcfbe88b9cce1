"""`python -m mem_profiler.tracking.beside PID`: the process beside a tracked one.

It forks at once, and the first process ends: so the program waits for no import of ours, and the
process is nobody's child.
"""

from __future__ import annotations

import json
import os
import sys

if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    try:
        from mem_profiler.inprocess.server import Server
    except ImportError as error:
        text = f"{sys.executable} cannot run mem_profiler: {error}"
        hint = "MEM_PROFILER_PYTHON names a Python that has it"
        os.write(1, json.dumps({"error": text, "hint": hint}).encode() + b"\n")
        sys.exit(1)
    Server(int(sys.argv[1])).serve()
