"""Entry points of the console scripts.

Importing a command takes a few tenths of a second, in which Python would answer a Ctrl-C with a
traceback. Here it ends the process as it ends any other; later `run_command` says so in a line.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal

_NEW_OBJECTS = 100_000
"""Between two collections: what a start makes stays."""


def _run(command_module: str) -> None:
    # A thread for each processor, started by the import of numpy, takes longer than the rest of it,
    # and would keep the rights that `mem_parser` drops.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(_NEW_OBJECTS)
    handler = signal.getsignal(signal.SIGINT)
    heeded = handler is signal.default_int_handler  # a shell lets background jobs ignore it
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = importlib.import_module(f"mem_cli.{command_module}")
    if heeded:
        signal.signal(signal.SIGINT, handler)
    try:
        command.main()
    finally:
        gc.freeze()  # the interpreter's end need not look through what goes with the process


def mem_profiler() -> None:
    """Run `mem_profiler`; never returns."""
    _run("profiler.group")


def mem_parser() -> None:
    """Run `mem_parser`; never returns."""
    _run("parser.group")
