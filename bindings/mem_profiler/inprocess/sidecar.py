"""This process's end of the pipe to the process beside it, which captures it (`server`)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mem_parser.errors import MemError
from mem_parser.heapfile.form import Form
from mem_profiler.inprocess.server import Server
from mem_profiler.segment import discovery

ANSWER_S = 60.0


class Sidecar:
    """The process beside this one. Every wait has a bound. Use as a context manager.

    After a fork two processes have the pipe: only the one that started the sidecar may use it.
    """

    def __init__(self) -> None:
        variables = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "PYTHONMALLOC")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mem_profiler.inprocess", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, *command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
            ready = select.select([self._process.stdout], [], [], ANSWER_S)[0]
            line = self._process.stdout.readline() if ready else b""
        except OSError:
            line = b""
        if not line:
            raise MemError("the process that captures this one has ended, or does not answer")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise MemError(answer["error"])
        return answer

    def start(self, rate_bytes: int, depth_limit: int | None = None) -> None:
        """Begin a capture of this process. Raises MemError."""
        self._ask("start", rate_bytes, depth_limit)

    def snapshot(self, prefix: str | Path, form: Form = Form.AUTO) -> str:
        """Write a snapshot; its path. Raises MemError."""
        return str(self._ask("snapshot", str(prefix), form)["path"])

    def stop(self, prefix: str | Path, form: Form = Form.AUTO) -> str:
        """End the capture; the path of its file. Raises MemError."""
        return str(self._ask("stop", str(prefix), form)["path"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=10)
        self._process.stdout.close()


@dataclass
class Captured:
    """A capture of this process. `path` is that of its file, once the capture is over."""

    path: str = ""


@contextlib.contextmanager
def capture(
    prefix: str | Path,
    rate_bytes: int = 1024,
    form: Form = Form.AUTO,
    depth_limit: int | None = None,
) -> Iterator[Captured]:
    """Capture this process while the block runs, and write the next file of `prefix`.

    Raises what the block raises, after writing the file. Raises MemError.
    """
    captured = Captured()
    with Sidecar() as sidecar:
        sidecar.start(rate_bytes, depth_limit)
        try:
            yield captured
        finally:
            captured.path = sidecar.stop(prefix, form)


def main() -> None:
    """Serve the process whose number is the argument."""
    pid = int(sys.argv[1])
    discovery.open_process(pid).close()
    Server(pid).serve()
