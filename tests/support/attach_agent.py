"""Targets that the sampler is put into while they run, without an injector.

Model: `attach_agent.so` is preloaded to the target. Its thread waits at a fifo for commands and
does inside what an injector has done: opens the sampler from a descriptor and calls
`mem_profiler_attach`. A target that is held begins its main only after `go`, so that a program of
a few lines can be attached to.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from elftools.elf.elffile import ELFFile

from sampler_run import SAMPLER, WAIT_S, Target, build


@dataclass(frozen=True)
class Answer:
    """What one call of mem_profiler_attach said."""

    result: int
    patched: int
    restored: int
    failed: int
    modules: int
    held: int
    kept: int
    text: str

    @classmethod
    def of(cls, line: str) -> Self:
        numbers, _, text = line.partition(": ")
        return cls(*map(int, numbers.rstrip(":").split()), text)


class Attached(Target):
    """A running program with the agent in it."""

    def __init__(
        self,
        folder: Path,
        argv: Sequence[str | Path],
        *,
        hold: bool = False,
        follow: bool = False,
        preload: Sequence[str | Path] = (),
        preload_after: Sequence[str | Path] = (),
        library: Path = SAMPLER,
        **variables: str,
    ) -> None:
        """Start it; `preload` come before the agent, `preload_after` behind it, where constructors
        run first, `variables` into its environment. `follow`: dlopen and dlsym are redirected, too.
        """
        flags = ("-shared", "-fPIC", "-Wl,-z,now")
        agent = build("attach_agent.c", *flags, out="attach_agent.so")
        paths = [folder / "agent.in", folder / "agent.out"]
        for path in paths:
            path.unlink(missing_ok=True)
            os.mkfifo(path)
        env: dict[str, Any] = {
            **os.environ,
            **variables,
            "LD_PRELOAD": " ".join(map(str, [*preload, agent, *preload_after])),
            "AGENT_LIBRARY": str(library),
            "AGENT_IN": str(paths[0]),
            "AGENT_OUT": str(paths[1]),
            "MEM_PROFILER_DIR": str(folder),
        }
        if hold:
            env["AGENT_HOLD"] = "1"
        if follow:
            env["AGENT_FOLLOW"] = "1"
        super().__init__(argv, env)
        self._in = os.open(paths[0], os.O_RDWR)
        self._out = os.open(paths[1], os.O_RDWR)

    def __exit__(self, *unused: object) -> None:
        """Kill the target, close the fifos."""
        super().__exit__(*unused)
        os.close(self._in)
        os.close(self._out)

    def command(self, line: str, wait_s: float = WAIT_S) -> str:
        """Send the agent a line and return its answer."""
        os.write(self._in, line.encode() + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            ready, _, _ = select.select([self._out], [], [], wait_s)
            if not ready:
                self._fail(f"the agent does not answer {line!r}")
            data += os.read(self._out, 65536)
        return data.decode().rstrip("\n")

    def send(self, line: str) -> None:
        """Send the agent a line that it may not live to answer."""
        os.write(self._in, line.encode() + b"\n")

    def begin(self, options: str = "") -> Answer:
        return Answer.of(self.command(f"begin {self.folder} {options}".rstrip()))

    def hand(self, plan: bytes) -> None:
        """Give the next calls a plan of entry points."""
        path = self.folder / "plan"
        path.write_bytes(plan)
        assert self.command(f"plan {path}") == "read"

    def wait_until_loaded(self) -> None:
        """Wait for the agent's first answer: the loader has then relocated the program."""
        assert self.command("plan /dev/null") == "read"

    def bias(self) -> int:
        """Where the program lies: address - address in its file."""
        self.wait_until_loaded()
        exe = os.readlink(f"/proc/{self.pid}/exe")
        lines = Path(f"/proc/{self.pid}/maps").read_text().splitlines()
        start = min(int(line.split("-")[0], 16) for line in lines if line.endswith(f" {exe}"))
        with open(exe, "rb") as file:
            loads = [s["p_vaddr"] for s in ELFFile(file).iter_segments("PT_LOAD")]
        return start - min(loads)

    def rescan(self) -> Answer:
        return Answer.of(self.command("rescan"))

    def detach(self) -> Answer:
        return Answer.of(self.command("detach"))

    def go(self) -> None:
        os.write(self._in, b"go\n")

    def slots(self) -> dict[tuple[str, str], str]:
        """Every slot: (module, offset) -> value; and (module, "relro") -> permissions."""
        path = self.folder / "slots"
        assert self.command(f"slots {path}") == "dumped"
        rows = (line.rsplit(" ", 2) for line in path.read_text().splitlines())
        return {(module, offset): value for module, offset, value in rows}
