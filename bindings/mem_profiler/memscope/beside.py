"""`python -m mem_profiler.memscope.beside PID`: the process beside that collects."""

from __future__ import annotations

from typing import Any

from mem_profiler.tracking.beside import serve_beside


def _server() -> Any:
    from mem_profiler.memscope.server import CollectingServer

    return CollectingServer


if __name__ == "__main__":
    serve_beside(_server)
