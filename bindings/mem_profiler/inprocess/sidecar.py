"""This process's end of the pipe to its sidecar, which captures it (`server`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mem_parser.errors import MemError
from mem_parser.heapfile.form import Form
from mem_profiler.helper.client import Helper
from mem_profiler.helper.errors import TrackerError, warn_of_losses
from mem_profiler.tracking.inside import Hooks


class Sidecar:
    """The sidecar of this process. Every wait has a bound. Use as a context manager.

    After a fork two processes have the pipe: only the one that started the sidecar may use it.
    """

    def __init__(self) -> None:
        """Raises MemError."""
        try:
            self._helper = Helper("capture")
            Hooks().lead_libraries(self._helper.ask)
        except TrackerError as error:
            raise MemError(error.text, hint=error.hint) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, *command: Any) -> dict[str, Any]:
        try:
            return dict(self._helper.ask(*command))
        except TrackerError as error:
            raise MemError(error.text, hint=error.hint) from None

    def start(self, rate_bytes: int, depth_limit: int | None = None) -> None:
        """Begin a capture of this process. Raises MemError."""
        self._ask("start", rate_bytes, depth_limit)

    def snapshot(self, prefix: str | Path, form: Form = Form.AUTO) -> str:
        """Write a snapshot; its path. Raises MemError."""
        return str(self._ask("snapshot", str(prefix), form)["path"])

    def stop(self, prefix: str | Path, form: Form = Form.AUTO) -> str:
        """End the capture; the path of its file. Raises MemError."""
        return str(self.end(prefix, form)["path"])

    def end(self, prefix: str | Path, form: Form = Form.AUTO) -> dict[str, Any]:
        """As `stop`; the answer (`server`). Raises MemError."""
        return self._ask("stop", str(prefix), form)

    def close(self) -> None:
        """End the process, and a capture that runs."""
        if self._helper.pid == os.getpid():
            with contextlib.suppress(MemError):  # it has ended already
                self._ask("leave")
        self._helper.close()


@dataclass
class Captured:
    """A capture of this process. `path` is that of its file, once the capture has ended."""

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
            answer = sidecar.end(prefix, form)
            captured.path = str(answer["path"])
            warn_of_losses(answer)
