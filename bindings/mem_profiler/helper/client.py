"""The helper process, which captures this one and writes its files.

Model: `python -m mem_profiler.helper` in a Python that has mem_profiler: the one that
MEM_PROFILER_PYTHON names, this one if it can, or that of the command `mem_profiler`. It is not a
child of this process, so no `os.wait` of the program reaps it; it notices this process's end by
itself, and imports nothing from the working folder. Commands and answers are lines of JSON through
two pipes (`mem_profiler.inprocess.server`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from typing import Any

import mem_parser
import mem_profiler
from mem_profiler.helper.errors import TrackerError

VARIABLE = "MEM_PROFILER_PYTHON"
ANSWER_S = 600.0
START_S = 60.0
LEAST_PYTHON = (3, 11)
ANSWER_MAX_BYTES = 1 << 28
_ANSWER_BYTES = 8192
_DONE = b'{"ok": true}\n'
_NOT_FOR_HELPER = ("LD_PRELOAD", "PYTHONMALLOC", "MEM_PROFILER_START", "MEM_PROFILER_START_PID")
_NEEDED = ("capstone", "cffi", "numpy", "mem_profiler._core")


def interpreter() -> str:
    """The Python of the helper. Raises TrackerError."""
    named = os.environ.get(VARIABLE)
    if named:
        if shutil.which(named) is None:
            raise TrackerError(f"{VARIABLE} names no program: {named}")
        return named
    if sys.version_info >= LEAST_PYTHON and sys.executable and all(map(_has, _NEEDED)):
        return sys.executable
    command = shutil.which("mem_profiler")
    python = command and _of_script(command)
    if python:
        return python
    raise TrackerError(
        "no Python with mem-profiler for the process that captures this one",
        f"{VARIABLE}=/path/to/python3.11 names one",
    )


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _of_script(path: str) -> str | None:
    """The interpreter in the first line of a script."""
    try:
        with open(path, "rb") as file:
            words = file.readline(512).split()
    except OSError:
        return None
    name = os.fsdecode(words[0][2:]) if words and words[0].startswith(b"#!") else ""
    return name if os.access(name, os.X_OK) else None


def environment(python: str) -> dict[str, str]:
    """The environment of that Python: without the sampler, and with this package to import."""
    variables = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_HELPER}
    roots = [
        os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__))))
        for module in (mem_profiler, mem_parser)
    ]
    if python == sys.executable:
        roots = [*filter(None, variables.get("PYTHONPATH", "").split(os.pathsep)), *roots]
    else:
        variables.pop("PYTHONHOME", None)
    variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(roots))
    return variables


class Helper:
    """The helper, from its start to `close`."""

    def __init__(self, kind: str, target: int | None = None) -> None:
        """Start one (`__main__.SERVERS`) for the process ``target``; None: for this one.

        Raises TrackerError.
        """
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._buffer = bytearray(_ANSWER_BYTES)
        python = interpreter()
        command_read, self._commands = os.pipe()
        self._answers, answer_write = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)
        try:
            starter = subprocess.Popen(
                [python, "-P", "-m", "mem_profiler.helper",
                 kind, str(target or self.pid), str(self.pid)],
                stdin=command_read, stdout=answer_write, env=environment(python),
                start_new_session=True,
            )  # fmt: skip
            starter.wait(START_S)
        except (OSError, subprocess.SubprocessError) as error:
            self._close_pipes()
            raise TrackerError(f"{python} cannot be started: {error}") from None
        finally:
            os.close(command_read)
            os.close(answer_write)
        if starter.returncode:
            self._close_pipes()
            raise TrackerError(f"{python} cannot run mem_profiler", f"set {VARIABLE}")

    def tell(self, *command: Any) -> None:
        """Send a command that has no answer. Raises TrackerError."""
        self._send(_line(command))

    def ask(self, *command: Any) -> Any:
        """Send a command and return its answer. Raises TrackerError."""
        line = _line(command)
        # From the write to the answer a capture may begin or end: as few blocks as possible then.
        with self._lock:
            try:
                self._send(line)
                size = self._receive()
            except BaseException:
                # Its answer would be taken for that of the next command.
                self.close()
                raise
            if size == len(_DONE) and self._buffer.startswith(_DONE):
                return {}
        try:
            answer = json.loads(bytes(self._buffer[:size]))
        except ValueError:
            raise TrackerError("the process that captures this one gave no answer") from None
        if "error" in answer:
            raise TrackerError(answer["error"], answer.get("hint"))
        return answer

    def _send(self, line: bytes) -> None:
        try:
            os.write(self._commands, line)
        except OSError:
            raise TrackerError("the process that captures this one has ended") from None

    def _receive(self) -> int:
        """Read an answer into the buffer, which grows for a long one; returns its size."""
        size = 0
        give_up = time.monotonic() + ANSWER_S
        while size < ANSWER_MAX_BYTES:
            left_s = give_up - time.monotonic()
            if left_s <= 0 or not self._poll.poll(left_s * 1000):
                raise TrackerError("the process that captures this one does not answer")
            if size == len(self._buffer):
                self._buffer.extend(bytes(size))
            with memoryview(self._buffer) as view, view[size:] as free:
                got = os.readv(self._answers, [free])
            size += got
            if got == 0 or self._buffer[size - 1] == ord("\n"):
                break
        return size

    def close(self) -> None:
        """Let it end."""
        self._close_pipes()

    def _close_pipes(self) -> None:
        pipes, self._commands, self._answers = (self._commands, self._answers), -1, -1
        for fd in pipes:
            with contextlib.suppress(OSError):
                os.close(fd)


def _line(command: Any) -> bytes:
    parts: list[Any] = list(command)
    return json.dumps(parts).encode() + b"\n"
