"""`python -m mem_profiler.helper KIND TARGET CLIENT`: the helper process of a program.

It forks at once, and the first process ends: so the program does not wait for our imports, and the
helper is detached.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

SERVERS = {
    "capture": ("mem_profiler.inprocess.server", "Server"),
    "collection": ("mem_profiler.memscope.server", "CollectingServer"),
    "record": ("mem_profiler.driver_stats.server", "StatsServer"),
}


def main(kind: str, target: str, client: str) -> None:
    """Serve one process, until another one, which may be the same, ends or wants no more."""
    if os.fork():
        os._exit(0)
    from mem_parser import inherited_signals

    inherited_signals.keep()
    module, name = SERVERS[kind]
    try:
        server = getattr(importlib.import_module(module), name)
    except ImportError as error:
        text = f"{sys.executable} cannot run mem_profiler: {error}"
        hint = "MEM_PROFILER_PYTHON names a Python that has it"
        os.write(1, json.dumps({"error": text, "hint": hint}).encode() + b"\n")
        sys.exit(1)
    server(int(target)).serve(int(client))


if __name__ == "__main__":
    main(*sys.argv[1:])
