"""`python -m mem_profiler.driver_stats.beside PID`: the process beside that keeps the record."""

from __future__ import annotations

from typing import Any

from mem_profiler.tracking.beside import serve_beside


def _server() -> Any:
    from mem_profiler.driver_stats.server import StatsServer

    return StatsServer


if __name__ == "__main__":
    serve_beside(_server)
