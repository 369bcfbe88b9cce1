"""`python -m mem_profiler.helper KIND TARGET GIVEN`: every process beside a program.

    kind        started by                 takes             may write
    capture     Tracker, inprocess         commands, a pipe  the files that the commands name
    collection  memscope                   commands, a pipe  dumps in the folder configured
    record      driver_stats               commands, a pipe  logs in the folder that a command names
    log         mem_profiler start         nothing           the log that GIVEN names
    record-log  mem_profiler driver-stats  nothing           logs in the folder that GIVEN names

Each captures TARGET alone, with the rights of the process that started it. Those that take commands
obey GIVEN, the process that has the pipe, and end with it; they fork at once, and the first process
ends, so that the program does not wait for our imports, and the helper is detached. The others
keep a capture until its gate is shut (`mem_profiler.capture.holder`).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

SERVERS = {
    "capture": ("mem_profiler.inprocess.server", "Server"),
    "collection": ("mem_profiler.memscope.server", "CollectingServer"),
    "record": ("mem_profiler.driver_stats.server", "StatsServer"),
}
KEEPERS = {
    "log": "mem_profiler.capture.logkeeper",
    "record-log": "mem_profiler.driver_stats.keeper",
}


def main(kind: str, target: str, given: str) -> None:
    """Serve one process, until another one, which may be the same, ends or wants no more."""
    if kind in KEEPERS:
        importlib.import_module(KEEPERS[kind]).serve(int(target), given)
        return
    if os.fork():
        os._exit(0)
    from mem_parser import inherited_signals

    inherited_signals.keep()
    _server(kind)(int(target)).serve(int(given))


def _server(kind: str) -> Any:
    """The class of a kind; where it cannot be imported, the program hears why."""
    module, name = SERVERS[kind]
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        text = f"{sys.executable} cannot run mem_profiler: {error}"
        hint = "MEM_PROFILER_PYTHON names a Python that has it"
        os.write(1, json.dumps({"error": text, "hint": hint}).encode() + b"\n")
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
