"""A running tests/targets/made_code.c, and the file in which its functions are listed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from sampler_run import Target, build, environment


class Made:
    """The program, captured from its start; the test writes the list. Use as a context manager."""

    def __init__(self, folder: Path, *prefix: str, program: Path | None = None) -> None:
        words = [*prefix, str(program or build("made_code.c"))]
        self.target = Target(words, environment(folder, rate=1))
        self.pid = self.target.pid
        self.map = Path(f"/tmp/perf-{self.pid}.map")

    def __enter__(self) -> Self:
        self.target.__enter__()
        self.addresses = [int(word, 16) for word in self.target.line().split()]
        return self

    def __exit__(self, *unused: object) -> None:
        self.target.__exit__()
        self.map.unlink(missing_ok=True)

    def allocate(self, which: int, count: int, size_bytes: int) -> None:
        assert self.target.ask(f"{which} {count} {size_bytes}") == "ok"

    def lines(self, *names: str) -> str:
        """The lines of the list that name its functions, the first ones of them."""
        pairs = zip(self.addresses, names, strict=False)
        return "".join(f"{address:x} 1000 {name}\n" for address, name in pairs)

    def list_as(self, *names: str, uid: int | None = None) -> None:
        self.map.write_text(self.lines(*names))
        if uid is not None:
            os.chown(self.map, uid, uid)
